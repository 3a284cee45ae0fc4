"""Every row of an epoch is in one step, steps keep to their size, and seed and epoch decide all."""

from __future__ import annotations

import time
from collections import Counter
from itertools import chain
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest

from datamodules.packed import EvaluationBatches
from datamodules.planning import Plan, Source, fill_steps, share
from promptcot.tokens import Example

BUDGET = 32_768


def lognormal(count, seed=0, mean=7000, sigma=0.6):
    """Lengths of long traces, none above the budget."""
    lengths = np.random.default_rng(seed).lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
    return np.clip(lengths, 1, BUDGET).astype(np.int32)


def one_source(count, **settings):
    return Plan((Source("rows", 0, count),), seed=7, batch_size=16, **settings)


def taken(plan, lengths, epochs, parts=4):
    """Times that each row was taken, over some epochs."""
    return Counter(row for e in epochs for step in plan.steps(lengths, e, parts) for row in step)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 100])
@pytest.mark.parametrize("epoch", [0, 1, 9])
def test_one_source_is_shuffled_by_seed_and_epoch_and_cut_into_steps(count, epoch):
    order = list(range(count))
    Random(f"7/{epoch}").shuffle(order)
    expected = [order[start : start + 16] for start in range(0, count, 16)]
    assert one_source(count).steps([1] * count, epoch, 4) == expected


@pytest.mark.parametrize("budget", [None, BUDGET])
def test_the_steps_of_an_epoch_do_not_depend_on_the_epochs_planned_before(budget):
    lengths = lognormal(200)
    plan, other = (one_source(200, token_budget=budget) for _ in range(2))
    assert [plan.steps(lengths, e, 4) for e in range(3)] == [
        other.steps(lengths, e, 4) for e in (0, 1, 2)
    ]
    assert plan.steps(lengths, 2, 4) == one_source(200, token_budget=budget).steps(lengths, 2, 4)
    assert plan.steps(lengths, 0, 4) != plan.steps(lengths, 1, 4)
    assert plan.steps(lengths, 0, 4) != Plan(plan.sources, 8, 16, budget).steps(lengths, 0, 4)


@pytest.mark.parametrize("budget", [None, BUDGET])
@pytest.mark.parametrize("weight", [1.0, 2.0, 3.0])
def test_a_whole_weight_takes_every_row_so_often_in_each_epoch(budget, weight):
    plan = Plan((Source("a", 0, 37, weight), Source("b", 37, 50)), 3, 8, budget)
    for epoch in range(3):
        counts = taken(plan, lognormal(87), [epoch])
        assert counts == {row: weight if row < 37 else 1 for row in range(87)}


@pytest.mark.parametrize("weight", [0.5, 0.3, 0.7, 1.5, 0.01])
@pytest.mark.parametrize("count", [10, 37, 100])
def test_of_a_fractional_weight_rows_take_turns(weight, count):
    source = Source("a", 5, count, weight)
    size = max(1, round(weight * count))
    counts: Counter[int] = Counter()
    for epoch in range(12):
        rows = source.of_epoch(3, epoch)
        assert len(rows) == size
        counts.update(rows)
        every = [counts[row] for row in range(5, 5 + count)]
        assert sum(every) == counts.total() == size * (epoch + 1)
        assert max(every) - min(every) <= 1  # none a second time before all had a turn


def test_two_epochs_of_half_the_rows_have_every_row_once():
    plan = Plan((Source("a", 0, 30, 0.5), Source("b", 30, 20, 0.5)), 3, 8)
    assert taken(plan, lognormal(50), [0, 1]) == dict.fromkeys(range(50), 1)
    assert taken(plan, lognormal(50), [0]) != taken(plan, lognormal(50), [1])


