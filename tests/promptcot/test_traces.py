"""Which traces pass, rule by rule; what honest mathematics looks like passes."""

from __future__ import annotations

import pytest

from promptcot.protocols import Completion
from promptcot.reasoning import Trace, TraceFlaw
from promptcot.records import Domain, Problem
from promptcot.repetition import ends_in_loop, repeated_share
from promptcot.solutions import SolutionFlaw
from promptcot.traces import (
    NOT_ENDED,
    Rejection,
    TraceFilter,
    code_rejection,
    has_boxed_answer,
    passing_trace,
)

MATH = Problem("m", Domain.MATH, "What is 1 + 1?")
CODE = Problem("c", Domain.CODE, "Print 1.")
LOOP = "Wait, let me check that again. "


@pytest.mark.parametrize(
    "reply",
    [
        r"So \boxed{2}.",
        r"\boxed {\frac{1}{2}}",
        r"$\boxed{\left\{1, 2\right\}}$ and } more",
        r"\boxed{\text{yes}}",
        r"not \boxed{} but \boxed{2}",
        r"\boxed{\boxed{3}}",
        r"\\boxed{3}",
        r"x \\\boxed{\{3\}}",
        r"\boxed{\begin{matrix}1 \\{2}\end{matrix}}",
        r"{\boxed{0.5}}{",
    ],
)
def test_a_boxed_answer_is_found(reply):
    assert has_boxed_answer(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "So 2.",
        r"\boxed{}",
        r"\boxed{ \text{} }",
        r"\boxed{...}",
        r"\boxed{?}",
        r"\boxed{2",
        r"\boxed{2} and then \boxed{3",
        r"\boxed{2} and \boxed{}",
        r"\boxed 2",
        r"\boxed{\}",
        "\\boxed{" * 20_000,
    ],
)
def test_no_boxed_answer_is_none(reply):
    assert not has_boxed_answer(reply)


def test_a_box_in_the_thought_alone_does_not_count():
    trace = Trace(r"\boxed{2}", "Two.")
    assert TraceFilter().rejection(MATH, trace) is Rejection.NO_BOX
    assert TraceFilter(boxed=False).rejection(MATH, trace) is None


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("```python\nprint(1)\n```", None),
        ("```\nprint(1)\n```", None),
        ("~~~py\nprint('\\d')\n~~~\nIt prints:\n```\n1 2\n```", None),
        ("```cpp\nint main() {}\n```", None),
        ("```python\nprint(\n```\nbetter:\n```python\nprint(1)\n```", None),
        ("print(1)", Rejection.NO_CODE),
        ("", Rejection.NO_CODE),
        ("```python\nprint(1)", Rejection.CUT_CODE),
        ("```python\nprint(1)\n```\n```python\nprint(2)", Rejection.CUT_CODE),
        ("```python\n\n```", Rejection.EMPTY_CODE),
        ("```cpp\n \n```", Rejection.EMPTY_CODE),
        ("```python\nprint(\n```", Rejection.BROKEN_CODE),
        ("```\nint main() {}\n```", Rejection.BROKEN_CODE),
        ("```python\nprint 1\n```", Rejection.BROKEN_CODE),
        ("```python\n" + "\0" + "\n```", Rejection.BROKEN_CODE),
        ("```python\n" + "-" * 90_000 + "1\n```", Rejection.BROKEN_CODE),
        ("```python\n" + "(" * 90_000 + "\n```", Rejection.BROKEN_CODE),
        ("```python\n" + "a" + ".b" * 49_000 + "\n```", Rejection.BROKEN_CODE),
        ("```python\n" + "1\n" * 50_001 + "```", Rejection.BROKEN_CODE),
    ],
)
def test_a_program_is_one_that_may_run(reply, found):
    assert code_rejection(reply) is found
    assert TraceFilter().rejection(CODE, Trace("", reply)) is found
    free = TraceFilter(code=False, loops=True, max_repeated=None)
    assert free.rejection(CODE, Trace("", reply)) is None


def test_lengths_are_tokens_or_else_words():
    trace = Trace("one two", r"three \boxed{4}")
    for given, found in [
        ({"min_tokens": 4}, None),
        ({"min_tokens": 5}, Rejection.SHORT),
        ({"max_tokens": 4}, None),
        ({"max_tokens": 3}, Rejection.LONG),
    ]:
        assert TraceFilter(**given).rejection(MATH, trace) is found
    assert TraceFilter(max_tokens=9).rejection(MATH, trace, num_tokens=10) is Rejection.LONG
    assert TraceFilter(min_tokens=9).rejection(MATH, trace, num_tokens=9) is None


@pytest.mark.parametrize("word", ["因为", "ひ", "한"])
def test_another_script_than_the_problems_is_foreign(word):
    for trace in (Trace(word, r"\boxed{1}"), Trace("", rf"{word} \boxed{{1}}")):
        assert TraceFilter().rejection(MATH, trace) is Rejection.FOREIGN
        assert TraceFilter(same_script=False).rejection(MATH, trace) is None
        same = Problem("m", Domain.MATH, f"{word} 1 + 1?")
        assert TraceFilter().rejection(same, trace) is None


