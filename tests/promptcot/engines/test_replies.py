"""What a server's JSON means: every shape that was seen, and nonsense."""

from __future__ import annotations

import pytest

from promptcot.engines.replies import read_chat, read_completions, read_prompt_logprobs
from promptcot.protocols import Completion


def chat(message: object, finish_reason: object = "stop") -> dict[str, object]:
    return {"choices": [{"message": message, "finish_reason": finish_reason}]}


def text(**fields: object) -> dict[str, object]:
    return {"choices": [{"text": "a b", "finish_reason": "stop", **fields}]}


SAMPLED = {"token_ids": [5, 6, 2], "logprobs": {"token_logprobs": [-1, -0.5, -0.25]}}


def test_a_chat_message_has_no_tokens():
    assert read_chat(chat({"content": "hi"}))[0] == (Completion("hi"), False)


@pytest.mark.parametrize("reason", ["length", "content_filter", None])
def test_only_stop_means_finished(reason):
    assert not read_chat(chat({"content": "hi"}, reason))[0].completion.finished


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_reasoning_apart_is_left_out_and_noted(field: str):
    assert read_chat(chat({"content": "hi", field: "hm"}))[0] == (Completion("hi"), True)


def test_reasoning_that_was_cut_off_leaves_an_empty_text():
    answer = read_chat(chat({"content": None, "reasoning": "hm"}, "length"))[0]
    assert answer == (Completion("", finished=False), True)


def test_the_end_token_is_no_token_of_the_text_but_has_a_logprob():
    completion = read_completions(text(**SAMPLED))[0].completion
    assert completion == Completion("a b", True, (5, 6), (-1.0, -0.5, -0.25))


def test_a_completion_cut_off_keeps_all_tokens():
    completion = read_completions(text(**SAMPLED, finish_reason="length"))[0].completion
    assert completion == Completion("a b", False, (5, 6, 2), (-1.0, -0.5, -0.25))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"token_ids": [5], "logprobs": None},
        {"logprobs": {"token_logprobs": [-1.0]}},
        {"token_ids": [5, 6], "logprobs": {"token_logprobs": [-1.0]}},
        {"token_ids": [5], "logprobs": {"token_logprobs": [None]}},
        {"token_ids": "5", "logprobs": {"token_logprobs": [-1.0]}},
        {**SAMPLED, "stop_reason": "b"},
    ],
)
def test_tokens_are_empty_unless_they_are_whole(fields):
    assert read_completions(text(**fields))[0].completion == Completion("a b")


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
    "rows", [[], "no", [None], [None, None], [None, {"8": {"logprob": -1}}], [None, {"7": {}}]]
)
def test_prompt_logprobs_of_other_tokens_are_nonsense(rows):
    with pytest.raises(ValueError, match="prompt_logprobs of"):
        read_prompt_logprobs(scored(rows), (6, 7), start=1)
