"""Figures of held-out rows, by hand, and what the bound promises, by enumeration."""

import math
from itertools import product
from random import Random

import pytest

from promptcot.figures import held_out_figures, improvement
from promptcot.metrics import (
    bootstrap_interval,
    importance_bound,
    mean_interval,
    standard_error,
    student_t,
)

ROW = {
    "id": "a",
    "bound": -30.0,
    "effective_samples": 2.0,
    "log_rationale": -8.0,
    "log_problem": -20.0,
    "rationale_tokens": 4,
    "problem_tokens": 10,
    "own_log_problem": -24.0,
    "overlap": 0.5,
    "longest_run": 3,
    "flaw": None,
    "compose_flaw": None,
}
OTHER = ROW | {
    "id": "b",
    "bound": -36.0,
    "effective_samples": 1.0,
    "log_rationale": -22.0,
    "log_problem": -40.0,
    "rationale_tokens": 11,
    "problem_tokens": 20,
    "own_log_problem": None,
    "overlap": 0.0,
    "longest_run": 0,
    "flaw": "empty",
    "compose_flaw": "no rationale between its tags",
}


def test_the_figures_of_two_problems_by_hand():
    figures = held_out_figures([ROW, OTHER])
    assert figures.problems == 2
    assert figures.bound == -33.0
    # Deviations -3 and 3: variance 18 with one degree of freedom, over sqrt 2 problems.
    assert figures.bound_error == pytest.approx(math.sqrt(18) / math.sqrt(2))
    assert figures.bound_per_token == pytest.approx(-66 / 30)
    assert figures.effective_samples == 1.5
    assert (figures.log_problem, figures.log_rationale) == (-30.0, -15.0)
    assert figures.log_problem_per_token == pytest.approx(-60 / 30)
    assert figures.log_rationale_per_token == pytest.approx(-30 / 15)
    assert figures.rationale_tokens == 7.5
    assert (figures.overlap, figures.longest_run) == (0.25, 1.5)
    assert (figures.parse_rate, figures.compose_parse_rate) == (0.5, 0.5)


def test_p_s_own_rationales_count_only_where_there_is_one():
    figures = held_out_figures([ROW, OTHER])
    assert (figures.own_rationales, figures.own_log_problem) == (1, -24.0)
    assert figures.own_log_problem_per_token == pytest.approx(-24 / 10)
    none = held_out_figures([OTHER])
    assert none.own_rationales == 0
    assert none.own_log_problem is None
    assert none.own_log_problem_per_token is None


def test_a_single_problem_has_a_mean_but_no_known_error():
    figures = held_out_figures([ROW])
    assert figures.bound == -30.0
    assert figures.bound_error is None
    assert math.isnan(standard_error([1.0]))


def test_a_problem_without_a_bound_is_left_out_of_its_mean_and_counted():
    none = OTHER | {"bound": None, "effective_samples": 0.0}
    figures = held_out_figures([ROW, none])
    assert (figures.bound, figures.bounded, figures.problems) == (-30.0, 1, 2)
    assert figures.bound_per_token == pytest.approx(-30 / 10)
    assert held_out_figures([none]).bound is None
    assert improvement([ROW, none], [ROW | {"bound": -28.0}, OTHER]) == (2.0, (2.0, 2.0))
    assert improvement([none], [OTHER]) is None


def test_the_improvement_is_paired_by_problem_in_any_order():
    # Gains: a -30 -> -29, b -36 -> -33; their mean is 2, and each resampled mean is 1, 2 or 3.
    after = [OTHER | {"bound": -33.0}, ROW | {"bound": -29.0}]
    gain, (low, high) = improvement([ROW, OTHER], after)
    assert gain == pytest.approx(2.0)
    wider = 12.7062 / 1.959964 * math.sqrt(2)  # Student's t of one degree of freedom
    assert (low, high) == pytest.approx((2 - wider, 2 + wider), rel=1e-4)


def test_evaluations_of_different_problems_are_not_compared():
    with pytest.raises(ValueError, match="hold out different problems"):
        improvement([ROW], [OTHER])


