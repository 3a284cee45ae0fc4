"""What a fit needs in order to go on after a crash as if there had been none."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_warn

from modules.checkpoints import is_sharded, read_shards
from promptcot.ranks import on_rank_0
from promptcot.store import check_settings, read_json, write_json

FOLDER = "progress"
POINTER = "latest.json"
DECIDING = (
    "precision",
    "gradient_clip_val",
    "gradient_clip_algorithm",
    "max_epochs",
    "max_steps",
    "limit_train_batches",
)
"""Settings of the trainer that a resumed fit must share. Devices, micro-batches of a step and the
strategy may change, but for DeepSpeed, whose checkpoints are its own."""
INDIFFERENT = ("gradient_checkpointing", "torch_compile")
"""Arguments of a module that a resumed fit need not share: they change memory and speed, and a
result by rounding at most."""
MICRO_BATCHES = "micro_batches_of_a_step"
"""Name of their number in a checkpoint."""
DEAR = 0.5
"""Share of a fit's time from which saving is worth a warning."""
NUM_JUDGED = 5
"""Checkpoints after which that share is judged."""


class StraightToFile(TorchCheckpointIO):
    """Writes a checkpoint to a file and renames it when it is whole.

    Lightning's own first builds it in memory, which takes that much more of it and, for 1.6 GB,
    twice the time.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401
    ) -> None:
        part = Path(f"{path}.part")
        part.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.save(checkpoint, part)
            os.replace(part, path)
        except (OSError, RuntimeError) as error:  # torch's own of a full disk tells of positions
            raise OSError(
                f"cannot write {path} ({error}): free some space and give the same command again; "
                "what was saved before is safe"
            ) from error

    def load_checkpoint(
        self,
        path: str | Path,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, Any]:
        """Also of shards, where the fit had another strategy."""
        if is_sharded(Path(path)):
            return read_shards(Path(path), kwargs.get("weights_only"))
        return dict(super().load_checkpoint(path, *args, **kwargs))


class SaveProgress(Checkpoint):
    """Saves weights, optimizer and place in the data, and lets the same command go on from there.

    A checkpoint has a name of its own; a small file that is replaced whole points to the latest,
    so one that a crash cut off is never read. When the fit is over they are removed.

    Each epoch's end is saved, and the steps between by one of these:

    Args:
        every_n_steps: Optimizer steps between two checkpoints. With 1, a crash costs the step that
            was at work, however long saving takes; a warning says where that is most of the time.
        max_share: Where ``every_n_steps`` is null: of the fit's time, that saving may take. Steps
            are saved as often as that allows: of a small model all of them; where a checkpoint
            takes half a minute, one in ten minutes. Epochs' ends count, and are saved all the same.
            In (0, 1].
    """

    def __init__(self, every_n_steps: int | None = None, max_share: float = 0.05) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"every_n_steps={every_n_steps}: at least 1 step must lie between")
        if not 0 < max_share <= 1:
            raise ValueError(f"max_share={max_share}: give a share of the time, in (0, 1]")
        self.every_n_steps = every_n_steps
        self.max_share = max_share
        self.settings: dict[str, Any] = {}
        self._started = 0.0
        self._saving_s = 0.0
        self._last_s = 0.0
        """What the last checkpoint took, and the next one may."""
        self._num_saved = 0
        self._latest = ""
        """Name of the checkpoint that is pointed to."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if trainer.num_nodes > 1:
            _check_disk(trainer)
        # sharded strategies have ways of their own
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = StraightToFile()
        folder = Path(trainer.default_root_dir) / FOLDER
        if stage == "fit" and trainer.is_global_zero and folder.exists():
            # what a crash cut off must not be in the way of a checkpoint that is called the same
            pointer = folder / POINTER
            _remove_others(folder, read_json(pointer)["checkpoint"] if pointer.exists() else "")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        # Where max_steps is set and a fit goes on from an epoch's end, Lightning ends that epoch
        # once more, and would count it twice: max_epochs would come an epoch early.
        progress: Any = trainer.fit_loop.epoch_progress
        for epochs in (progress.current, progress.total):
            epochs.processed = epochs.completed

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        checkpoint[MICRO_BATCHES] = trainer.accumulate_grad_batches

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        before = checkpoint.get(MICRO_BATCHES, trainer.accumulate_grad_batches)
        _recount(checkpoint["loops"]["fit_loop"], before, trainer.accumulate_grad_batches)

    def resume(self, root: Path, config: Mapping[str, Any]) -> Path | None:
        """The checkpoint of an interrupted fit in ``root``; None where there is none.

        Args:
            root: The trainer's ``default_root_dir``.
            config: The fit's whole configuration.

        Raises:
            ValueError: The interrupted fit had other settings.
        """
        self.settings = _deciding(config)
        pointer = root / FOLDER / POINTER
        if not pointer.exists():
            return None
        latest = read_json(pointer)
        check_settings(pointer.parent, _without_indifferent(latest["settings"]), self.settings)
        self._latest = str(latest["checkpoint"])
        return pointer.parent / self._latest

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not trainer.is_last_batch and self._is_due(trainer):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._latest = ""
        # a checkpoint callback comes last: the weights are exported
        if trainer.is_global_zero and not _is_trial(trainer):
            folder = Path(trainer.default_root_dir) / FOLDER
            (folder / POINTER).unlink(missing_ok=True)  # first: it must name no half of a file
            shutil.rmtree(folder, ignore_errors=True)

    def _is_due(self, trainer: Trainer) -> bool:
        """Whether a step is saved, the same on every rank."""
        if self.every_n_steps is not None:
            return trainer.global_step % self.every_n_steps == 0
        passed = time.monotonic() - self._started + self._last_s
        is_due = self._saving_s + self._last_s <= self.max_share * passed
        return bool(trainer.strategy.broadcast(is_due))

    def _save(self, trainer: Trainer) -> None:
        if _is_trial(trainer):
            return
        folder = Path(trainer.default_root_dir) / FOLDER
        started = time.monotonic()
        name = f"epoch-{trainer.current_epoch}-step-{trainer.global_step}.ckpt"
        if name == self._latest:  # an epoch that is ended once more: it must stay whole
            return
        trainer.save_checkpoint(folder / name)  # every rank, and returns when all are done
        pointer = {"checkpoint": name, "settings": self.settings}

        def point() -> None:
            write_json(folder / POINTER, pointer)
            _remove_others(folder, name)

        on_rank_0("progress was not saved", point)
        self._latest = name
        self._count(started)

    def _count(self, started: float) -> None:
        now = time.monotonic()
        self._last_s = now - started
        self._saving_s += self._last_s
        self._num_saved += 1
        share = self._saving_s / (now - self._started)
        if self.every_n_steps is not None and self._num_saved == NUM_JUDGED and share > DEAR:
            rank_zero_warn(
                f"{share:.0%} of the time goes into saving progress: raise SaveProgress's "
                f"every_n_steps above {self.every_n_steps}, at the price of so many steps to be "
                "repeated after a crash, or leave it out, and time decides"
            )


