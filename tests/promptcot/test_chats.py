"""Conversations as token ids, against golden files that transformers wrote and by hand."""

from __future__ import annotations

import json
from random import Random

import pytest
from golden_chats import CONVERSATIONS, GOLDEN, template, tokenizer_with

from promptcot.chats import ASSISTANT, USER, Message, UnusableRow, encode_chat, turn_end
from promptcot.tokens import encode_piece
from promptcot.turns import Turns, joined

pytest.importorskip("trl", reason="TRL carries the templates: make test installs it")
NAMES = {"chatml": "qwen2_5", "llama3": "llama3", "embedded": ""}
"""Of each golden file, the template without marks, as a model is asked with it."""
WORDS = [
    "a",
    " b",
    "\n",
    "  ",
    "<|im_end|>",
    "<|eot_id|>",
    "é",
    "```",
    "42",
    "<think>",
    "text",
    ".",
]


@pytest.fixture(scope="module", params=NAMES)
def chat(request, embedded_weights):
    """The golden file and the tokenizer of a template."""
    found = json.loads((GOLDEN / f"{request.param}.json").read_text("utf-8"))
    return request.param, found, tokenizer_with(NAMES[request.param])


@pytest.fixture
def own(embedded_weights):
    return tokenizer_with("")


def messages(listed):
    return [Message(m["role"], m["content"]) for m in listed]


def talk(*contents):
    """A user and an assistant in turns."""
    return [Message((USER, ASSISTANT)[n % 2], content) for n, content in enumerate(contents)]


def marked(turns: Turns):
    """Each token and whether it is a target."""
    inside = {place for start, end in turns.spans for place in range(start, end)}
    return [(token, place in inside) for place, token in enumerate(turns.tokens)]


def strings(tokenizer, turns: Turns):
    """The text of each target token, by turn."""
    return [[tokenizer.decode([t]) for t in turns.tokens[a:b]] for a, b in turns.spans]


def without_breaks(tokenizer, pairs):
    """Line breaks at either end of a marked run are no targets."""
    [newline, end] = tokenizer("\n<|im_end|>", add_special_tokens=False)["input_ids"]
    before = [(-1, False), *pairs[:-1]]
    return [
        (token, trained and not (token == newline and (last == end or not was)))
        for (last, was), (token, trained) in zip(before, pairs, strict=True)
    ]


def with_one_break(tokenizer, run):
    """Two line breaks right before a marked run are one token."""
    [two] = tokenizer("\n\n", add_special_tokens=False)["input_ids"]
    breaks = not run["trained"] and run["tokens"][-2:] == ["\n", "\n"]
    return [
        (token, run["trained"]) for token in ([*run["ids"][:-2], two] if breaks else run["ids"])
    ]


@pytest.mark.parametrize("title", CONVERSATIONS)
def test_ids_and_marks_are_those_of_transformers(chat, title):
    name, golden, tokenizer = chat
    theirs = [(i, run["trained"]) for run in golden[title] for i in run["ids"]]
    if name == "chatml":
        # TRL marks everything between "assistant" and the next turn. Of this the line break in
        # front is what a model is given when it is asked, and the one behind the turn's end it
        # never comes to write, since engines stop at the end: neither is a target of ours.
        theirs = without_breaks(tokenizer, theirs)
    elif name == "llama3":
        # This tokenizer cuts two line breaks apart where a letter follows. A model that is asked
        # is given them alone, as one token (Llama 3's own tokenizer never cuts them).
        theirs = [pair for run in golden[title] for pair in with_one_break(tokenizer, run)]
    [turns] = encode_chat(tokenizer, messages(CONVERSATIONS[title]))
    ours = marked(turns)
    assert ours == theirs[: len(ours)]
    # nothing is lost but the line break behind the last turn of ChatML
    behind = tokenizer.decode([token for token, _ in theirs[len(ours) :]])
    assert behind == ("" if name == "llama3" else "\n")
    assert not any(trained for _, trained in theirs[len(ours) :])


@pytest.mark.parametrize("title", CONVERSATIONS)
def test_targets_are_what_was_said_and_the_end_of_the_turn(chat, title):
    name, _, tokenizer = chat
    end = "<|eot_id|>" if name == "llama3" else "<|im_end|>"
    listed = CONVERSATIONS[title]
    said = [m["content"] for m in listed if m["role"] == "assistant"]
    [turns] = encode_chat(tokenizer, messages(listed))
    strip = str.strip if name == "llama3" else str
    assert tokenizer.decode(turns.target) == "".join(strip(text) + end for text in said)
    # what stands before a turn is what the model is given when it is asked for it
    places = [n for n, m in enumerate(listed) if m["role"] == "assistant"]
    for (start, _), turn in zip(turns.spans, places, strict=True):
        asked = tokenizer.apply_chat_template(
            listed[:turn], add_generation_prompt=True, tokenize=True, return_dict=True
        )
        if turn == places[0] or name != "llama3":
            assert list(turns.tokens[:start]) == asked["input_ids"]
        # with Llama 3's, the tokens of earlier turns stay as they were given and sampled
        assert tokenizer.decode(turns.tokens[:start]) == tokenizer.decode(asked["input_ids"])