def test_an_interval_of_equal_values_is_a_point_and_equal_seeds_give_equal_ones():
    assert bootstrap_interval([2.0] * 5) == (2.0, 2.0)
    values = [float(n) for n in range(20)]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    low, high = bootstrap_interval(values)
    assert low < 9.5 < high


JOINT = (0.02, 0.05, 0.0, 0.03)
"""p(z, x | c) of the four values of z; p(x | c) is their sum, 0.1."""


def expected_bound(joint, proposal, k):
    """Mean of the bound over all ways to draw k samples."""
    terms = []
    for drawn in product(range(len(proposal)), repeat=k):
        weight = math.prod(proposal[z] for z in drawn)
        if weight:
            log_joint = [math.log(joint[z]) if joint[z] else -math.inf for z in drawn]
            terms.append(
                weight * importance_bound(log_joint, [math.log(proposal[z]) for z in drawn])
            )
    return math.fsum(terms)


@pytest.mark.parametrize(
    "proposal",
    [(0.25, 0.25, 0.0, 0.5), (0.9, 0.05, 0.0, 0.05), (0.2, 0.5, 0.0, 0.3)],
)
def test_the_bound_never_exceeds_log_p_and_is_tighter_with_more_samples(proposal):
    exact = math.log(sum(JOINT))
    values = [expected_bound(JOINT, proposal, k) for k in (1, 2, 3, 5)]
    assert values == sorted(values) or values == pytest.approx([exact] * 4)
    assert max(values) <= exact + 1e-12


def test_the_bound_is_exact_for_the_posterior_whatever_is_drawn():
    posterior = tuple(value / sum(JOINT) for value in JOINT)  # (0.2, 0.5, 0, 0.3)
    assert expected_bound(JOINT, posterior, 1) == pytest.approx(math.log(0.1))
    for z in (0, 1, 3):
        bound = importance_bound([math.log(JOINT[z])], [math.log(posterior[z])])
        assert bound == pytest.approx(math.log(0.1))


def test_by_hand_the_gap_of_one_sample_is_the_divergence_from_the_posterior():
    # log p(x) - E log(p/q) = KL(q || posterior)
    q, posterior = (0.25, 0.25, 0.0, 0.5), (0.2, 0.5, 0.0, 0.3)
    divergence = sum(a * math.log(a / b) for a, b in zip(q, posterior, strict=True) if a)
    assert math.log(0.1) - expected_bound(JOINT, q, 1) == pytest.approx(divergence)


def test_a_sample_without_weight_pulls_the_bound_down_and_all_of_them_make_it_minus_infinity():
    # One of two weights is zero: log(e^-1 / 2).
    assert importance_bound([-3.0, -math.inf], [-2.0, -5.0]) == pytest.approx(-1 - math.log(2))
    assert importance_bound([-math.inf] * 2, [-2.0, -5.0]) == -math.inf


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.7062), (2, 4.3027), (9, 2.2622), (30, 2.0423), (1000, 1.9623)]
)
def test_students_t_is_that_of_the_tables(degrees, quantile):
    assert student_t(0.975, degrees) == pytest.approx(quantile, abs=5e-5)


@pytest.mark.parametrize("n", [3, 10])
def test_intervals_of_few_values_hold_the_mean_as_often_as_they_say(n):
    random = Random(n)
    draws = [[random.gauss(0, 1) for _ in range(n)] for _ in range(200)]
    held = [low <= 0 <= high for low, high in map(mean_interval, draws)]
    assert sum(held) / len(held) > 0.9  # of the percentile interval 0.71 and 0.875


def test_of_many_values_the_interval_is_the_bootstraps_and_of_one_nothing():
    values = [float(n % 7) for n in range(2000)]
    assert mean_interval(values) == pytest.approx(bootstrap_interval(values), abs=1e-3)
    assert mean_interval([3.0]) == (3.0, 3.0)
    assert mean_interval([2.0] * 5) == (2.0, 2.0)