def _is_trial(trainer: Trainer) -> bool:
    """Whether nothing may be left behind (``fast_dev_run``), nor what is there be touched."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _remove_others(folder: Path, name: str) -> None:
    """Remove checkpoints but the named one, also parts that a crash cut off."""
    for path in folder.glob("*.ckpt*"):
        if path.name != name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _check_disk(trainer: Trainer) -> None:
    """Refuse nodes that would each have a part of the checkpoints. Every rank must call this.

    Raises:
        ValueError: Of every rank, where one does not see a file that rank 0 wrote.
    """
    root = Path(trainer.default_root_dir)
    path = root / f".{trainer.strategy.broadcast(uuid4().hex)}"
    if trainer.is_global_zero:
        root.mkdir(parents=True, exist_ok=True)
        path.touch()
    trainer.strategy.barrier("a file is written")
    is_seen = trainer.strategy.reduce_boolean_decision(path.exists())
    if trainer.is_global_zero:
        path.unlink()
    if not is_seen:
        raise ValueError(
            f"not every node sees what the first one writes to {root}: give "
            "--trainer.default_root_dir a folder on a disk that all of them share"
        )


def _recount(progress: dict[str, Any], before: int, now: int) -> None:
    """Count the batches that were taken in micro-batches of another size.

    Args:
        progress: Of a fit, between two steps.
        before: Micro-batches of a step when it was saved.
        now: And from here on.
    """
    if before == now:
        return
    batches = progress["epoch_loop.batch_progress"]
    for counts in (batches["total"], batches["current"]):
        ready = counts["ready"]
        for name, count in counts.items():  # Lightning completes a batch once it is saved
            counts[name] = ready // before * now - (ready - count)


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    trainer = config["trainer"]
    chosen = {name: config[name] for name in ("seed_everything", "model", "data")}
    plain = {**chosen, "trainer": {name: trainer.get(name) for name in DECIDING}}
    return _without_indifferent(json.loads(json.dumps(plain, default=str)))


def _without_indifferent(settings: Mapping[str, Any]) -> dict[str, Any]:
    model = dict(settings["model"])
    if isinstance(given := model.get("init_args"), Mapping):
        kept = {name: value for name, value in given.items() if name not in INDIFFERENT}
        model["init_args"] = kept
    return {**settings, "model": model}
