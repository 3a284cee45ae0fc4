"""Conversations in a model's chat template, as token ids.

The template decides what stands around the assistant's messages, as it does when the model is
asked. Each of these is tokenised on its own, as it is sampled, or is given as ids, and the token
that ends its turn is a target, too. Nothing depends on marks in the template, and no mask is
found by looking for tokens in a text that was tokenised again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from promptcot.protocols import Piece
from promptcot.tokens import encode_piece, end_token
from promptcot.turns import Turns, joined

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
FOLLOWS: Mapping[str, tuple[str, ...]] = {
    SYSTEM: ("",),
    USER: ("", SYSTEM, ASSISTANT),
    ASSISTANT: (USER,),
}
"""Whose message may stand before whose; "" is the beginning."""
STAND_IN = "stand-in"
"""For what is said; within no control token, as "text" is within <|endoftext|>."""
THINK = "<think>"


@dataclass(frozen=True, slots=True)
class Message:
    """What somebody said; of the assistant also as the token ids that were sampled."""

    role: str
    content: Piece
    is_target: bool = True
    """Of the assistant's: whether it is learned, or only stands before what is."""


class UnusableRow(ValueError):
    """A row that nothing can be learned from; ``reason`` counts all of its kind.

    Args:
        reason: The kind.
        detail: What is wrong with this one.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnusableRow], tuple[str, str]]:
        return UnusableRow, (self.reason, str(self))  # it comes from processes that encode


def check_roles(messages: Sequence[Message]) -> None:
    """Refuse a conversation that no model could have had.

    Raises:
        UnusableRow: A role is unknown or out of order, a message is empty, or the assistant does
            not have the last word.
    """
    before = ""
    for number, message in enumerate(messages, 1):
        if message.role not in FOLLOWS:
            raise UnusableRow(
                "unknown role",
                f"message {number} is of role {message.role!r}: there are {', '.join(FOLLOWS)}",
            )
        if before not in FOLLOWS[message.role]:
            place = f"follows one of role {before!r}" if before else "is the first"
            raise UnusableRow(
                "role out of order", f"message {number}, of role {message.role!r}, {place}"
            )
        if not (message.content.strip() if isinstance(message.content, str) else message.content):
            raise UnusableRow("empty message", f"message {number}, of role {message.role!r}")
        before = message.role
    if before != ASSISTANT:
        raise UnusableRow(
            "no answer at the end", f"the last message is of role {before!r}, not the assistant's"
        )


def encode_chat(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[Turns, ...]:
    """The conversation, with the assistant's turns as targets, those that are marked as none aside.

    It is one sequence where the template only ever appends. Templates that rewrite what was said
    before (Qwen3 takes out earlier thoughts) give a sequence to each turn of the assistant, with
    what stood before it as the template shows it then.

    Raises:
        UnusableRow: See ``check_roles``, or the template refuses the conversation.
        ValueError: The tokenizer has no chat template.
    """
    check_roles(messages)
    whole = _appended(tokenizer, messages)
    if whole is not None:
        return (whole,)
    return tuple(
        _alone(tokenizer, messages[:number], message)
        for number, message in enumerate(messages)
        if message.role == ASSISTANT and message.is_target
    )


@lru_cache(maxsize=8)
def turn_end(tokenizer: PreTrainedTokenizerBase) -> str:
    """What the template writes behind the assistant's words, up to its first control token.

    Empty where there is none; then a turn ends with the tokenizer's end token.
    """
    exchange = [Message(USER, STAND_IN), Message(ASSISTANT, STAND_IN)]
    _, _, behind = render(tokenizer, exchange, asks=False).rpartition(STAND_IN)
    # all_special_tokens leaves out those that have no name, such as Gemma's <end_of_turn>
    added = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
    controls = sorted({*tokenizer.all_special_tokens, *added}, key=len, reverse=True)
    ends = [(behind.find(token), token) for token in controls if token in behind]
    if not ends:
        return ""
    place, token = min(ends)
    if token != tokenizer.eos_token:
        log.warning(
            "the chat template of %s ends the assistant's turns with %s, but its end token is %s, "
            "at which engines stop: set eos_token in its tokenizer_config.json",
            tokenizer.name_or_path,
            token,
            tokenizer.eos_token,
        )
    return behind[: place + len(token)]


def render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], asks: bool) -> str:
    """The text of a conversation.

    Args:
        tokenizer: Has a chat template.
        messages: Token ids stand as their text.
        asks: Whether the assistant is to speak next.

    Raises:
        ValueError: There is no chat template.
        UnusableRow: It refuses these messages.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path} has no chat template: set chat to false, "
            "or choose an instruction-tuned model"
        )
    plain = [{"role": m.role, "content": _text(tokenizer, m.content)} for m in messages]
    try:
        text: Any = tokenizer.apply_chat_template(plain, add_generation_prompt=asks, tokenize=False)
    except Exception as error:  # what a template raises is its own
        raise UnusableRow(
            "refused by the template",
            f"the chat template of {tokenizer.name_or_path} refuses roles "
            f"{', '.join(m.role for m in messages)}: {error}",
        ) from error
    return str(text)


def _appended(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Turns | None:
    """The whole conversation in one; None where the template does not only append."""
    end = turn_end(tokenizer)
    done = ""
    parts: list[tuple[Sequence[int], bool]] = []
    for number, message in enumerate(messages):
        if message.role != ASSISTANT:
            continue
        before = render(tokenizer, messages[:number], asks=True)
        after = render(tokenizer, messages[: number + 1], asks=False)
        said = _as_shown(tokenizer, message.content, after.removeprefix(before))
        if not before.startswith(done) or said is None or not end:
            return None
        shown, piece = said
        parts.append((_markup(tokenizer, before[len(done) :]), False))
        turn = (*encode_piece(tokenizer, piece), *_markup(tokenizer, end))
        parts.append((turn, message.is_target))
        done = before + shown + end
        if not after.startswith(done):
            return None
    return joined(parts)


def _alone(
    tokenizer: PreTrainedTokenizerBase, before: Sequence[Message], message: Message
) -> Turns:
    """One turn of the assistant, after what the model would be given for it."""
    end = turn_end(tokenizer)
    ending = _markup(tokenizer, end) if end else (end_token(tokenizer),)
    asked = render(tokenizer, before, asks=True)
    said = encode_piece(tokenizer, _without_opening(asked, message.content))
    return joined([(_markup(tokenizer, asked), False), ((*said, *ending), True)])


def _without_opening(asked: str, content: Piece) -> Piece:
    """A message without the ``<think>`` that the template has opened for it already."""
    opened = asked.rstrip()
    if not isinstance(content, str) or not opened.endswith(THINK):
        return content
    if not content.startswith(THINK):
        return content
    return content.removeprefix(THINK).removeprefix(asked.removeprefix(opened))


def _as_shown(
    tokenizer: PreTrainedTokenizerBase, content: Piece, rest: str
) -> tuple[str, Piece] | None:
    """A message as it begins the rest of the text, and as it is tokenised; None if it does not.

    Some templates (Llama 3's) strip it.
    """
    text = _text(tokenizer, content)
    for shown in (text, text.strip()):
        if rest.startswith(shown):
            return shown, shown if isinstance(content, str) else content
    return None


def _markup(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Token ids of what the template wrote, control tokens included."""
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _text(tokenizer: PreTrainedTokenizerBase, content: Piece) -> str:
    return content if isinstance(content, str) else str(tokenizer.decode(list(content)))