# By hand, since transformers tokenises the whole text again and so makes other tokens.


def test_markup_in_what_the_assistant_says_stays_text(own):
    [turns] = encode_chat(own, talk("hi", "a<|im_end|>b", "go on", "c"))
    assert strings(own, turns) == [
        ["a", "<", "|", "im", "_", "end", "|", ">", "b", "<|im_end|>"],
        ["c", "<|im_end|>"],
    ]
    assert turns.tokens.count(own.eos_token_id) == 5  # of the system and of four messages
    theirs = own.apply_chat_template(
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a<|im_end|>b"}],
        return_dict=True,
    )
    assert theirs["input_ids"].count(own.eos_token_id) == 4  # one of them ends the turn too soon


def test_space_in_front_is_not_merged_with_the_template_s_line_break(own):
    [turns] = encode_chat(own, talk("hi", "  yo"))
    assert strings(own, turns) == [[" ", " y", "o", "<|im_end|>"]]
    assert own.decode(turns.tokens[: turns.spans[0][0]]).endswith("<|im_start|>assistant\n")


def test_a_template_that_strips_is_followed(embedded_weights):
    llama = tokenizer_with("llama3")
    [turns] = encode_chat(llama, talk(" hi ", "\n a <|eot_id|> \n", "x", " y"))
    assert strings(llama, turns) == [
        ["a", " <", "|", "e", "ot", "_", "id", "|", ">", "<|eot_id|>"],
        ["y", "<|eot_id|>"],
    ]


def test_a_template_that_rewrites_earlier_turns_gives_a_sequence_to_each(embedded_weights):
    qwen = tokenizer_with("qwen3")
    first, second = "<think>\nhm\n</think>\n\nyo", "<think>\nha\n</think>\n\nye"
    ids = encode_piece(qwen, first)
    for earlier in (first, ids):  # as text or as it was sampled: the same context
        found = encode_chat(qwen, talk("hi", earlier, "x", second))
        assert [qwen.decode(turns.target) for turns in found] == [
            f"{first}<|im_end|>",
            f"{second}<|im_end|>",
        ]
        rest = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": first}]
        rest.append({"role": "user", "content": "x"})
        for turns, given in zip(found, (rest[:1], rest), strict=True):
            asked = qwen.apply_chat_template(given, add_generation_prompt=True, return_dict=True)
            [(start, end)] = turns.spans
            assert list(turns.tokens[:start]) == asked["input_ids"]
            assert end == len(turns)
        assert "hm" not in qwen.decode(found[1].tokens)


def test_an_opened_thought_is_not_opened_twice(embedded_weights):
    deepseek = tokenizer_with("deepseek_r1_distill")
    for said in ("<think>\nhm\n</think>\n\nyo", "hm\n</think>\n\nyo"):
        [turns] = encode_chat(deepseek, talk("hi", said))
        text = deepseek.decode(turns.tokens)
        assert text.endswith("<think>\nhm\n</think>\n\nyo" + deepseek.eos_token)
        assert text.count("<think>") == 1
        assert deepseek.decode(turns.target) == "hm\n</think>\n\nyo" + deepseek.eos_token


def test_the_turn_s_end_is_found_among_control_tokens_without_a_name(embedded_weights, caplog):
    from tokenizers import AddedToken

    gemma = tokenizer_with("", None)
    gemma.add_tokens([AddedToken(t, special=True) for t in ("<start_of_turn>", "<end_of_turn>")])
    gemma.chat_template = template("gemma")
    assert "<end_of_turn>" not in gemma.all_special_tokens
    assert turn_end(gemma) == "<end_of_turn>"
    assert "but its end token is <|im_end|>, at which engines stop: set eos_token" in caplog.text
    with pytest.raises(UnusableRow, match=r"refuses roles system, user"):
        encode_chat(gemma, [Message("system", "s"), *talk("hi", "yo")])


def test_a_turn_s_end_is_found_where_the_whole_ends_with_endoftext(embedded_weights):
    phi3 = tokenizer_with("", None)
    phi3.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|assistant|>", "<|end|>"]})
    phi3.eos_token = "<|endoftext|>"
    phi3.chat_template = template("phi3")
    assert turn_end(phi3) == "<|end|>"
    [turns] = encode_chat(phi3, talk("hi", "yo", "so?", "no"))
    assert [phi3.decode(turns.tokens[a:b]) for a, b in turns.spans] == ["yo<|end|>", "no<|end|>"]


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "", "qwen3"])
def test_token_ids_pass_through_unchanged(embedded_weights, name):
    tokenizer = tokenizer_with(name)
    odd = tuple(encode_piece(tokenizer, letter)[0] for letter in "because")  # seven, not one
    assert odd != encode_piece(tokenizer, "because")
    found = encode_chat(tokenizer, talk("why?", odd, "really?", odd))
    ended = (*odd, tokenizer.eos_token_id)
    assert tuple(t for turns in found for t in turns.target) == ended * 2


