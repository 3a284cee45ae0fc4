"""What may be learned from: forms of solutions, problems worth asking, pairs."""

import pytest

from promptcot.metrics import bootstrap_interval, pass_at_k, share_interval
from promptcot.records import Domain, Problem
from promptcot.selection import (
    NO_LABEL,
    TRIVIAL,
    UNDECIDABLE,
    is_solved_too_often,
    objection_to_problem,
    preference_pairs,
)
from promptcot.solutions import SolutionFlaw, solution_flaw

MATH = Problem("m", Domain.MATH, "What is 1 + 1?", reference="2")
CODE = Problem("c", Domain.CODE, "Add.", reference='[{"stdin": "1", "stdout": "1"}]')


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("so it is 2", None),
        ("<think>one and one</think>it is 2", None),
        ("one and one</think>it is 2", None),  # the template opened the thought
        ("\n<think>a</think>\n2", None),
        ("", SolutionFlaw.NO_REPLY),
        (" \n", SolutionFlaw.NO_REPLY),
        ("<think>a</think> \n", SolutionFlaw.NO_REPLY),
        ("<think> </think>2", SolutionFlaw.EMPTY_THOUGHT),
        ("</think>2", SolutionFlaw.EMPTY_THOUGHT),
        ("<think>a", SolutionFlaw.BROKEN_THOUGHT),
        ("<think>a</think>b</think>c", SolutionFlaw.BROKEN_THOUGHT),
        ("<think>a<think>b</think>c", SolutionFlaw.BROKEN_THOUGHT),
        ("<think>a</think>b<think>c</think>d", SolutionFlaw.BROKEN_THOUGHT),
        ("well <think>a</think>b", SolutionFlaw.BROKEN_THOUGHT),
        ("<think>思う</think>it is 2", None),
        ("<think>a</think>答案是 2", SolutionFlaw.FOREIGN),
        ("답은 2", SolutionFlaw.FOREIGN),
        ("答案は 2", SolutionFlaw.FOREIGN),
        ("réponse : π ≈ ∞ Ω", None),
    ],
)
def test_a_solution_of_mathematics_is_well_formed_or_has_a_named_flaw(text, flaw):
    assert solution_flaw(MATH, text) == flaw
    assert solution_flaw(MATH, text, finished=False) == SolutionFlaw.UNFINISHED


def test_thoughts_are_required_or_forbidden_where_asked():
    assert solution_flaw(MATH, "2", thought="required") == SolutionFlaw.NO_THOUGHT
    assert solution_flaw(MATH, "a</think>2", thought="required") is None
    assert solution_flaw(MATH, "a</think>2", thought="forbidden") == SolutionFlaw.HAS_THOUGHT
    assert solution_flaw(MATH, "2", thought="forbidden") is None


def test_a_program_is_in_a_block_and_a_problem_in_another_script_may_be_answered_in_it():
    assert solution_flaw(CODE, "print(1)") == SolutionFlaw.NO_CODE
    assert solution_flaw(CODE, "```python\nprint(1)\n```") is None
    assert solution_flaw(CODE, "<think>```x```</think>print") == SolutionFlaw.NO_CODE
    chinese = Problem("z", Domain.MATH, "求 1 + 1", reference="2")
    assert solution_flaw(chinese, "答案是 2") is None


@pytest.mark.parametrize(
    ("statement", "reference", "said"),
    [
        ("What is 1 + 1?", "2", ""),
        ("What is 1 + 1?", None, NO_LABEL),
        ("What is 1 + 1?", "  ", NO_LABEL),
        ("What?", "0", TRIVIAL),
        ("What?", " 1 ", TRIVIAL),
        ("What?", "$1$", TRIVIAL),
        ("What?", "\\boxed{0}", TRIVIAL),
        ("What?", "0.0", TRIVIAL),
        ("What?", "$\\boxed{ 1 }$.", TRIVIAL),
        ("What?", "0.5", ""),
        ("What?", "1.01", ""),
        ("What?", "10", ""),
        ("What?", "No", TRIVIAL),
        ("What?", "\\text{none of them}", TRIVIAL),
        ("What?", "north", ""),  # the released code drops it for its two letters
        ("What?", "\\text{canonical}", ""),
        ("Prove that 2 is prime.", "2", UNDECIDABLE),
        ("Let n be odd. Show that n^2 is odd.", "x", UNDECIDABLE),
        ("(a) Find n. (b) Prove that it is the least.", "2", UNDECIDABLE),
        ("Find n, and then prove that it is unique.", "2", UNDECIDABLE),
        ("A film show that lasts 2 hours begins at 3. When does it end?", "5", ""),
        ("Find the angle in the figure below.", "2", UNDECIDABLE),
        ("The points are shown in the diagram. How many are there?", "2", UNDECIDABLE),
        ("[asy] draw((0,0)); [/asy] How long?", "2", UNDECIDABLE),
        ("How many figures above 7 are there?", "2", ""),
    ],
)
def test_problems_not_worth_asking_are_named_by_rule(statement, reference, said):
    problem = Problem("p", Domain.MATH, statement, reference=reference)
    assert objection_to_problem(problem) == said
    if said == TRIVIAL:
        assert objection_to_problem(problem, trivial_labels=True) == ""


