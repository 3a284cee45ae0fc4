"""Where a run stands: its two models after a round and their held-out rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from promptcot.figures import Row


@dataclass(frozen=True, slots=True)
class Point:
    """The two models at one time, and what they were worth on the held-out problems."""

    round: int
    """0 after the cold start."""
    rationale_model: str
    prompt_model: str
    rows: Sequence[Row]

    @property
    def name(self) -> str:
        """In words."""
        return f"round {self.round}" if self.round else "the cold start"

    @property
    def bounded(self) -> int:
        """Problems that have a bound."""
        return sum(row["bound"] is not None for row in self.rows)

    @property
    def worth(self) -> tuple[int, float]:
        """What to choose by: a bound of more problems first, then the larger one."""
        return self.bounded, self.bound

    @property
    def bound(self) -> float:
        """Mean held-out bound in nats per problem; minus infinity where no problem has one."""
        bounds = [row["bound"] for row in self.rows if row["bound"] is not None]
        return fmean(bounds) if bounds else -math.inf
