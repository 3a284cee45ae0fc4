"""Preference pairs whose prompts and answers are messages of a chat."""

import pytest
from transformers import AutoTokenizer

from datamodules.preferences import PairEncoder
from promptcot.chats import UnusableRow
from promptcot.prompts import PromptFormat

SYSTEM = {"role": "system", "content": "Be brief."}
FIRST = {"role": "user", "content": "Name a prime above 10."}
SAID = {"role": "assistant", "content": "11"}
SECOND = {"role": "user", "content": "Another one."}
RIGHT = {"role": "assistant", "content": "It is 13."}
WRONG = {"role": "assistant", "content": "15, of course."}
ASKED = [SYSTEM, FIRST, SAID, SECOND]


@pytest.fixture(scope="module")
def tokenizer(embedded_weights):
    return AutoTokenizer.from_pretrained(embedded_weights)


@pytest.fixture(scope="module")
def encoder(tokenizer):
    return PairEncoder(tokenizer, PromptFormat(), chat=True)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": ASKED, "chosen": [RIGHT], "rejected": [WRONG]},
        {"prompt": ASKED, "chosen": RIGHT["content"], "rejected": [WRONG]},
        {"prompt": ASKED, "chosen": RIGHT["content"], "rejected": {"text": WRONG["content"]}},
        {"chosen": [*ASKED, RIGHT], "rejected": [*ASKED, WRONG]},
        {"prompt": "Another one.", "chosen": [*ASKED, RIGHT], "rejected": [*ASKED, WRONG]},
        {"prompt": ASKED[:2], "chosen": [*ASKED[2:], RIGHT], "rejected": [*ASKED[2:], WRONG]},
    ],
    ids=["answers", "a text", "texts", "whole", "whole beside a prompt", "prompt cut earlier"],
)
def test_the_tokens_are_those_of_the_template_and_the_last_message_is_the_target(
    tokenizer, encoder, row
):
    pair = encoder.pair(row, "line 1")
    prompt = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True)["input_ids"]
    for example, answer in ((pair.chosen, RIGHT), (pair.rejected, WRONG)):
        whole = tokenizer.apply_chat_template([*ASKED, answer])["input_ids"]
        assert [*example.tokens] == whole[:-1]  # the template ends with a line break
        assert [*example.prompt] == prompt
        assert tokenizer.decode(example.target) == answer["content"] + tokenizer.eos_token
        assert example.segment_lengths == (len(example.target),)


def test_one_user_message_is_the_pair_of_its_text(encoder):
    texts = {"prompt": FIRST["content"], "chosen": SAID["content"], "rejected": WRONG["content"]}
    listed = {"prompt": [FIRST], "chosen": [SAID], "rejected": [WRONG]}
    assert encoder.pair(texts, "line 1") == encoder.pair(listed, "line 1")
    whole = {**texts, "chosen": [FIRST, SAID], "rejected": [FIRST, WRONG]}
    assert encoder.pair(texts, "line 1") == encoder.pair(whole, "line 1")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"chosen": [FIRST, SAID], "rejected": [SECOND, WRONG]},
            "line 3: chosen and rejected do not answer the same messages",
        ),
        (
            {"prompt": [FIRST], "chosen": [SAID], "rejected": [SECOND]},
            "chosen and rejected do not answer",
        ),
        ({"prompt": [FIRST], "chosen": [], "rejected": [SAID]}, "do not answer the same"),
        (
            {"prompt": [{"role": "tool", "content": "a"}], "chosen": "b", "rejected": "c"},
            "line 3: message 1 is of role 'tool'",
        ),
        ({"prompt": [FIRST], "chosen": [SAID]}, "line 3 has no rejected"),
        ({"prompt": [SAID], "chosen": [RIGHT], "rejected": [WRONG]}, "line 3: message 1"),
        ({"prompt": ["?"], "chosen": "a", "rejected": "b"}, "line 3 prompt: the messages are"),
        (
            {"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"},
            "line 3 prompt message 1 has no content",
        ),
        (
            {"chosen": [{"role": "tool", "content": "a"}], "rejected": [SAID]},
            "line 3 has no statement of a problem, and no prompt",
        ),
    ],
)
def test_what_is_wrong_with_a_row_is_said(encoder, row, said):
    with pytest.raises(UnusableRow, match=said):
        encoder.pair(row, "line 3")


def test_messages_without_a_chat_are_refused_with_the_cure(tokenizer):
    encoder = PairEncoder(tokenizer, PromptFormat(), chat=False)
    with pytest.raises(ValueError, match=r"line 1 is a conversation, and data\.chat is false: set"):
        encoder.pair({"prompt": [FIRST], "chosen": [SAID], "rejected": [WRONG]}, "line 1")
