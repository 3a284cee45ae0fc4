"""Rows of conversations, or of problems and their solutions, as training sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from datamodules.solutions import SolutionEncoder, piece_of
from promptcot.chats import ASSISTANT, USER, Message, UnusableRow, encode_chat
from promptcot.tokens import encode_piece, encode_prompt, end_token
from promptcot.turns import Turns, joined

ROLE_OF = {"human": USER, "gpt": ASSISTANT}
"""Roles of rows with ``conversations``, where they are others than ours."""
ANSWERS = ("solution", "completion", "response")
"""Names under which the answer to a prompt is found, the first that is there."""
UNREAD = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")
"""Parts of a message beside its content, which no sequence is made of."""
NO_TOOLS = ("[]", "{}", "null")
"""What stands in a column of JSON where a row has none."""
WHOLE = (None, "", "stop")
"""Finish reasons of an answer that its author ended."""


class ConversationEncoder(SolutionEncoder):
    """Makes training sequences of rows.

    A row has ``messages`` (of ``role`` and ``content``) or ``conversations`` (of ``from`` and
    ``value``); or a problem, or a ``prompt``, and its ``solution`` (also ``completion`` or
    ``response``). A prompt may be a list of messages, too. What the assistant says is a text, or
    an object with ``text`` and ``tokens``; a message of ``weight`` 0 is not learned. Its arguments
    are those of ``SolutionEncoder``.
    """

    def encode(self, row: Mapping[str, Any], place: str) -> tuple[Turns, ...]:
        """The sequences of one row, as a rule one.

        Args:
            row: As it was read.
            place: In words, for errors.

        Raises:
            UnusableRow: Nothing can be learned from it.
        """
        if row.get("finish_reason") not in WHOLE or row.get("finished") is False:
            raise UnusableRow(
                "cut-off answer",
                f"{place}: the answer did not come to its end ({row.get('finish_reason')})",
            )
        try:
            messages = list(self._messages(row, place))
            answers = [message for message in messages if message.role == ASSISTANT]
            if answers and not any(answer.is_target for answer in answers):
                raise UnusableRow("nothing to learn", f"{place}: all the answers have weight 0")
            return (
                encode_chat(self.tokenizer, messages) if self.chat else self._plain(messages, place)
            )
        except UnusableRow as error:
            detail = str(error)
            full = detail if detail.startswith(place) else f"{place}: {detail}"
            raise UnusableRow(error.reason, full) from None

    def _messages(self, row: Mapping[str, Any], place: str) -> Iterator[Message]:
        refuse_tools(row, place)
        listed = row.get("messages") or row.get("conversations")
        if listed:
            yield from messages_of(listed, place)
            return
        name = next((name for name in ANSWERS if row.get(name) is not None), ANSWERS[0])
        if isinstance(row.get("prompt"), list):
            yield from messages_of(row["prompt"], place)
        else:
            yield Message(USER, self.text(row, place))
        if isinstance(row.get(name), list):
            yield from messages_of(row[name], place)
        else:
            yield Message(ASSISTANT, piece_of(row, name, place))

    def _plain(self, messages: Sequence[Message], place: str) -> tuple[Turns]:
        """A prompt and its continuation, without any template."""
        if [message.role for message in messages] != [USER, ASSISTANT]:
            raise ValueError(
                f"{place} is a conversation, and data.chat is false: set it to true, for the "
                "model's chat template, or give rows of a prompt and a solution"
            )
        prompt, answer = (message.content for message in messages)
        before = prompt if isinstance(prompt, tuple) else encode_prompt(self.tokenizer, prompt)
        if not before:
            raise UnusableRow("empty prompt", f"{place}: the prompt has no tokens")
        target = (*encode_piece(self.tokenizer, answer), end_token(self.tokenizer))
        return (joined([(before, False), (target, True)]),)


def refuse_tools(row: Mapping[str, Any], place: str) -> None:
    """Refuse a row whose assistant had tools: its prompt would be made without them.

    Raises:
        UnusableRow: It had.
    """
    tools = row.get("tools")
    if tools and tools not in NO_TOOLS:
        raise UnusableRow(
            "row with tools",
            f"{place} has tools, {str(tools)[:60]!r}, which would be left out of the "
            "prompt: put them into the system's message, as the model reads them, and leave out "
            "the column",
        )


def messages_of(listed: object, place: str) -> Iterator[Message]:
    """Messages of a list in a row.

    Raises:
        UnusableRow: It is none, or one of them is empty, says something beside its content or has
            a weight other than 0 and 1.
    """
    if not isinstance(listed, Sequence) or not all(isinstance(m, Mapping) for m in listed):
        raise UnusableRow("no messages", f"{place}: the messages are {str(listed)[:60]!r}")
    for number, message in enumerate(listed, 1):
        if unread := [name for name in UNREAD if message.get(name)]:
            raise UnusableRow(
                f"message with {unread[0]}",
                f"{place} message {number} has {', '.join(unread)}, which would be left out: put "
                "thoughts into its content, as the model writes them, and leave out calls of tools",
            )
        role = message.get("role", message.get("from"))
        name = "value" if "value" in message and "content" not in message else "content"
        content = piece_of(message, name, f"{place} message {number}")
        weight = message.get("weight")
        if weight not in (None, 0, 1):
            raise UnusableRow(
                "weight of a message",
                f"{place} message {number} has weight {weight!r}: 1 is learned, 0 is not; leave "
                "out the row, or set data.mixture with another weight for its file",
            )
        yield Message(ROLE_OF.get(str(role), str(role)), content, weight != 0)
