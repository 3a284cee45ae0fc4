"""Evaluation: how many problems does a policy solve?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from promptcot.attempts import attempt_figures
from promptcot.metrics import pass_at_k, share_interval
from promptcot.protocols import Sampling
from promptcot.recipes.attempting import Attempting
from promptcot.store import ROWS, Round


class Solved(NamedTuple):
    """How many of the attempts at a problem passed."""

    passed: int
    attempts: int


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Evaluate(Attempting):
    """Samples n solutions of each problem and tells pass@1 and pass@n, with 95 % intervals.

    A row is a problem with the number of its attempts that passed. Intervals are over problems,
    by bootstrap, or exact where all problems are solved equally often; an attempt about which the
    verifier cannot decide, or that is malformed or cut off, did not pass.

    Args:
        sampling: Of the policy.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(n=4, temperature=1.0))

    def settings(self) -> dict[str, Any]:
        return {"recipe": "evaluate", **super().settings()}

    def make(self, making: Round) -> None:
        problems, attempted = self._attempts(making)
        every: list[Solved] = []
        by_level: dict[str, list[Solved]] = {}
        for key, attempts in attempted.items():
            solved = Solved(sum(attempt.passed for attempt in attempts), len(attempts))
            making.append(ROWS, key, {**problems[key].to_row(), **solved._asdict()})
            every.append(solved)
            by_level.setdefault(problems[key].level, []).append(solved)
        making.figures = {
            **pass_figures(every, self.sampling.n),
            "by_level": {
                level: pass_figures(some, self.sampling.n)
                for level, some in sorted(by_level.items())
            },
            **attempt_figures(attempted.values()),
        }


def pass_figures(solved: Sequence[Solved], n: int) -> dict[str, Any]:
    """pass@1 and, of several attempts, pass@n: means over problems and their intervals."""
    found: dict[str, Any] = {}
    for k in sorted({1, n}) if solved else ():
        values = [pass_at_k(attempts, passed, k) for passed, attempts in solved]
        low, high = share_interval(values)
        name = f"pass_at_{k}"
        found |= {name: fmean(values), f"{name}_low": low, f"{name}_high": high}
    return found
