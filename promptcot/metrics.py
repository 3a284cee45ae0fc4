"""Figures over problems, with their uncertainty. Pure functions of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from statistics import NormalDist, fmean, stdev
from typing import Any


def importance_bound(log_joint: Sequence[float], log_proposal: Sequence[float]) -> float:
    """Lower bound in expectation of log p(x | c) from K samples z of q(z | c, x), in nats.

    log (1/K) sum_k p(z_k, x | c) / q(z_k | c, x); tighter as K grows, for any q. Samples of no
    weight (log p of minus infinity) count in K; where all are, so is the bound.

    Args:
        log_joint: log p(z_k, x | c) of each sample.
        log_proposal: log q(z_k | c, x) of each sample, as it was drawn.

    Source:
        Burda et al. 2016, arXiv:1509.00519, eq. 8.
    """
    weights = [p - q for p, q in zip(log_joint, log_proposal, strict=True)]
    return log_sum_exp(weights) - math.log(len(weights))


def effective_samples(log_joint: Sequence[float], log_proposal: Sequence[float]) -> float:
    """Kish's effective number of the K importance weights, in [1, K]; 0 where all are zero."""
    weights = [p - q for p, q in zip(log_joint, log_proposal, strict=True)]
    if max(weights) == -math.inf:
        return 0.0
    return math.exp(2 * log_sum_exp(weights) - log_sum_exp([2 * w for w in weights]))


def log_sum_exp(values: Sequence[float]) -> float:
    """Log of the sum of exponentials, without overflow."""
    largest = max(values)
    if math.isinf(largest):
        return largest
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; NaN for a single value, whose spread is unknown."""
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean, resampling the values (one a problem).

    Of few values it is too narrow: of 10 normal values, 95 % are 90 (1,000 draws).
    ``mean_interval`` is for those.
    """
    rng = Random(seed)
    means = sorted(fmean(rng.choices(values, k=len(values))) for _ in range(draws))
    tail = (1 - level) / 2
    return means[int(tail * (draws - 1))], means[math.ceil((1 - tail) * (draws - 1))]


def mean_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval of the mean, as wide for few values as Student's t has it.

    Both ends of the percentile interval are moved away from the mean by the factor between t with
    n - 1 degrees of freedom and the normal distribution, and by sqrt(n / (n - 1)), as the bootstrap
    divides variances by n. Of a single value nothing is known: both ends are the value.

    Source:
        Hesterberg 2015, "What Teachers Should Know About the Bootstrap", section 3.3.
    """
    n, mean = len(values), fmean(values)
    low, high = bootstrap_interval(values, level=level)
    if n == 1:
        return low, high
    tail = (1 + level) / 2
    factor = student_t(tail, n - 1) / NormalDist().inv_cdf(tail) * math.sqrt(n / (n - 1))
    return mean - factor * (mean - low), mean + factor * (high - mean)


def student_t(share: float, degrees: int) -> float:
    """Quantile of Student's t distribution above its median."""
    import mpmath  # its incomplete beta function: I_x(nu / 2, 1 / 2) with x = nu / (nu + t^2)

    def excess(x: float) -> Any:  # noqa: ANN401
        return mpmath.betainc(degrees / 2, 0.5, 0, x, regularized=True) - 2 * (1 - share)

    x = mpmath.findroot(excess, (1e-15, 1 - 1e-15), solver="bisect", maxsteps=200)
    return math.sqrt(degrees * (1 / float(x) - 1))


def share_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of values in [0, 1] (one a problem): by bootstrap, unless all are equal.

    Of n equal values every resampled mean is the same, which is no proof that there are no others:
    problems with another value may be as many as Clopper and Pearson's bound for 0 of n, and that
    value may be 0 or 1. Of values that are all 0, or all 1, it is Clopper and Pearson's interval.

    Source:
        Clopper & Pearson 1934, Biometrika 26(4).
    """
    if min(values) < max(values):
        return bootstrap_interval(values, level=level)
    same = ((1 - level) / 2) ** (1 / len(values))  # share of problems that have it, at least
    return same * values[0], same * values[0] + 1 - same


def pass_at_k(attempts: int, passed: int, k: int) -> float:
    """Chance that at least one of k attempts, drawn from those made, passes; without bias.

    Args:
        attempts: Made at one problem.
        passed: Of them.
        k: From 1 to ``attempts``.

    Source:
        Chen et al. 2021, arXiv:2107.03374, eq. 1.
    """
    if not 0 <= passed <= attempts or not 1 <= k <= attempts:
        raise ValueError(
            f"{passed} of {attempts} attempts passed, k={k}: k must be from 1 to the attempts, and "
            "no more can pass than were made"
        )
    return 1 - math.comb(attempts - passed, k) / math.comb(attempts, k)
