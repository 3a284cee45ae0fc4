"""Evaluation: how many problems does a policy solve?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from promptcot.attempts import Attempt, attempt_figures
from promptcot.metrics import bootstrap_interval, pass_at_k
from promptcot.protocols import Sampling
from promptcot.recipes.attempting import Attempting
from promptcot.store import ROWS, Round


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Evaluate(Attempting):
    """Samples n solutions of each problem and tells pass@1 and pass@n, with 95 % intervals.

    A row is a problem with the number of its attempts that passed. Intervals are over problems,
    by bootstrap; an attempt about which the verifier cannot decide, or that is malformed or cut
    off, did not pass.

    Args:
        sampling: Of the policy.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(n=4, temperature=1.0))

    def settings(self) -> dict[str, Any]:
        return {"recipe": "evaluate", **super().settings()}

    def make(self, making: Round) -> None:
        problems, attempted = self._attempts(making)
        for key, attempts in attempted.items():
            passed = sum(attempt.passed for attempt in attempts)
            row = {**problems[key].to_row(), "passed": passed, "attempts": len(attempts)}
            making.append(ROWS, key, row)
        by_level: dict[str, list[Sequence[Attempt]]] = {}
        for key, attempts in attempted.items():
            by_level.setdefault(problems[key].level, []).append(attempts)
        every = list(attempted.values())
        making.figures = {
            **pass_figures(every, self.sampling.n),
            "by_level": {
                level: pass_figures(some, self.sampling.n)
                for level, some in sorted(by_level.items())
            },
            **attempt_figures(every),
        }


def pass_figures(attempted: Sequence[Sequence[Attempt]], n: int) -> dict[str, Any]:
    """pass@1 and, of several attempts, pass@n: means over problems and their intervals."""
    found: dict[str, Any] = {}
    for k in sorted({1, n}) if attempted else ():
        values = [pass_at_k(len(some), sum(a.passed for a in some), k) for some in attempted]
        low, high = bootstrap_interval(values)
        name = f"pass_at_{k}"
        found |= {name: fmean(values), f"{name}_low": low, f"{name}_high": high}
    return found
