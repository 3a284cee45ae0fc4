"""Rounds of self-play whose figures are given by their number, and fits that train on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tiny_run import FORMAT

from datamodules import RationaleDataModule
from promptcot.corpora import Corpus
from promptcot.fingerprints import weights_fingerprint
from promptcot.prompts import PromptFormat
from promptcot.protocols import ScoreRequest
from promptcot.recipes.making import PolicyRecipe, Recipe
from promptcot.records import Annotation, Domain, Problem
from promptcot.store import ROWS, Round, read_round

ATTEMPTS = 8


@dataclass(frozen=True)
class Collapsing:
    """Makes rounds with these figures.

    Args:
        passed: Of the attempts at each problem, by round.
        distinct: Share of distinct 4-grams, by round.
    """

    passed: Sequence[Sequence[int]]
    distinct: Sequence[float]
    temperature: float = 1.0
    left_out: tuple[str, ...] = ()
    policy: str = ""
    number: int = 0

    def of_policy(self, weights: str, number: int) -> Recipe:
        return replace(self, policy=weights, number=number)

    def probes(self) -> list[ScoreRequest]:
        return []

    def settings(self) -> dict[str, Any]:
        return {
            "recipe": "collapsing",
            "temperature": self.temperature,
            "left_out": list(self.left_out),
            "policy": weights_fingerprint(self.policy),
            "number": self.number,
        }

    def make(self, making: Round) -> None:
        passed = {f"p{n}": count for n, count in enumerate(self.passed[self.number])}
        asked = {name: count for name, count in passed.items() if name not in self.left_out}
        for name, count in asked.items():
            counts = {"passed": count, "failed": ATTEMPTS - count, "attempts": ATTEMPTS}
            making.append("attempts", name, {"id": name, **counts})
            problem = Problem(name, Domain.MATH, f"sum {name}?", ("c",))
            making.append(ROWS, name, Annotation(problem, f"by {count}").to_row())
        making.figures = {
            "pass_rate": sum(asked.values()) / (len(asked) * ATTEMPTS),
            "mostly_solved": sum(2 * c > ATTEMPTS for c in asked.values()) / len(asked),
            "distinct_4": self.distinct[self.number],
        }


@dataclass(frozen=True)
class Hardenable(Collapsing):
    """The same, which can be made harder."""

    def harder(self, steps: int, rounds: Sequence[Path]) -> PolicyRecipe:
        solved = [r["id"] for r in read_round(rounds[-1], "attempts") if not r["failed"]]
        return replace(self, temperature=1 + steps / 10, left_out=tuple(solved))


def data(weights: Path) -> RationaleDataModule:
    """Of the rounds that a fit makes."""
    return RationaleDataModule(str(weights), Corpus(), batch_size=2, format=PromptFormat(**FORMAT))


class Seen(Callback):
    """The epoch of each step that was trained."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.epochs.append(trainer.current_epoch)
