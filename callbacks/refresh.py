"""A round of training data made inside a fit, by the policy as it is then."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.export import export_weights
from promptcot.engines import EngineKeeper
from promptcot.recipes.making import PolicyRecipe, make_round
from promptcot.store import MANIFEST

FOLDER = "rounds"


class RefreshTrainingSet(Callback):
    """Every k epochs lets a recipe make a round with the current weights, and trains on it.

    The data module asks for the round of its epoch when the trainer loads its data: before the
    first epoch, and between two, after their progress has been saved. A round that is whole is
    taken as it is, so a resumed fit trains on what its epoch had; one that a crash cut off goes on.

    Rank 0 makes the round; the others wait, however long it takes, and learn of its failure. On
    several nodes the trainer's ``default_root_dir`` must lie on a disk that all of them see.

    Args:
        recipe: What to make; it is given the exported weights and the number of the round.
        every_n_epochs: Epochs that train on one round.
        timeout: Longest time that the other ranks wait for a round.
    """

    def __init__(
        self,
        recipe: PolicyRecipe,
        every_n_epochs: int = 1,
        timeout: timedelta = timedelta(hours=24),
    ) -> None:
        if every_n_epochs < 1:
            raise ValueError(f"every_n_epochs={every_n_epochs}: a round lasts at least 1 epoch")
        self.recipe = recipe
        self.every_n_epochs = every_n_epochs
        self.timeout = timeout
        self._group: dist.ProcessGroup | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        period: int = trainer.reload_dataloaders_every_n_epochs  # type: ignore[attr-defined]
        if period != 1:
            raise ValueError(
                "RefreshTrainingSet gives the trainer new data between epochs, but "
                f"trainer.reload_dataloaders_every_n_epochs is {period}: set it to 1"
            )
        if trainer.world_size > 1 and self._group is None:
            # The trainer's own group gives up after half an hour; no collective of it is pending.
            self._group = dist.new_group(backend="gloo", timeout=self.timeout)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        engine = getattr(self.recipe, "engine", None)
        if isinstance(engine, EngineKeeper):
            engine.close()

    def round_folder(self, trainer: Trainer) -> Path:
        """The round of the trainer's epoch, made if it is not there. Every rank must call this.

        Raises:
            RuntimeError: It could not be made; every rank tells why.
        """
        number = trainer.current_epoch // self.every_n_epochs
        folder = Path(trainer.default_root_dir) / FOLDER / f"round-{number}"
        weights = folder.with_name(f"weights-{number}")
        if not trainer.strategy.broadcast((folder / MANIFEST).exists()):
            export_weights(trainer, trainer.lightning_module, weights)
            self._make(trainer, number, folder, weights)
        if trainer.is_global_zero:  # also those of a round that was whole when a crash came
            shutil.rmtree(weights, ignore_errors=True)
        return folder

    def _make(self, trainer: Trainer, number: int, folder: Path, weights: Path) -> None:
        failure = [""]
        cause: Exception | None = None
        if trainer.is_global_zero:
            try:
                make_round(self.recipe.of_policy(str(weights), number), folder)
            except Exception as error:
                failure, cause = [f"{type(error).__name__}: {error}"], error
        if self._group is not None:  # the others wait for this, and must learn of a failure
            dist.broadcast_object_list(failure, src=0, group=self._group)
        if failure[0]:
            raise RuntimeError(
                f"round {number} of the training set was not made: {failure[0]}"
            ) from cause