@pytest.mark.parametrize("parts", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
def test_micro_batches_are_within_the_budget_and_nearly_full(parts, sigma):
    lengths = lognormal(8_000, sigma=sigma)
    plan = one_source(8_000, token_budget=BUDGET)
    steps = plan.steps(lengths, 0, parts)
    assert sorted(chain.from_iterable(steps)) == list(range(8_000))
    bins = [plan.micro_batches(step, lengths, parts) for step in steps]
    assert all(len(of_step) == parts for of_step in bins)
    tokens = np.array([[lengths[part].sum() for part in of_step] for of_step in bins])
    assert tokens.max() <= BUDGET
    # the last two steps have what is left; of the others 0.967 for narrow lengths, else 0.98
    assert tokens[:-2].mean() / BUDGET >= 0.96


@pytest.mark.parametrize("parts", [1, 3, 8])
def test_micro_batches_are_the_bins_that_the_step_was_filled_with(parts):
    # with budget 10 and lengths 6, 5, 4, 3, 2 the first step of one part is 6 + 4, then 5 + 3 + 2
    lengths = [6, 5, 4, 3, 2]
    assert fill_steps(range(5), lengths, 10, 1) == [[0, 2], [1, 3, 4]]
    lengths = list(lognormal(300))
    plan = one_source(300, token_budget=BUDGET)
    for step in plan.steps(lengths, 0, parts):
        bins = plan.micro_batches(step, lengths, parts)
        assert sorted(chain.from_iterable(bins)) == sorted(step)
        # the same rows once more, in the same order, fill no second step
        assert fill_steps(step, lengths, BUDGET, parts) == [step]
        for part in bins:
            assert part == [row for row in step if row in set(part)]


def test_a_row_finds_the_fullest_micro_batch_that_has_room():
    plan = Plan((Source("a", 0, 5),), 0, 1, token_budget=10)
    # 6 | 5: 4 goes to the 6 (4 left), 5 to the 5, and nothing is left for 1
    assert plan.micro_batches([0, 1, 2, 3], [6, 5, 4, 5, 1], 2) == [[0, 2], [1, 3]]


def test_a_row_that_is_longer_than_the_budget_is_refused():
    lengths = [5] * 600 + [11]
    plan = one_source(601, token_budget=10)
    with pytest.raises(ValueError, match="a row of 11 tokens is longer than the token_budget of 1"):
        plan.steps(lengths, 0, 2)


def test_rows_as_long_as_the_budget_have_a_micro_batch_each():
    plan = one_source(9, token_budget=10)
    steps = plan.steps([10] * 9, 0, 4)
    assert [len(step) for step in steps] == [4, 4, 1]
    assert [len(part) for part in plan.micro_batches(steps[2], [10] * 9, 4)] == [1, 0, 0, 0]


def test_no_row_waits_longer_than_for_a_step():
    # rows of 9 fit beside none of 2 within 10, so each step has at most `parts` of them
    lengths = [9] * 500 + [2] * 2_000
    steps = one_source(2_500, token_budget=10).steps(lengths, 0, 4)
    assert sorted(chain.from_iterable(steps)) == list(range(2_500))
    # 500 rows of 9 need a part each, 2000 of 2 a fifth of one: 500 + 400 parts are 225 steps
    assert len(steps) <= 1.01 * 225


def test_a_step_without_a_budget_is_shared_out_by_tokens():
    assert share([0, 1, 2, 3], [9, 1, 5, 4], 2) == [[0, 1], [2, 3]]  # 9, 5, 4, 1
    assert share([0], [9], 3) == [[0], [], []]


@pytest.mark.parametrize("parts", [4, 64])
def test_a_hundred_thousand_rows_are_planned_in_a_second_or_so(parts):
    # 4.8 million, which benchmarks/index_memory.py plans, then take no minute
    lengths = lognormal(100_000)
    plan = one_source(100_000, token_budget=BUDGET)
    start = time.process_time()
    steps = plan.steps(lengths, 0, parts)
    assert time.process_time() - start < 2
    assert len(set(chain.from_iterable(steps))) == 100_000


def evaluated(lengths, batch_size, accumulate, ranks, budget=None):
    """Each rank's rows of each micro-batch, and the batches themselves."""
    rows = [Example((1,), (2,) * (length - 1), (length - 1,)) for length in lengths]
    plan = Plan((), 7, batch_size, budget)
    trainers = [
        SimpleNamespace(global_rank=rank, world_size=ranks, accumulate_grad_batches=accumulate)
        for rank in range(ranks)
    ]
    return [EvaluationBatches(rows, plan, trainer) for trainer in trainers]


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "ranks", "budget", "expected"),
    [
        (4, 1, 1, None, [[[0, 1, 2, 3], [4, 5, 6]]]),
        (4, 2, 1, None, [[[0, 1], [2, 3], [4, 5], [6]]]),
        (5, 2, 1, None, [[[0, 1], [2, 3], [4, 5], [6]]]),  # a half of training's is of 2 or 3
        (2, 8, 1, None, [[[n] for n in range(7)]]),
        (4, 1, 2, None, [[[0, 1], [4, 5]], [[2, 3], [6]]]),
        (6, 1, 2, None, [[[0, 1, 2], [6]], [[3, 4, 5], []]]),
        (99, 1, 3, None, [[[0, 1, 2]], [[3, 4, 5]], [[6]]]),  # some for every rank
        (99, 1, 1, 10, [[[0, 1], [2], [3, 4, 5], [6]]]),  # tokens 3, 4, 9, 2, 2, 6, 12
        (99, 4, 2, 10, [[[0, 1], [3, 4, 5]], [[2], [6]]]),
    ],
)
def test_rows_are_evaluated_once_in_micro_batches_as_small_as_trainings(
    batch_size, accumulate, ranks, budget, expected
):
    found = evaluated([3, 4, 9, 2, 2, 6, 12], batch_size, accumulate, ranks, budget)
    assert [[list(batch) for batch in rank.batches] for rank in found] == expected
    assert sorted(chain.from_iterable(rank.indices for rank in found)) == list(range(7))
    assert [[len(batch.boundaries) - 1 for batch in rank] for rank in found] == [
        [max(1, len(batch)) for batch in rank] for rank in expected
    ]


def test_a_rank_without_rows_evaluates_no_target():
    [_, last] = evaluated([3] * 5, 4, 1, 2)[1]
    assert len(last.targets) == 0


def test_no_rows_make_no_batch():
    assert [len(rank) for rank in evaluated([], 4, 1, 2)] == [0, 0]
