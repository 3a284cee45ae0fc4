"""What a model pair is worth on held-out problems: figures of rows. Pure functions.

A row is one held-out problem as ``HeldOut`` writes it; all log-probabilities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from promptcot.metrics import bootstrap_interval, standard_error

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over held-out problems; "per problem" in nats, "per token" divides sums by tokens."""

    problems: int
    bound: float
    """Importance-weighted lower bound of log p(x | c), per problem."""
    bound_error: float
    """Its standard error over problems."""
    bound_per_token: float
    effective_samples: float
    """Of the K that the bound weighs."""
    log_problem: float
    """log p(x | z, c) under q's greedy z, per problem."""
    log_problem_per_token: float
    log_rationale: float
    """log p(z | c) of that z, per problem."""
    log_rationale_per_token: float
    own_log_problem: float | None
    """log p(x | c, z) under p's own z, per problem that has one; None where none has."""
    own_log_problem_per_token: float | None
    own_rationales: int
    """Problems for which p wrote a rationale of its own that parses."""
    overlap: float
    """Share of the problem's 4-grams that stand in q's greedy z: the leak."""
    longest_run: float
    """Longest run of words that both share, the mean."""
    rationale_tokens: float
    parse_rate: float
    """Of q's greedy rationales."""
    compose_parse_rate: float
    """Of what p writes for the held-out concepts."""

    def to_row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def held_out_figures(rows: Sequence[Row]) -> Figures:
    """The figures of one evaluation."""
    bounds = [row["bound"] for row in rows]
    tokens = sum(row["problem_tokens"] for row in rows)
    own = [row for row in rows if row["own_log_problem"] is not None]
    own_sum = math.fsum(row["own_log_problem"] for row in own)
    return Figures(
        problems=len(rows),
        bound=fmean(bounds),
        bound_error=standard_error(bounds),
        bound_per_token=math.fsum(bounds) / tokens,
        effective_samples=_mean(rows, "effective_samples"),
        log_problem=_mean(rows, "log_problem"),
        log_problem_per_token=_sum(rows, "log_problem") / tokens,
        log_rationale=_mean(rows, "log_rationale"),
        log_rationale_per_token=_sum(rows, "log_rationale") / _sum(rows, "rationale_tokens"),
        own_log_problem=own_sum / len(own) if own else None,
        own_log_problem_per_token=own_sum / _sum(own, "problem_tokens") if own else None,
        own_rationales=len(own),
        overlap=_mean(rows, "overlap"),
        longest_run=_mean(rows, "longest_run"),
        rationale_tokens=_mean(rows, "rationale_tokens"),
        parse_rate=fmean(row["flaw"] is None for row in rows),
        compose_parse_rate=fmean(row["compose_flaw"] is None for row in rows),
    )


def improvement(before: Sequence[Row], after: Sequence[Row]) -> tuple[float, tuple[float, float]]:
    """Mean gain of the bound in nats per problem and its 95 % bootstrap interval, paired.

    Pairing by problem takes out how hard each problem is, which varies far more than the gain.

    Raises:
        ValueError: The two evaluations are not of the same problems.
    """
    old = {row["id"]: row["bound"] for row in before}
    new = {row["id"]: row["bound"] for row in after}
    if old.keys() != new.keys():
        raise ValueError("the two evaluations hold out different problems: they cannot be compared")
    gains = [new[name] - old[name] for name in sorted(old)]
    return fmean(gains), bootstrap_interval(gains)


def _mean(rows: Sequence[Row], name: str) -> float:
    return fmean(row[name] for row in rows)


def _sum(rows: Sequence[Row], name: str) -> float:
    return math.fsum(row[name] for row in rows)
