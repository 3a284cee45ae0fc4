import json
import re
from math import prod

import pytest
from self_play_problems import draw_parts, write_parts
from self_play_templates import TEMPLATES

SIZES = {"train": 4000, "held_out": 1000, "warm_up": 1000}

ANSWERS = {  # the answer from the numbers of the statement, in one formula
    "three_terms": lambda a, b, c: a + b + c,
    "plus_minus": lambda a, b, c: a + b - c,
    "gives_away": lambda a, b, c: a + b - c,
    "two_sales": lambda a, b, c: a - b - c,
    "more_than": lambda a, b: 2 * a + b,
    "unit_price": lambda n, p, q: n * p + q,
    "change": lambda n, p, paid: paid - n * p,
    "ages": lambda a, k, n: k * a + n,
    "left_over": lambda a, b: a % b,
    "two_prices": lambda n, p, m, q: n * p + m * q,
    "sequence": lambda a, d, n: list(range(a, a + d * n, d))[-1],
    "shelves": lambda *numbers: prod(numbers),
    "change_of_two": lambda n, p, m, q, paid: paid - n * p - m * q,
    "average": lambda a, b, c: (a + b + c) / 3,
    "shared_out": lambda n, p, c, k: (n * p - c) / k,
}
OPERATIONS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
}


@pytest.fixture(scope="module")
def parts():
    return draw_parts(SIZES, seed=0)


@pytest.fixture(scope="module")
def problems(parts):
    return [problem for part in parts.values() for problem in part]


def numbers_in(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def test_every_answer_follows_from_the_numbers_in_the_statement(problems):
    for problem in problems:
        assert problem.numbers == tuple(numbers_in(problem.statement))
        assert ANSWERS[problem.template](*problem.numbers) == problem.answer


def test_every_step_is_right_and_the_last_is_the_answer(problems):
    for problem in problems:
        *steps, box = problem.solution.split("\n")
        values = []
        for step in steps:
            a, operation, b, equals, value = step.split(" ")
            assert equals == "="
            assert OPERATIONS[operation](int(a), int(b)) == int(value) >= 0
            values.append(value)
        assert box == f"\\boxed{{{values[-1]}}}" == f"\\boxed{{{problem.answer}}}"
        assert problem.answer >= 2


def test_no_two_problems_share_a_statement_or_a_calculation(parts, problems):
    assert {part: len(some) for part, some in parts.items()} == SIZES
    assert len({problem.statement for problem in problems}) == len(problems)
    assert len({(p.template, tuple(sorted(p.numbers))) for p in problems}) == len(problems)


def test_all_templates_and_levels_are_drawn(problems):
    assert {p.template for p in problems} == {t.__name__ for ts in TEMPLATES.values() for t in ts}
    assert {p.level for p in problems} == {1, 2, 3, 4, 5}


def test_only_the_levels_that_weigh_something_are_drawn():
    drawn = draw_parts({"train": 50}, seed=0, levels={1: 0, 2: 0, 3: 0, 4: 1, 5: 1})
    assert {problem.level for problem in drawn["train"]} == {4, 5}


def test_the_same_seed_draws_the_same(parts):
    assert draw_parts(SIZES, seed=0) == parts
    assert draw_parts(SIZES, seed=1)["train"][:20] != parts["train"][:20]


def test_only_the_warm_up_is_told_solutions(tmp_path):
    write_parts(tmp_path, {"train": 3, "held_out": 3, "warm_up": 3}, seed=0)
    for part in SIZES:
        rows = [json.loads(line) for line in (tmp_path / f"{part}.jsonl").read_text().splitlines()]
        assert len(rows) == 3
        assert all(("solution" in row) == (part == "warm_up") for row in rows)


def test_a_smaller_size_draws_smaller_numbers_until_there_are_no_more():
    drawn = draw_parts({"train": 300}, size=0.2)["train"]
    assert max(max(problem.numbers) for problem in drawn) <= 100 + 0.2 * 400
    with pytest.raises(ValueError, match="raise the size or ask for fewer"):
        draw_parts({"train": 20}, size=0.0, levels={1: 1.0})
    with pytest.raises(ValueError, match="no numbers of size"):
        draw_parts({"train": 200}, size=0.0, levels={5: 1.0})
