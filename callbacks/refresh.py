"""A round of training data made inside a fit, by the policy as it is then."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from callbacks.export import export_weights
from callbacks.probes import trainer_probes
from callbacks.served_base import serve_rounded_base
from callbacks.tables import markdown_table
from datamodules.figures import log_figures
from promptcot.engines import EngineKeeper
from promptcot.freshness import MAX_DIFFERENCE, Probe, write_probes
from promptcot.overlap import words
from promptcot.ranks import on_rank_0
from promptcot.recipes.making import PolicyRecipe, make_round
from promptcot.stage_rows import Row
from promptcot.store import MANIFEST, ROWS, check_settings, read_manifest, read_round

FOLDER = "rounds"


@runtime_checkable
class RoundWatcher(Protocol):
    """A callback that takes part in the making of rounds."""

    def adapt(self, recipe: PolicyRecipe, rounds: Path, number: int) -> PolicyRecipe:
        """The recipe that is to make the round, on rank 0, before it is made.

        Asked again after a crash it must give the same.

        Args:
            recipe: As it was configured, or as the watcher before this one gave it.
            rounds: Folder of all rounds.
            number: Of the round.
        """
        ...

    def observe(self, trainer: Trainer, folder: Path, weights: Path, number: int) -> None:
        """Look at a round that is whole, before each epoch that trains on it, on every rank.

        Args:
            trainer: Before its next epoch; setting ``should_stop`` ends the fit.
            folder: Of the round.
            weights: Folder of the weights that made it, which rank 0 may take away; afterwards it
                is removed, and it is gone already where this was called before.
            number: Of the round.
        """
        ...


class RefreshTrainingSet(Callback):
    """Every k epochs lets a recipe make a round with the current weights, and trains on it.

    The data module asks for the round of its epoch when the trainer loads its data: before the
    first epoch, and between two, after their progress has been saved. A round that is whole is
    taken as it is, so a resumed fit trains on what its epoch had; one that a crash cut off goes on.

    The exported folder holds probes: a few sequences with the trainer's log-probabilities. Whoever
    opens an engine on it has the engine score them too, and an engine that does not have these
    weights, or still has those of the round before, ends the fit.

    Rank 0 makes the round; the others wait, however long it takes, and learn of its failure. On
    several nodes the trainer's ``default_root_dir`` must lie on a disk that all of them see.

    Other callbacks of the trainer take part where they are a ``RoundWatcher``.

    Logs, for each round, the figures of its manifest as ``round/...``, the seconds of its export,
    its probes and its making, and a table of its best and worst rows.

    Args:
        recipe: What to make; it is given the exported weights and the number of the round.
        every_n_epochs: Epochs that train on one round.
        max_difference: Nats a token by which engine and trainer may differ on the probes.
        shown: Rows of the table.
        timeout: Longest time that the other ranks wait for a round.
    """

    def __init__(
        self,
        recipe: PolicyRecipe,
        every_n_epochs: int = 1,
        max_difference: float = MAX_DIFFERENCE,
        shown: int = 4,
        timeout: timedelta = timedelta(hours=24),
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs={every_n_epochs}: a round lasts at least 1 epoch")
        self.recipe = recipe
        self.every_n_epochs = every_n_epochs
        self.max_difference = max_difference
        self.shown = shown
        self.timeout = timeout
        self.seconds = 0.0
        """Of this process, spent on rounds so far."""
        self._probes: list[Probe] = []
        self._group: dist.ProcessGroup | None = None
        self._checked = -1
        """The last round that is known to be of this fit."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._checked = -1
        period: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if period != 1:
            raise ValueError(
                "RefreshTrainingSet gives the trainer new data between epochs, but "
                f"trainer.reload_dataloaders_every_n_epochs is {period}: set it to 1"
            )
        if trainer.world_size > 1 and self._group is None:
            # The trainer's own group gives up after half an hour; no collective of it is pending.
            self._group = dist.new_group(backend="gloo", timeout=self.timeout)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: all that decides the rows of a round but its policy."""
        return {"every_n_epochs": self.every_n_epochs, "recipe": self._deciding}

    @cached_property
    def _deciding(self) -> Row:
        """Settings of the recipe, made once, for a corpus may take a while to read."""
        settings = self.recipe.of_policy("policy", 0).settings()
        return dict(json.loads(json.dumps(settings, default=str)))

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Refuse to go on with rounds made in another way.

        Raises:
            ValueError: Names the setting, both values and the cure.
        """
        check_settings(Path("the interrupted fit"), state_dict, self.state_dict())

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        engine = getattr(self.recipe, "engine", None)
        if isinstance(engine, EngineKeeper):
            engine.close()

    def round_folder(self, trainer: Trainer) -> Path:
        """The round of the trainer's epoch, made if it is not there. Every rank must call this.

        Raises:
            RuntimeError: It could not be made, or is there and another policy or recipe made it;
                every rank tells why.
        """
        number = trainer.current_epoch // self.every_n_epochs
        folder = Path(trainer.default_root_dir) / FOLDER / f"round-{number}"
        weights = folder.with_name(f"weights-{number}")
        if not trainer.strategy.broadcast((folder / MANIFEST).exists()):
            start = time.perf_counter()
            export_weights(trainer, trainer.lightning_module, weights)
            exported = time.perf_counter()
            probes = self.recipe.probes()
            self._probes = trainer_probes(trainer, probes, str(weights), self._probes)
            probed = time.perf_counter()
            self._make(trainer, number, folder, weights)
            made = time.perf_counter()
            self.seconds += made - start
            parts = {"export_s": exported - start, "probe_s": probed - exported}
            self._report(trainer, folder, {"number": number, **parts, "make_s": made - probed})
        elif number > self._checked and (trainer.ckpt_path is None or self._checked >= 0):
            # that of a checkpoint is of its fit, and its policy may have moved on since
            self._check(trainer, number, folder)
        self._checked = number
        for watcher in _watchers(trainer):
            watcher.observe(trainer, folder, weights, number)
        if trainer.is_global_zero:  # also those of a round that was whole when a crash came
            shutil.rmtree(weights, ignore_errors=True)
        return folder

    def _check(self, trainer: Trainer, number: int, folder: Path) -> None:
        """Refuse a round that is there and that this policy and recipe would not have made."""
        weights = folder.with_name(f"checked-{number}")
        try:
            export_weights(trainer, trainer.lightning_module, weights)
            self._make(trainer, number, folder, weights)  # finds it whole and compares settings
        finally:
            if trainer.is_global_zero:
                shutil.rmtree(weights, ignore_errors=True)

    def _make(self, trainer: Trainer, number: int, folder: Path, weights: Path) -> None:
        def make() -> None:
            serve_rounded_base(trainer, weights, folder.with_name("base"))
            if self._probes:
                write_probes(weights, self._probes, self.max_difference)
            recipe = self.recipe
            for watcher in _watchers(trainer):
                recipe = watcher.adapt(recipe, folder.parent, number)
            make_round(recipe.of_policy(str(weights), number), folder)

        on_rank_0(f"round {number} of the training set was not made", make, self._group)

    def _report(self, trainer: Trainer, folder: Path, figures: Row) -> None:
        if not trainer.is_global_zero or not trainer.loggers:
            return
        manifest = read_manifest(folder)
        dropped = {f"dropped_{_name(why)}": count for why, count in manifest["dropped"].items()}
        rows = {"rows": manifest["rows"][ROWS]}
        log_figures(trainer, "round", {**figures, **rows, **manifest["figures"], **dropped})
        table = markdown_table(_best_and_worst(read_round(folder), self.shown))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_text("round/rows", table, trainer.global_step)


def _watchers(trainer: Trainer) -> list[RoundWatcher]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, RoundWatcher)]


def _best_and_worst(rows: Sequence[Row], count: int) -> list[Row]:
    """Up to ``count`` rows from both ends of the order of rewards; without rewards, the first."""
    ordered = sorted(rows, key=lambda row: -(row.get("reward") or 0.0))
    if len(ordered) <= count:
        return ordered
    best = -(-count // 2)
    return [*ordered[:best], *ordered[len(ordered) - (count - best) :]]


def _name(reason: str) -> str:
    """A reason in words as the name of a number."""
    return "_".join(words(reason))
