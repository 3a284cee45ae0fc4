"""Which part of a completion is its answer."""

import time

import pytest

from verify.answers import reference_answer
from verify.extraction import extract

LONG = "We look at the next case and find a number that is too large. " * 20


@pytest.mark.parametrize(
    ("text", "answer", "form"),
    [
        (r"so \boxed{1}, no: $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}", "boxed"),
        (r"\boxed{\{1, \{2\}\}}", r"\{1, \{2\}\}", "boxed"),
        (r"\boxed 5", "5", "boxed"),
        (r"so \boxed\frac{1}{2}.", r"\frac{1}{2}", "boxed"),
        (r"$\boxed \frac12$", r"\frac12", "boxed"),
        (r"\boxed-\sqrt[3]{5}", r"-\sqrt[3]{5}", "boxed"),
        (r"\boxed\pi$", r"\pi", "boxed"),
        (r"\boxed{28}\%", r"28\%", "boxed"),
        (r"\boxed{3} \text{ and } \boxed{4}", "3,4", "boxed"),
        (r"\boxed{3} is wrong, it is \boxed{4}", "4", "boxed"),
        (r"It is $\boxed{4}$, as \boxed{} was asked for", "4", "boxed"),
        (LONG + r"\boxed{4}, given within \boxed{...}.", "4", "boxed"),
        (r"<think>\boxed{1}</think> It is \boxed{2}", "2", "boxed"),
        ("$\\boxed{\\dfrac{1}{2}}$\n\n$\\boxed{\\frac{1}{2}}$", r"\frac{1}{2}", "boxed"),
        ("\\boxed{72}\n\n\\boxed{72.0}", "72.0", "boxed"),
        (r"<think>\boxed{1}</think><answer>72</answer>", "72", "bare"),
        (r"So \boxed{1}. <answer>It is \boxed{2}</answer>", "2", "boxed"),
        ("48 + 24 = 72\n#### 72", "72", "stated"),
        ("#### 3. Solve it\nSo $x=5$", "x=5", "closing"),
        (LONG + "The final answer is $12$. I hope it is correct.", "12", "stated"),
        (LONG + "The answer is 2/3.", "2/3", "stated"),
        (LONG + "**Answer:** 17\n", "17", "stated"),
        (LONG + "Therefore, the sum is 40.", "40", "stated"),
        (LONG + "and so **99**.", "99", "stated"),
        ("所以，一共有 **3页**。", "3", "stated"),
        ("We have 56 + 11. In all there are 67 shirts in the shop.", "67", "closing"),
        (r"$x=11$", r"$x=11$", "bare"),
        (r"\frac{3}{4}", r"\frac{3}{4}", "bare"),
        ("One of the roots that we look for is equal to: $\\sqrt{2}$", r"\sqrt{2}", "closing"),
    ],
)
def test_an_answer_is_found_by_a_named_form(text, answer, form):
    found = extract(text)
    assert (found.answer, found.form) == (answer, form)


@pytest.mark.parametrize(
    "text",
    [
        LONG + "so we get 12 and then 13",
        LONG + "The answer is 12",  # of 123?
        LONG + "So x is 5. Now we look at what comes next, with y",
        LONG + "So the answer is 5. But wait: " + LONG,
        LONG + "There are 7 of them.",
        LONG + r"so \boxed{12} or rather \boxed{1",
        r"<think> it may be \boxed{4}",
        LONG,
        "",
    ],
)
def test_a_cut_off_text_has_no_answer(text):
    assert extract(text).answer is None


def test_forms_can_be_chosen_and_must_be_known():
    assert extract("the answer is 5", ["boxed"]).answer is None
    with pytest.raises(ValueError, match="there are boxed, stated, bare, closing"):
        extract("5", ["last number"])


@pytest.mark.parametrize(
    "unit", ["x", r"\boxed{", "(", "so ", "9", "the answer is ", "$", "*", " \n", "\\", "<think>"]
)
def test_ten_megabytes_take_no_time(unit):
    start = time.perf_counter()
    extract(unit * (10_000_000 // len(unit)))
    extract(r"\boxed{" + unit * (10_000_000 // len(unit)) + "}")
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize(
    ("reference", "answer"),
    [("48 + 24 = 72\n#### 72", "72"), (r"so \boxed{3}", "3"), ("x + 1", "x + 1"), (" ", None)],
)
def test_the_answer_in_a_reference(reference, answer):
    assert reference_answer(reference) == answer
