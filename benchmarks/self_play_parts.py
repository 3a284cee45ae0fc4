"""What the arms of the self-play experiment add to the project: two recipes and a callback.

A YAML file names them as ``benchmarks.self_play_parts.…``, with the repository on the path.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.export import export_weights
from promptcot.fingerprints import fingerprint
from promptcot.recipes import SelfPlay
from promptcot.recipes.asking import seed_of
from promptcot.store import Row

KEPT = "kept"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class ShuffledSelfPlay(SelfPlay):
    """Self-play's pairs, but which of two solutions is chosen is drawn by a coin for each."""

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "recipe": "shuffled_self_play"}

    def written(self, key: str, pair: Row) -> tuple[str, Row]:
        if Random(seed_of(self.seed, "coin", key)).random() < 1 / 2:
            pair = {**pair, "chosen": pair["rejected"], "rejected": pair["chosen"]}
        return key, pair


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class RightSolutions(SelfPlay):
    """The right solutions in self-play's pairs, each text of a problem once, to learn by SFT."""

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "recipe": "right_solutions"}

    def written(self, key: str, pair: Row) -> tuple[str, Row]:
        solution = pair["chosen"]
        row = {name: value for name, value in pair.items() if name not in ("chosen", "rejected")}
        named = f"{row['problem_key']}-{fingerprint(solution['text'])}"
        return named, {**row, "solution": solution}


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
