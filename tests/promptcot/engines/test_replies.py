"""What a server's JSON means: every shape that was seen, and nonsense."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from promptcot.engines.replies import read_chat, read_completions, read_prompt_logprobs
from promptcot.protocols import Completion


def chat(message: object, finish_reason: object = "stop") -> dict[str, object]:
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


def text(**fields: object) -> dict[str, object]:
    return {"choices": [{"text": "a b", "finish_reason": "stop", **fields}]}


SAMPLED = {"token_ids": [5, 6, 2], "logprobs": {"token_logprobs": [-1, -0.5, -0.25]}}


def test_a_chat_message_has_no_tokens():
    assert read_chat(chat({"content": "hi"})) == [Completion("hi", finish_reason="stop")]


@pytest.mark.parametrize("reason", ["length", "content_filter", None])
def test_only_stop_means_finished(reason):
    [completion] = read_chat(chat({"content": "hi"}, reason))
    assert not completion.finished
    assert completion.finish_reason == (reason or "")


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("other", [{}, {"reasoning": None, "reasoning_content": ""}])
def test_reasoning_apart_is_no_text(field: str, other):
    [completion] = read_chat(chat({"content": "hi", **other, field: "hm"}))
    assert completion == Completion("hi", reasoning="hm", finish_reason="stop")


def test_reasoning_that_was_cut_off_leaves_an_empty_text():
    [completion] = read_chat(chat({"content": None, "reasoning": "hm"}, "length"))
    assert completion == Completion("", False, reasoning="hm", finish_reason="length")


def test_content_in_parts_has_its_thought_apart():
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}
    content = [thought, {"type": "thinking", "thinking": "m"}, {"type": "text", "text": "hi"}]
    [completion] = read_chat(chat({"content": content}))
    assert (completion.text, completion.reasoning) == ("hi", "hm")


@pytest.mark.parametrize("reason", ["stop", "content_filter", "tool_calls", None])
def test_null_in_place_of_a_text_is_an_empty_one_where_the_end_is_told(reason):
    expected = Completion("", reason == "stop", finish_reason=reason or "")
    assert read_chat(chat({"content": None, "refusal": "no"}, reason)) == [expected]
    assert read_completions({"choices": [{"text": None, "finish_reason": reason}]}) == [expected]


def test_usage_is_the_requests_and_of_a_lone_choice_its_own():
    usage = {"prompt_tokens": 7, "completion_tokens": 30, "total_tokens": 37}
    one = chat({"content": "hi"})
    [completion] = read_chat({**one, "usage": usage})
    assert (completion.prompt_tokens, completion.completion_tokens) == (7, 30)
    several = read_chat({"choices": 2 * one["choices"], "usage": usage})
    assert [(c.prompt_tokens, c.completion_tokens) for c in several] == 2 * [(7, 0)]


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        3,
        {"prompt_tokens": None, "completion_tokens": "30"},
        {"prompt_tokens": True, "completion_tokens": -1},
        {"prompt_tokens": 1.5},
    ],
)
def test_usage_that_cannot_be_read_is_none(usage):
    [completion] = read_chat({**chat({"content": "hi"}), "usage": usage})
    assert (completion.prompt_tokens, completion.completion_tokens) == (0, 0)


def test_half_a_character_can_be_written_to_a_file():
    [completion] = read_chat(chat({"content": "\ud83d a \ud83d\ude00", "reasoning": "\ude00"}))
    assert (completion.text, completion.reasoning) == ("\ufffd a \U0001f600", "\ufffd")


def test_the_end_token_is_no_token_of_the_text_but_has_a_logprob():
    [completion] = read_completions(text(**SAMPLED))
    expected = Completion("a b", True, (5, 6), (-1.0, -0.5, -0.25))
    assert completion == replace(expected, finish_reason="stop", completion_tokens=3)


def test_a_completion_cut_off_keeps_all_tokens():
    [completion] = read_completions(text(**SAMPLED, finish_reason="length"))
    expected = Completion("a b", False, (5, 6, 2), (-1.0, -0.5, -0.25))
    assert completion == replace(expected, finish_reason="length", completion_tokens=3)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"token_ids": [5], "logprobs": None},
        {"logprobs": {"token_logprobs": [-1.0]}},
        {"token_ids": [5, 6], "logprobs": {"token_logprobs": [-1.0]}},
        {"token_ids": [5], "logprobs": {"token_logprobs": [None]}},
        {"token_ids": [5], "logprobs": {"token_logprobs": [math.nan]}},
        {"token_ids": [5], "logprobs": {"token_logprobs": [10**400]}},
        {"token_ids": "5", "logprobs": {"token_logprobs": [-1.0]}},
        {**SAMPLED, "stop_reason": "b"},
    ],
)
def test_tokens_are_empty_unless_they_are_whole(fields):
    assert read_completions(text(**fields)) == [Completion("a b", finish_reason="stop")]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {},
        {"choices": []},
        {"choices": None},
        {"choices": ["a"]},
        {"choices": [{}]},
        {"choices": [{"message": "hi", "text": 5}]},
        {"choices": [{"message": {"content": None}, "text": None}]},
        {"choices": [{"message": {"content": ["hi"]}}]},
        {"choices": [{"message": {"content": [{"type": "image"}]}}]},
        {"choices": [{"message": {"content": [{"type": "text", "text": None}]}}]},
        {"choices": [{"message": {"content": "hi", "reasoning": ["hm"]}}]},
        {"error": {"message": "no"}},
    ],
)
def test_nonsense_is_a_value_error(reply):
    for read in (read_chat, read_completions):
        with pytest.raises(ValueError, match="choice"):
            read(reply)


def scored(rows: object) -> dict[str, object]:
    return {"choices": [{"text": "", "prompt_logprobs": rows}]}


def test_prompt_logprobs_start_where_the_target_does():
    rows = [None, {"7": {"logprob": -1.5}}, {"8": {"logprob": -2.5}, "9": {"logprob": -0.1}}]
    assert read_prompt_logprobs(scored(rows), (6, 7, 8), start=1) == [-1.5, -2.5]
    assert read_prompt_logprobs(scored(rows), (6, 7, 8), start=3) == []


def test_a_server_without_prompt_logprobs_is_told_apart():
    assert read_prompt_logprobs({"choices": [{"text": ""}]}, (6, 7), start=1) is None


@pytest.mark.parametrize(
    "rows",
    [
        *([], "no", [None], [None, None], [None, {"8": {"logprob": -1}}], [None, {"7": {}}]),
        *([None, {"7": {"logprob": value}}] for value in (math.nan, 10**400)),
    ],
)
def test_prompt_logprobs_of_other_tokens_are_nonsense(rows):
    with pytest.raises(ValueError, match="prompt_logprobs of"):
        read_prompt_logprobs(scored(rows), (6, 7), start=1)