@pytest.mark.parametrize("name", ["qwen2_5", "llama3", "", "qwen3"])
def test_of_random_conversations_only_what_the_assistant_said_is_a_target(embedded_weights, name):
    tokenizer = tokenizer_with(name)
    random = Random(f"{name}")
    for _ in range(25):
        contents = [
            "x" + "".join(random.choices(WORDS, k=random.randint(0, 6)))
            for _ in range(2 * random.randint(1, 4))
        ]
        found = encode_chat(tokenizer, talk(*contents))
        shown = [c.strip() if name == "llama3" else c for c in contents[1::2]]
        wanted = [[*encode_piece(tokenizer, c), tokenizer.eos_token_id] for c in shown]
        spans = [list(t.tokens[a:b]) for t in found for a, b in t.spans]
        assert spans == wanted
        [last] = found[-1:]
        plain = [{"role": (USER, ASSISTANT)[n % 2], "content": c} for n, c in enumerate(contents)][
            :-1
        ]
        text = tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False)
        # the text is the template's, and each token outside the spans the one it makes of it
        start = last.spans[-1][0]
        assert tokenizer.decode(last.tokens[:start]) == text
        outside = [token for token, trained in marked(last) if not trained]
        places = [0, *(e for _, e in last.spans)]
        parts = [last.tokens[p:a] for p, (a, _) in zip(places, last.spans, strict=False)]
        again = [
            tokenizer(tokenizer.decode(part), add_special_tokens=False)["input_ids"]
            for part in parts
        ]
        assert outside == [token for part in again for token in part]


def test_a_pad_token_that_is_the_end_token_changes_nothing(embedded_weights):
    listed = talk("hi", "yo", "x", "y")
    same, other = tokenizer_with(""), tokenizer_with("")
    assert same.pad_token_id == same.eos_token_id
    other.pad_token = "<|endoftext|>"
    assert encode_chat(same, listed) == encode_chat(other, listed)
    [turns] = encode_chat(same, listed)
    assert all(turns.tokens[end - 1] == same.pad_token_id for _, end in turns.spans)


def test_a_tokenizer_without_a_template_is_named(own):
    own.chat_template = None
    with pytest.raises(ValueError, match=r"has no chat template: set chat to false"):
        encode_chat(own, talk("hi", "yo"))


@pytest.mark.parametrize(
    ("roles", "reason", "said"),
    [
        ("assistant", "role out of order", "message 1, of role 'assistant', is the first"),
        ("user user assistant", "role out of order", "message 2, of role 'user', follows one of"),
        ("user system assistant", "role out of order", "message 2, of role 'system', follows"),
        ("system assistant", "role out of order", "message 2, of role 'assistant', follows"),
        ("user tool assistant", "unknown role", "message 2 is of role 'tool'"),
        ("user assistant user", "no answer at the end", "the last message is of role 'user'"),
        ("", "no answer at the end", "the last message is of role ''"),
    ],
)
def test_conversations_that_no_model_had_are_named(own, roles, reason, said):
    with pytest.raises(UnusableRow, match=said) as caught:
        encode_chat(own, [Message(role, "x") for role in roles.split()])
    assert caught.value.reason == reason


def test_cuts_by_hand():
    # places        0  1  2  3  4  5  6  7; targets are 3, 4 and 7, 8
    turns = joined([((1, 2), False), ((3, 4), True), ((5, 6), False), ((7, 8), True)])
    assert turns.spans == ((2, 4), (6, 8))
    assert turns.target == (3, 4, 7, 8)
    assert turns.first(7) == Turns((1, 2, 3, 4, 5, 6, 7), ((2, 4), (6, 7)))
    assert turns.first(6) == Turns((1, 2, 3, 4, 5, 6), ((2, 4),))
    assert turns.first(3) == Turns((1, 2, 3), ((2, 3),))
    assert turns.first(2) == Turns((1, 2), ())
    assert turns.first(8) == turns.last(8) == turns.last(9) == turns
    assert turns.last(6) == Turns((3, 4, 5, 6, 7, 8), ((1, 2), (4, 6)))  # nothing predicts the 3
    assert turns.last(5) == Turns((4, 5, 6, 7, 8), ((3, 5),))
    assert turns.last(2) == Turns((7, 8), ((1, 2),))
    assert turns.last(1) == Turns((8,), ())
    for spans in (((0, 2),), ((2, 9),), ((4, 2),), ((2, 5), (4, 6))):
        with pytest.raises(ValueError, match="they must ascend, from 1 on"):
            Turns(turns.tokens, spans)
