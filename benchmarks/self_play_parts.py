"""What the arms of the self-play experiment add to the project: two recipes and a callback.

A YAML file names them as ``benchmarks.self_play_parts.…``, with the repository on the path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.export import export_weights
from promptcot.attempts import Attempt
from promptcot.fingerprints import fingerprint
from promptcot.recipes import SelfPlay
from promptcot.recipes.asking import seed_of
from promptcot.records import Problem
from promptcot.store import ROWS, Round, Row

KEPT = "kept"


class Rewriting:
    """A round whose pairs are written in another form; all else passes as it is."""

    def __init__(self, making: Round, seed: int) -> None:
        self.making, self.seed = making, seed

    def append(self, stage: str, key: str, row: Mapping[str, Any]) -> None:
        """Write a row."""
        if stage == ROWS:
            key, row = self.rewritten(key, dict(row))
        self.making.append(stage, key, row)

    def drop(self, key: str, reason: str, **details: Any) -> None:  # noqa: ANN401
        """Leave a row out."""
        self.making.drop(key, reason, **details)

    def rewritten(self, key: str, row: Row) -> tuple[str, Row]:
        """Key and row of a pair in the other form."""
        raise NotImplementedError


class ByCoin(Rewriting):
    """Chosen and rejected change places where a coin, one for each pair, says so."""

    def rewritten(self, key: str, row: Row) -> tuple[str, Row]:
        if Random(seed_of(self.seed, "coin", key)).random() < 1 / 2:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        return key, row


class RightOnly(Rewriting):
    """The chosen solution alone, each text of a problem once."""

    def rewritten(self, key: str, row: Row) -> tuple[str, Row]:
        del row["rejected"]
        row["solution"] = row.pop("chosen")
        return f"{row['problem_key']}-{fingerprint(row['solution']['text'])}", row


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class ShuffledSelfPlay(SelfPlay):
    """Self-play's pairs, but which of two solutions is chosen is drawn by lot."""

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "recipe": "shuffled_self_play"}

    def _keep_pairs(
        self, making: Round, key: str, problem: Problem, attempts: Sequence[Attempt]
    ) -> None:
        super()._keep_pairs(ByCoin(making, self.seed), key, problem, attempts)


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class RightSolutions(SelfPlay):
    """The right solutions in self-play's pairs, to be learnt by supervised fine-tuning."""

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "recipe": "right_solutions"}

    def _keep_pairs(
        self, making: Round, key: str, problem: Problem, attempts: Sequence[Attempt]
    ) -> None:
        super()._keep_pairs(RightOnly(making, self.seed), key, problem, attempts)


class KeepWeights(Callback):
    """Writes ``<default_root_dir>/kept/round-N``, the weights after N rounds, but for the last.

    Args:
        every_n_epochs: Of the refresh.
    """

    def __init__(self, every_n_epochs: int = 1) -> None:
        self.every_n_epochs = every_n_epochs

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        number, epochs = divmod(trainer.current_epoch, self.every_n_epochs)
        folder = Path(trainer.default_root_dir) / KEPT / f"round-{number}"
        if number and not epochs and not trainer.strategy.broadcast(folder.exists()):
            folder.parent.mkdir(parents=True, exist_ok=True)
            export_weights(trainer, pl_module, folder)
