"""Solutions of problems as token ids: prompts as the sampling engine made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptcot.chats import UnusableRow
from promptcot.columns import Columns
from promptcot.corpora import Corpus, read_rows
from promptcot.protocols import Piece
from promptcot.records import Domain, Problem
from promptcot.stage_rows import Row
from promptcot.store import round_manifest
from promptcot.tokens import Example, encode_piece, encode_prompt, end_token, in_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class SolutionEncoder:
    """Makes sequences of problems and their solutions.

    Args:
        tokenizer: The model's own.
        format: Has ``solve_prompt``.
        chat: Whether the prompt becomes a user's message.
        domain: Of rows that do not name one.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        format: Any,  # noqa: ANN401
        chat: bool,
        domain: str = Domain.MATH,
    ) -> None:
        self.tokenizer = tokenizer
        self.format = format
        self.domain = domain
        self.chat = chat
        self.to_prompt = in_chat if chat else encode_prompt
        self.end = end_token(tokenizer)

    def prompt(self, row: Mapping[str, Any], place: str) -> tuple[int, ...]:
        """Token ids of ``text``."""
        return self.to_prompt(self.tokenizer, self.text(row, place))

    def text(self, row: Mapping[str, Any], place: str) -> str:
        """The prompt of the row's problem, or its ``prompt`` as it stands.

        Raises:
            UnusableRow: It has neither.
        """
        given = row.get("prompt")
        if given is None:
            given = self.format.solve_prompt(_problem(row, place, self.domain))
        elif not isinstance(given, str):
            raise UnusableRow(
                "prompt of no text", f"{place}: the prompt is {str(given)[:60]!r}, which is no text"
            )
        return given

    def example(self, row: Mapping[str, Any], name: str, place: str) -> Example:
        """The prompt, then the solution in field ``name`` and the end token."""
        target = (*encode_piece(self.tokenizer, piece_of(row, name, place)), self.end)
        return Example(self.prompt(row, place), target, (len(target),))


def read_solutions(corpus: Corpus) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place and row of each solution or pair.

    Raises:
        ValueError: Other names of columns are given, of which none is read here.
    """
    if corpus.columns != Columns():
        raise ValueError(
            "data.corpus.columns names columns of problems, but solutions are read from rows with "
            "statement (or prompt) and solution, or chosen and rejected: rename them in the file"
        )
    return read_rows(corpus)


def was_in_chat(corpus: Corpus, chat: bool | None) -> bool:
    """Whether the prompts of the rows are messages of a chat.

    Args:
        corpus: The rows; the manifest of a round tells how its engine was asked.
        chat: What was asked for; None to take the manifest's word, or true without one.

    Raises:
        ValueError: The round was made the other way.
    """
    made = _engine_settings(_manifest(corpus)).get("chat")
    if made is not None and chat is not None and made != chat:
        raise ValueError(
            f"data.chat is {str(chat).lower()}, but the round of {corpus.path} was sampled with "
            f"chat: {str(made).lower()} in its engine, so that the model would be trained on "
            "prompts that it was not given: leave data.chat at null"
        )
    if chat is not None:
        return chat
    return True if made is None else bool(made)


def manifest_settings(corpus: Corpus) -> Row:
    """Settings of the round that the rows belong to; empty where they belong to none."""
    return dict(_manifest(corpus).get("settings", {}))


def _manifest(corpus: Corpus) -> Row:
    return round_manifest(Path(corpus.path).parent)


def _engine_settings(manifest: Row) -> Mapping[str, Any]:
    engine = (manifest.get("settings") or {}).get("engine") or {}
    found: Mapping[str, Any] = engine.get("init_args") or {}
    return found


def _problem(row: Mapping[str, Any], place: str, default: str) -> Problem:
    statement = row.get("statement")
    if not isinstance(statement, str) or not statement.strip():
        raise UnusableRow(
            "no problem", f"{place} has no statement of a problem, and no prompt: it needs one"
        )
    domain = row.get("domain") or default
    if domain not in list(Domain):
        raise UnusableRow(
            "unknown domain", f"{place}: the domain is {domain!r}, but it can be 'math' or 'code'"
        )
    return Problem(str(row.get("id", place)), Domain(domain), statement)


def piece_of(row: Mapping[str, Any], name: str, place: str) -> Piece:
    """A text, or the token ids of one as they were sampled.

    Raises:
        UnusableRow: It is neither, or empty.
    """
    given = row.get(name)
    if isinstance(given, Mapping):
        tokens = given.get("tokens")
        given = _ids(tokens, f"{place}: the tokens of {name}") if tokens else given.get("text")
    if isinstance(given, list):
        raise UnusableRow(
            f"{name} of no text",
            f"{place}: {name} is a list, {str(given)[:60]!r}: give a text, or an object with text "
            "and tokens",
        )
    if not given or not isinstance(given, str | tuple):
        raise UnusableRow(
            f"no {name}",
            f"{place} has no {name}: it needs a text, or an object with text and tokens",
        )
    return given


def _ids(tokens: object, what: str) -> tuple[int, ...]:
    if not isinstance(tokens, list) or not all(type(t) is int and t >= 0 for t in tokens):
        raise UnusableRow(
            "no token ids", f"{what} are {str(tokens)[:60]!r}, which is no list of token ids"
        )
    return tuple(tokens)
