"""What a model pair is worth on held-out problems: figures of rows. Pure functions.

A row is one held-out problem as ``HeldOut`` writes it; all log-probabilities are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from promptcot.metrics import mean_interval, standard_error

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over held-out problems; "per problem" in nats, "per token" divides sums by tokens.

    A mean goes over the problems that have the figure, and is None where none has.
    """

    problems: int
    bound: float | None
    """Importance-weighted lower bound of log p(x | c), per problem that has one."""
    bound_error: float | None
    """Its standard error over problems; None for a single one."""
    bound_per_token: float | None
    bounded: int
    """Problems that have a bound: at least one of q's samples has a weight."""
    effective_samples: float
    """Of the K that the bound weighs."""
    log_problem: float | None
    """log p(x | z, c) under q's greedy z, per problem."""
    log_problem_per_token: float | None
    log_rationale: float | None
    """log p(z | c) of that z, per problem."""
    log_rationale_per_token: float | None
    own_log_problem: float | None
    """log p(x | c, z) under p's own z, per problem for which p wrote one that parses."""
    own_log_problem_per_token: float | None
    own_rationales: int
    """Problems for which p did."""
    overlap: float
    """Share of the problem's 4-grams that stand in q's greedy z: the leak."""
    longest_run: float
    """Longest run of words that both share, the mean."""
    rationale_tokens: float | None
    parse_rate: float
    """Of q's greedy rationales."""
    compose_parse_rate: float
    """Of what p writes for the held-out concepts."""

    def to_row(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def held_out_figures(rows: Sequence[Row]) -> Figures:
    """The figures of one evaluation."""
    bounds = [row["bound"] for row in rows if row["bound"] is not None]
    error = standard_error(bounds) if len(bounds) > 1 else None
    return Figures(
        problems=len(rows),
        bound=_mean(rows, "bound"),
        bound_error=error,
        bound_per_token=_per_token(rows, "bound", "problem_tokens"),
        bounded=len(bounds),
        effective_samples=fmean(row["effective_samples"] for row in rows),
        log_problem=_mean(rows, "log_problem"),
        log_problem_per_token=_per_token(rows, "log_problem", "problem_tokens"),
        log_rationale=_mean(rows, "log_rationale"),
        log_rationale_per_token=_per_token(rows, "log_rationale", "rationale_tokens"),
        own_log_problem=_mean(rows, "own_log_problem"),
        own_log_problem_per_token=_per_token(rows, "own_log_problem", "problem_tokens"),
        own_rationales=sum(row["own_log_problem"] is not None for row in rows),
        overlap=fmean(row["overlap"] for row in rows),
        longest_run=fmean(row["longest_run"] for row in rows),
        rationale_tokens=_mean(rows, "rationale_tokens"),
        parse_rate=fmean(row["flaw"] is None for row in rows),
        compose_parse_rate=fmean(row["compose_flaw"] is None for row in rows),
    )


def improvement(
    before: Sequence[Row], after: Sequence[Row]
) -> tuple[float, tuple[float, float]] | None:
    """Mean gain of the bound in nats per problem and its 95 % interval, paired, by bootstrap.

    Pairing by problem takes out how hard each problem is, which varies far more than the gain.

    Returns:
        None where no problem has a bound in both.

    Raises:
        ValueError: The two evaluations are not of the same problems.
    """
    old = {row["id"]: row["bound"] for row in before}
    new = {row["id"]: row["bound"] for row in after}
    if old.keys() != new.keys():
        raise ValueError("the two evaluations hold out different problems: they cannot be compared")
    gains = [new[name] - old[name] for name in compared(before, after)]
    return (fmean(gains), mean_interval(gains)) if gains else None


def compared(before: Sequence[Row], after: Sequence[Row]) -> list[str]:
    """Names of the problems that have a bound in both evaluations."""
    bounded = [{row["id"] for row in rows if row["bound"] is not None} for rows in (before, after)]
    return sorted(bounded[0] & bounded[1])


def _mean(rows: Sequence[Row], name: str) -> float | None:
    values = [row[name] for row in rows if row[name] is not None]
    return fmean(values) if values else None


def _per_token(rows: Sequence[Row], name: str, tokens: str) -> float | None:
    having = [row for row in rows if row[name] is not None]
    if not having:
        return None
    return math.fsum(row[name] for row in having) / math.fsum(row[tokens] for row in having)
