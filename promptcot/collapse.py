"""Signs that self-play collapses: a round of rollouts held against limits and the round before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from promptcot.metrics import standard_error

MOSTLY_SOLVED = "mostly_solved"
PASS_RATE = "pass_rate"
DISTINCT = "distinct_4"
ENTROPY = "answer_entropy"
LENGTH = "mean_tokens"
CHOSEN = "chosen_log_ratio"

SENTENCES = {
    MOSTLY_SOLVED: "more than half of the rollouts pass for {now:.1%} of the problems (limit "
    "{limit:.1%}): little is left to learn",
    PASS_RATE: "the pass rate fell from {before:.1%} to {now:.1%} (limit {points:g} points)",
    DISTINCT: "the share of distinct 4-grams fell from {before:.3f} to {now:.3f} (limit "
    "{limit:.0%} of it): the solutions become alike",
    ENTROPY: "the answers' entropy fell from {before:.3f} to {now:.3f} nats (limit {limit:.0%} of "
    "it): the answers become the same",
    LENGTH: "the rollouts' mean length went from {before:.1f} to {now:.1f} tokens (limit a factor "
    "of {limit:g})",
    CHOSEN: "the chosen solutions' log-probability fell to {below:.3f} nats a token below the "
    "reference's (limit {limit:g}): the policy unlearns what it prefers",
}
STANDARD_ERRORS = 2.0
"""Of the mean difference, that a pass rate must have fallen by to count."""
LEAST = 2
"""Problems to be compared: one value has no standard error."""


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class CollapseLimits:
    """How far a round may go before it is a sign of collapse; null for a limit not watched.

    Args:
        max_mostly_solved: Share of problems of which more than half of the rollouts pass.
        max_pass_rate_fall: Of the mean pass rate, in absolute terms: on the problems that both
            rounds asked; on all of each where they have fewer than two in common, as rounds that
            take one part of a corpus after another. A fall within two standard errors is none.
        max_distinct_fall: Of the share of distinct 4-grams, as a share of what it was.
        max_entropy_fall: Of the answers' entropy, as a share of what it was. It falls, too, where
            a policy simply gets better and agrees on the right answers, hence so wide.
        max_length_drift: Factor between the rollouts' mean lengths, either way.
        max_chosen_fall: Nats a token by which a round's training may push the chosen solutions'
            mean log-probability below the reference's.
    """

    max_mostly_solved: float | None = 0.5
    max_pass_rate_fall: float | None = 0.05
    max_distinct_fall: float | None = 0.2
    max_entropy_fall: float | None = 0.5
    max_length_drift: float | None = 1.5
    max_chosen_fall: float | None = 0.1

    def __post_init__(self) -> None:
        shares = ("max_mostly_solved", "max_pass_rate_fall", "max_distinct_fall")
        for name in (*shares, "max_entropy_fall"):
            self._check(name, 0.0, 1.0, "a share: give it in [0, 1]")
        self._check("max_length_drift", 1.0, math.inf, "a factor: give at least 1")
        self._check("max_chosen_fall", 0.0, math.inf, "how far it may fall: give at least 0")

    def _check(self, name: str, low: float, high: float, cure: str) -> None:
        value: float | None = getattr(self, name)
        if value is not None and not low <= value <= high:
            raise ValueError(f"{name}={value} is {cure}, or null not to watch it")


@dataclass(frozen=True, slots=True)
class RoundFigures:
    """What is watched of one round; whatever it does not tell is not judged.

    Args:
        figures: Of its manifest.
        pass_rates: Share of passed attempts of each problem, by its id.
        chosen_log_ratio: Nats a token, policy over reference, of the chosen solutions at the end
            of the training that led to this round's policy.
    """

    figures: Mapping[str, float] = field(default_factory=dict)
    pass_rates: Mapping[str, float] = field(default_factory=dict)
    chosen_log_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """A limit that a round is beyond; as a string, a sentence.

    Args:
        name: Of what is watched.
        now: Its value.
        before: In the round before; None where the value is judged by itself.
        limit: As ``CollapseLimits`` gives it.
    """

    name: str
    now: float
    before: float | None
    limit: float

    def __str__(self) -> str:
        values = {"now": self.now, "below": -self.now, "before": self.before}
        return SENTENCES[self.name].format(**values, limit=self.limit, points=100 * self.limit)


Judged = dict[str, Alarm | None]
"""What of a round could be judged, by name, with its alarm where it is beyond the limit."""


def judge(limits: CollapseLimits, now: RoundFigures, before: RoundFigures | None) -> Judged:
    """A round, and the round before; None where there is none to compare it with."""
    judged: Judged = {}
    solved, limit = now.figures.get(MOSTLY_SOLVED), limits.max_mostly_solved
    if solved is not None and limit is not None:
        judged[MOSTLY_SOLVED] = (
            Alarm(MOSTLY_SOLVED, solved, None, limit) if solved > limit else None
        )
    chosen, limit = now.chosen_log_ratio, limits.max_chosen_fall
    if chosen is not None and limit is not None:
        judged[CHOSEN] = Alarm(CHOSEN, chosen, None, limit) if chosen < -limit else None
    return {**judged, **(_compared(limits, now, before) if before is not None else {})}


def judge_rounds(
    limits: CollapseLimits, rounds: Sequence[RoundFigures], *, hardened: bool = False
) -> list[Judged]:
    """Every round from the first one on.

    Args:
        limits: Of all of them.
        rounds: In their order.
        hardened: After a round with an alarm the next one was made harder. It is not compared
            with the round before, for at another temperature and without the problems that were
            solved it differs by design; else each alarm would raise the next.
    """
    judged: list[Judged] = []
    for number, now in enumerate(rounds):
        is_comparable = number > 0 and not (hardened and alarms(judged[-1]))
        judged.append(judge(limits, now, rounds[number - 1] if is_comparable else None))
    return judged


def alarms(judged: Judged) -> list[Alarm]:
    """Those that are beyond their limit."""
    return [alarm for alarm in judged.values() if alarm is not None]


def _compared(limits: CollapseLimits, now: RoundFigures, before: RoundFigures) -> Judged:
    judged: Judged = {}
    rates = _comparable(now.pass_rates, before.pass_rates)
    if limits.max_pass_rate_fall is not None and rates is not None:
        judged[PASS_RATE] = _pass_rate_fall(*rates, limits.max_pass_rate_fall)
    for name, limit in (
        (DISTINCT, limits.max_distinct_fall),
        (ENTROPY, limits.max_entropy_fall),
        (LENGTH, limits.max_length_drift),
    ):
        new, old = now.figures.get(name), before.figures.get(name)
        if limit is None or new is None or not old or old < 0:  # of nothing there is no share
            continue
        is_beyond = _drift(new, old) > limit if name == LENGTH else new < (1 - limit) * old
        judged[name] = Alarm(name, new, old, limit) if is_beyond else None
    return judged


Rates = tuple[list[float], list[float], float]
"""Pass rates now and before, and the standard error of the difference of their means."""


def _comparable(now: Mapping[str, float], before: Mapping[str, float]) -> Rates | None:
    """Paired by problem where two or more are in both, else of two samples; None for too few."""
    shared = sorted(now.keys() & before.keys())
    if len(shared) >= LEAST:
        new, old = [now[name] for name in shared], [before[name] for name in shared]
        return new, old, standard_error([a - b for a, b in zip(old, new, strict=True)])
    if min(len(now), len(before)) < LEAST:
        return None
    new, old = list(now.values()), list(before.values())
    return new, old, math.hypot(standard_error(new), standard_error(old))


def _pass_rate_fall(
    new: Sequence[float], old: Sequence[float], error: float, limit: float
) -> Alarm | None:
    """Beyond the limit, and beyond what chance explains."""
    now, before = fmean(new), fmean(old)
    is_fall = before - now > limit and before - now > STANDARD_ERRORS * error
    return Alarm(PASS_RATE, now, before, limit) if is_fall else None


def _drift(new: float, old: float) -> float:
    return max(new / old, old / new) if new > 0 else math.inf
