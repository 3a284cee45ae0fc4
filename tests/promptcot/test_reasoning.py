"""Every teacher's format comes to one form, and what can be read in two ways to a named flaw."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from promptcot.reasoning import (
    PAIRS,
    SOLUTION,
    Format,
    Trace,
    TraceFlaw,
    one_form,
    read_trace,
)

THOUGHT, REPLY = "We need $x < 2$.\n\nSo 1.", "It is \\boxed{1}."
EXPECTED = Trace(THOUGHT, REPLY)
BODY = f"{THOUGHT}<|end|><|start|>assistant<|channel|>final<|message|>{REPLY}"
HARMONY = f"<|channel|>analysis<|message|>{BODY}"
READ = {
    "tags": (f"<think>\n{THOUGHT}\n</think>\n\n{REPLY}", Format.TAGS),
    "tags in one line": (f"<think>{THOUGHT}</think>{REPLY}", Format.TAGS),
    "tags, the first in the template": (f"\n{THOUGHT}\n</think>\n\n{REPLY}\n", Format.TAGS),
    "harmony": (HARMONY, Format.HARMONY),
    "harmony with its end": (f"{HARMONY}<|return|>", Format.HARMONY),
    "harmony with its start": (f"<|start|>assistant{HARMONY}<|end|>\n", Format.HARMONY),
    "harmony, marks skipped": (f"analysis{THOUGHT}assistantfinal{REPLY}", Format.SKIPPED),
    "marks of thought and solution": (
        f"<|begin_of_thought|>\n{THOUGHT}\n<|end_of_thought|>\n\n"
        f"{SOLUTION[0]}\n{REPLY}\n{SOLUTION[1]}",
        Format.TAGS,
    ),
    "the solution's end cut off": (
        f"<|begin_of_thought|>{THOUGHT}<|end_of_thought|>{SOLUTION[0]}{REPLY}",
        Format.TAGS,
    ),
    **{
        f"{opening}": (f"{opening}\n{THOUGHT}\n{closing}\n{REPLY}", Format.TAGS)
        for opening, closing in PAIRS
    },
}


@pytest.mark.parametrize(("text", "format"), READ.values(), ids=READ.keys())
def test_each_format_is_read(text, format):
    found = read_trace(text)
    assert found == EXPECTED
    assert found.format is format


def test_a_field_of_its_own_is_the_thought():
    found = read_trace(f"\n{REPLY} ", f"{THOUGHT}\n")
    assert found == EXPECTED
    assert found.format is Format.FIELD


@pytest.mark.parametrize(
    "text",
    [
        REPLY,
        f"<think>\n\n</think>\n\n{REPLY}",
        f"</think>{REPLY}",
        f"<|channel|>final<|message|>{REPLY}<|return|>",
    ],
)
def test_an_empty_thought_is_none(text):
    assert read_trace(text, " \n") == Trace("", REPLY)


FLAWED = {
    "": TraceFlaw.EMPTY,
    " \n": TraceFlaw.EMPTY,
    "<think></think>": TraceFlaw.EMPTY,
    "<|channel|>final<|message|><|return|>": TraceFlaw.EMPTY,
    f"<think>{THOUGHT}</think>\n": TraceFlaw.NO_REPLY,
    f"<|channel|>analysis<|message|>{THOUGHT}<|end|>": TraceFlaw.NO_REPLY,
    f"<|channel|>analysis<|message|>{THOUGHT}": TraceFlaw.NO_REPLY,
    f"analysis{THOUGHT}assistantfinal": TraceFlaw.NO_REPLY,
    f"<think>{THOUGHT} {REPLY}": TraceFlaw.UNCLOSED,
    f"analysis{THOUGHT} {REPLY}": TraceFlaw.UNCLOSED,
    f"{REPLY} <think>": TraceFlaw.BROKEN,
    f"<think>a<think>b</think>{REPLY}": TraceFlaw.REPEATED,
    f"<think>a</think>b</think>{REPLY}": TraceFlaw.REPEATED,
    f"<think>a</think>b<think>c</think>{REPLY}": TraceFlaw.REPEATED,
    f"</think>{REPLY}<think>": TraceFlaw.BROKEN,
    f"Well. <think>a</think>{REPLY}": TraceFlaw.BROKEN,
    f"a</reasoning>{REPLY}": TraceFlaw.BROKEN,
    f"<thinking>a</think>{REPLY}": TraceFlaw.MIXED,
    f"<think><reasoning>a</reasoning></think>{REPLY}": TraceFlaw.MIXED,
    f"<think>aassistantfinalb</think>{REPLY}": TraceFlaw.MIXED,
    f"{HARMONY}<think>": TraceFlaw.MIXED,
    f"{HARMONY}<|return|><|start|>assistant<|channel|>final<|message|>b": TraceFlaw.REPEATED,
    f"<|channel|>analysis<|message|>a<|end|>{HARMONY}": TraceFlaw.REPEATED,
    f"analysisaassistantfinalbassistantfinal{REPLY}": TraceFlaw.REPEATED,
    f"analysisaassistantanalysisbassistantfinal{REPLY}": TraceFlaw.REPEATED,
    f"{HARMONY}<|return|>{REPLY}": TraceFlaw.BROKEN,
    f"{HARMONY}<|message|>b": TraceFlaw.BROKEN,
    f"<|start|>user<|message|>a<|end|>{HARMONY}": TraceFlaw.BROKEN,
    "<|channel|>final<|message|>a<|end|><|channel|>analysis<|message|>b": TraceFlaw.BROKEN,
    f"Well assistantfinal{REPLY}": TraceFlaw.BROKEN,
    f"final{REPLY}": TraceFlaw.BROKEN,
    f"<|channel|>commentary<|message|>a<|end|>{HARMONY}": TraceFlaw.TOOL,
    "<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>": TraceFlaw.TOOL,
    "<|start|>assistant to=functions.f<|channel|>final<|message|>{}<|call|>": TraceFlaw.TOOL,
    f"analysisaassistantcommentary to=f{{}}assistantfinal{REPLY}": TraceFlaw.TOOL,
    f"{REPLY}<|im_end|>": TraceFlaw.CONTROL,
    f"<think>a<|im_start|></think>{REPLY}": TraceFlaw.CONTROL,
    f"<think>a</think>{REPLY}<｜end▁of▁sentence｜>": TraceFlaw.CONTROL,  # noqa: RUF001
    f"<|begin_of_thought|>a<|end_of_thought|>b{SOLUTION[0]}c": TraceFlaw.BROKEN,
    f"<|begin_of_thought|>a<|end_of_thought|>{SOLUTION[0] * 2}c": TraceFlaw.BROKEN,
    f"{SOLUTION[0]}{REPLY}{SOLUTION[1]}": TraceFlaw.CONTROL,
    "<think></think>analysis shows 3": TraceFlaw.MIXED,
}


@pytest.mark.parametrize(("text", "flaw"), FLAWED.items())
def test_what_is_ambiguous_or_broken_has_a_name(text, flaw):
    assert read_trace(text) is flaw


@pytest.mark.parametrize(
    ("text", "reasoning", "flaw"),
    [
        (f"<think>{THOUGHT}</think>{REPLY}", THOUGHT, TraceFlaw.MIXED),
        (HARMONY, THOUGHT, TraceFlaw.MIXED),
        (REPLY, f"<think>{THOUGHT}", TraceFlaw.MIXED),
        (REPLY, f"{THOUGHT}</think>", TraceFlaw.MIXED),
        (REPLY, f"{THOUGHT}<|end|>", TraceFlaw.CONTROL),
        ("", THOUGHT, TraceFlaw.NO_REPLY),
    ],
)
def test_a_thought_in_two_places_is_no_trace(text, reasoning, flaw):
    assert read_trace(text, reasoning) is flaw


def test_the_thought_can_be_left_out():
    assert one_form(EXPECTED, keep_thought=False) == REPLY
    assert one_form(EXPECTED) == f"<think>\n{THOUGHT}\n</think>\n\n{REPLY}"
    assert one_form(Trace("", REPLY)) == REPLY


PIECES = (
    "a",
    " \n",
    "analysis",
    "assistantfinal",
    "final",
    "X",
    "<think>",
    "</think>",
    "<thinking>",
    "</thinking>",
    "<|channel|>",
    "analysis<|message|>",
    "final<|message|>",
    "<|end|>",
    "<|start|>assistant",
    "<|begin_of_thought|>",
    "<|end_of_thought|>",
    *SOLUTION,
    "\u2028",
)


def texts():
    """Every text of up to three pieces, and longer ones at random."""
    for length in range(4):
        yield from map("".join, product(PIECES, repeat=length))
    random = Random(5)
    for _ in range(20_000):
        yield "".join(random.choices(PIECES, k=random.randint(4, 12)))


def test_whatever_is_read_is_read_the_same_in_its_one_form():
    read = 0
    for text in texts():
        for reasoning in ("", text[: len(text) // 2]):
            found = read_trace(text, reasoning)
            if isinstance(found, Trace):
                read += 1
                assert read_trace(one_form(found)) == found
                assert found.reply
                assert (found.thought, found.reply) == (found.thought.strip(), found.reply.strip())
    assert read > 400


def test_long_texts_take_no_time():
    for piece in PIECES:
        read_trace(piece * 20_000)
    read_trace("<|channel|>analysis<|message|>" * 5_000 + "<" * 50_000)
