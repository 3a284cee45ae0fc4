"""Rows of preference pairs as token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from datamodules.conversations import messages_of, refuse_tools
from datamodules.solutions import SolutionEncoder, piece_of
from promptcot.chats import ASSISTANT, USER, Message, UnusableRow, encode_chat
from promptcot.pairs import Pair
from promptcot.tokens import Example

CHOSEN, REJECTED = "chosen", "rejected"


class PairEncoder(SolutionEncoder):
    """Makes pairs of rows.

    A row has a problem, or a ``prompt``, and ``chosen`` and ``rejected``, each a text or an object
    with ``text`` and ``tokens``. Prompt, chosen and rejected may also be lists of messages: each of
    the two the assistant's message alone, or the whole conversation, of which the last message is
    compared. Its arguments are those of ``SolutionEncoder``.
    """

    def pair(self, row: Mapping[str, Any], place: str) -> Pair:
        """The pair of one row.

        Raises:
            UnusableRow: Nothing can be learned from it.
            ValueError: It has messages, and is not to be put into a chat.
        """
        refuse_tools(row, place)
        if not any(isinstance(row.get(name), list) for name in ("prompt", CHOSEN, REJECTED)):
            return Pair(self.example(row, CHOSEN, place), self.example(row, REJECTED, place))
        if not self.chat:
            raise ValueError(
                f"{place} is a conversation, and data.chat is false: set it to true, for the "
                "model's chat template, or give prompt, chosen and rejected as texts"
            )
        chosen, rejected = (self._conversation(row, name, place) for name in (CHOSEN, REJECTED))
        if chosen[:-1] != rejected[:-1]:
            raise UnusableRow(
                "two prompts", f"{place}: chosen and rejected do not answer the same messages"
            )
        return Pair(self._answered(chosen, place), self._answered(rejected, place))

    def _conversation(self, row: Mapping[str, Any], name: str, place: str) -> list[Message]:
        """All messages of one side."""
        given, prompt = row.get(name), row.get("prompt")
        if isinstance(given, list):
            answer = list(messages_of(given, f"{place} {name}"))
            if answer and answer[0].role != ASSISTANT:
                return answer
        else:
            answer = [Message(ASSISTANT, piece_of(row, name, place))]
        if isinstance(prompt, list):
            return [*messages_of(prompt, f"{place} prompt"), *answer]
        return [Message(USER, self.text(row, place)), *answer]

    def _answered(self, messages: Sequence[Message], place: str) -> Example:
        """A conversation whose last message is the target."""
        try:
            compared = replace(messages[-1], is_target=True)  # weights are of what is imitated
            turns = encode_chat(self.tokenizer, [*messages[:-1], compared])[-1]
        except UnusableRow as error:
            raise UnusableRow(error.reason, f"{place}: {error}") from None
        start, end = turns.spans[-1]
        return Example(turns.tokens[:start], turns.tokens[start:end], (end - start,))