@pytest.mark.parametrize(
    "text",
    [
        "Let me see. " + LOOP * 20,
        "Let me see. " + LOOP * 20 + LOOP[:11],
        "=" * 400,
        "0." + "3" * 500,
        "x " + ("a paragraph of words, each unlike the other " * 20 + "\n\n") * 5,
    ],
)
def test_a_loop_at_the_end_is_found(text):
    assert ends_in_loop(text)
    trace = Trace("", text)
    free = TraceFilter(boxed=False, max_repeated=None)
    assert free.rejection(MATH, trace) is Rejection.LOOP
    assert TraceFilter(boxed=False, max_repeated=None, loops=True).rejection(MATH, trace) is None


def cases(count):
    return "\n".join(
        f"Case {n}: if x = {n}, then x^2 + 1 = {n * n + 1}, which leaves the remainder "
        f"{(n * n + 1) % 7} on division by 7, so that this case is "
        f"{'possible' if (n * n + 1) % 7 == 2 else 'impossible'}."
        for n in range(count)
    )


ZEROS = "\n".join(" & ".join(str(int(i == j)) for j in range(8)) + r" \\" for i in range(8))
HONEST = {
    "cases": cases(60),
    "a unit matrix": rf"The matrix is $\begin{{bmatrix}}{ZEROS}\end{{bmatrix}}$. " + cases(6),
    "digits": "So 1/7 = 0." + "142857" * 30 + "..., with a period of 6.",
    "a table": "\n".join(f"| {n} | {n * n} | {n**3} |" for n in range(100)),
    "a sum": " + ".join(f"\\frac{{1}}{{{n}}}" for n in range(1, 90)),
    "a rule": "Step 1.\n" + "-" * 80 + "\nStep 2.\n" + "-" * 80,
    "little but zeros": "So it is " + "0 & " * 90 + "1.",
    "empty": "",
}


@pytest.mark.parametrize("text", HONEST.values(), ids=HONEST.keys())
def test_honest_mathematics_may_repeat_its_forms(text):
    assert not ends_in_loop(text)
    assert repeated_share(text) < 0.2


def test_what_says_everything_again_repeats_itself():
    assert repeated_share(cases(30)) == 0
    assert repeated_share(cases(30) + "\n" + cases(30)) == pytest.approx(0.5, abs=0.02)
    trace = Trace((cases(30) + "\n") * 2 + "Enough.", r"\boxed{1}")
    assert TraceFilter().rejection(MATH, trace) is Rejection.REPEATS
    assert TraceFilter(max_repeated=0.6).rejection(MATH, trace) is None
    assert TraceFilter(max_repeated=None).rejection(MATH, trace) is None


def test_a_reply_may_repeat_its_thought():
    text = cases(30) + r" \boxed{1}"
    assert TraceFilter().rejection(MATH, Trace(text, text)) is None


@pytest.mark.parametrize(
    ("completion", "found"),
    [
        (Completion("", False, finish_reason="length"), SolutionFlaw.UNFINISHED),
        (Completion(r"\boxed{1}", False, finish_reason="content_filter"), NOT_ENDED),
        (Completion("", False), NOT_ENDED),
        (Completion("", True), TraceFlaw.EMPTY),
        (Completion("Two.", True), Rejection.NO_BOX),
        (Completion(r"\boxed{2}", True), Trace("", r"\boxed{2}")),
        (Completion(r"\boxed{2}", True, reasoning="hm"), Trace("hm", r"\boxed{2}")),
    ],
)
def test_the_first_thing_that_is_wrong_is_named(completion, found):
    assert passing_trace(MATH, completion, TraceFilter(), "allowed") == found


def test_a_thought_may_be_required_or_forbidden():
    with_thought, without = Completion(r"<think>a</think>\boxed{2}"), Completion(r"\boxed{2}")
    free = TraceFilter()
    assert passing_trace(MATH, without, free, "required") is SolutionFlaw.NO_THOUGHT
    assert passing_trace(MATH, with_thought, free, "forbidden") is SolutionFlaw.HAS_THOUGHT
    assert isinstance(passing_trace(MATH, with_thought, free, "required"), Trace)
    assert isinstance(passing_trace(MATH, without, free, "forbidden"), Trace)


@pytest.mark.parametrize(
    "given", [{"min_tokens": -1}, {"max_tokens": 0}, {"min_tokens": 5, "max_tokens": 4}]
)
def test_lengths_that_no_trace_has_are_refused(given):
    with pytest.raises(ValueError, match="no trace has such a length"):
        TraceFilter(**given)


def test_a_share_outside_its_range_is_refused():
    with pytest.raises(ValueError, match=r"max_repeated=1\.5: it is a share"):
        TraceFilter(max_repeated=1.5)
