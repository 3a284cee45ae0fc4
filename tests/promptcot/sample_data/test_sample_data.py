"""The bundled corpus: answers confirmed by independent programs, programs by their tests."""

import json
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from promptcot.corpora import SAMPLE_DATA, Corpus, read_corpus
from promptcot.overlap import longest_common_run

HERE = Path(__file__).parent


def rows(name):
    return [json.loads(line) for line in (SAMPLE_DATA / name).read_text().splitlines()]


def checks(name):
    spec = spec_from_file_location(name, HERE / f"{name}.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CHECKS


MATH = rows("math_a.jsonl") + rows("math_b.jsonl")
CODE = rows("code.jsonl")
CHECKS = {**checks("math_checks_a"), **checks("math_checks_b")}


@pytest.mark.parametrize("row", MATH, ids=lambda row: row["id"])
def test_an_independent_program_confirms_the_answer(row):
    assert CHECKS[row["id"]]() == row["reference"]


@pytest.mark.parametrize("row", MATH + CODE, ids=lambda row: row["id"])
def test_a_rationale_has_five_concepts_and_does_not_quote_its_problem(row):
    assert len(set(row["concepts"])) == 5
    assert longest_common_run(row["rationale"], row["statement"]) < 7


@pytest.mark.parametrize("row", MATH, ids=lambda row: row["id"])
def test_a_brief_rationale_is_brief_and_does_not_quote_its_problem(row):
    assert 20 <= len(row["brief"].split()) <= 40
    assert longest_common_run(row["brief"], row["statement"]) < 7
    assert row["brief"].startswith("Combine ")


def output(program, stdin):
    command = [sys.executable, "-I", "-c", program]
    run = subprocess.run(
        command, input=stdin, capture_output=True, text=True, check=True, timeout=10
    )
    return run.stdout.split()


@pytest.mark.parametrize("row", CODE, ids=lambda row: row["id"])
def test_the_tests_accept_the_solution_and_reject_the_plausible_mistake(row):
    assert len(row["tests"]) >= 8
    assert any(test["edge"] for test in row["tests"])
    assert all(
        output(row["solution"], test["stdin"]) == test["stdout"].split() for test in row["tests"]
    )
    assert any(
        output(row["wrong_solution"], test["stdin"]) != test["stdout"].split()
        for test in row["tests"]
    )


def test_there_are_as_many_problems_as_promised():
    assert len(MATH) >= 64
    assert len(CODE) >= 32


def test_the_bundled_corpus_reads_whole():
    seeds = read_corpus(Corpus())
    assert len(seeds.problems) == len(seeds.annotations) == len(MATH) + len(CODE)
    assert len({problem.id for problem in seeds.problems}) == len(seeds.problems)