def test_code_needs_tests_and_nothing_else():
    assert objection_to_problem(CODE) == ""
    bare = Problem("c", Domain.CODE, "Prove that it halts.", reference="")
    assert objection_to_problem(bare) == NO_LABEL


def test_half_is_too_often_in_the_paper_and_not_in_its_code():
    assert is_solved_too_often(4, 8, 0.5, inclusive=True)
    assert not is_solved_too_often(4, 8, 0.5, inclusive=False)
    assert is_solved_too_often(5, 8, 0.5, inclusive=False)
    assert not is_solved_too_often(3, 8, 0.5, inclusive=True)
    assert not is_solved_too_often(3, 7, 0.5, inclusive=True)
    assert is_solved_too_often(4, 7, 0.5, inclusive=False)
    # just at the share, though 0.55 * 20 > 11 and 0.29 * 100 < 29 as floating-point numbers
    assert is_solved_too_often(11, 20, 0.55, inclusive=True)
    assert not is_solved_too_often(29, 100, 0.29, inclusive=False)


def test_pairs_are_of_different_texts_as_many_as_both_sides_have():
    passed, failed = ["a", "b", "a", "c"], ["x", "y", "x"]
    pairs = preference_pairs(passed, failed, 10, seed=1)
    assert len(pairs) == 2
    assert len({passed[i] for i, _ in pairs}) == len({failed[j] for _, j in pairs}) == 2
    assert all(i in (0, 1, 3) and j in (0, 1) for i, j in pairs)
    assert pairs == preference_pairs(passed, failed, 10, seed=1)
    assert len({tuple(preference_pairs(passed, failed, 10, seed=s)) for s in range(40)}) == 12
    assert len(preference_pairs(passed, failed, 1, seed=1)) == 1
    assert preference_pairs(["a"], [], 4, seed=0) == preference_pairs([], ["a"], 4, seed=0) == []
    # a text that once passed and once failed says nothing
    assert preference_pairs(["a", "b"], ["a", "z"], 4, seed=0) == [(1, 1)]


def test_pass_at_k_is_the_chance_of_one_right_among_k_drawn():
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(4, 1, 4) == 1.0
    assert pass_at_k(4, 0, 3) == 0.0
    assert pass_at_k(4, 2, 2) == pytest.approx(1 - 1 / 6)
    assert pass_at_k(10, 3, 5) == pytest.approx(1 - 21 / 252)
    for bad in ((4, 5, 1), (4, 1, 5), (4, 1, 0), (4, -1, 1)):
        with pytest.raises(ValueError, match="k must be from 1"):
            pass_at_k(*bad)


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        # Clopper and Pearson: 0 of n are fewer than 1 - 0.025^(1/n)
        ([1.0], (0.025, 1.0)),
        ([0.0], (0.0, 0.975)),
        ([1.0] * 10, (0.6915, 1.0)),
        ([0.0] * 10, (0.0, 0.3085)),
        # 30.85 % of the problems may have 0, or 1, instead
        ([0.5] * 10, (0.3457, 0.6543)),
    ],
)
def test_equal_shares_leave_room_for_problems_that_were_not_asked(values, interval):
    assert share_interval(values) == pytest.approx(interval, abs=1e-4)


def test_an_interval_of_shares_that_differ_is_the_bootstraps():
    values = [0.0, 0.25, 1.0, 0.5]
    assert share_interval(values) == bootstrap_interval(values)
