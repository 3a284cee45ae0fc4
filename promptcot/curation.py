"""What may not enter a set of new problems: copies of each other and of the seeds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from promptcot.overlap import ngrams, words

NGRAM = 13
"""Words in a row that make a new problem a copy (the paper's decontamination length)."""
_MARKS = re.compile(r"(?:\s|\$|\\[()\[\],;:!]|\\(?:left|right)(?![a-z])|[.,;:?](?!\d))+")
"""What two spellings of one statement differ in: spaces, delimiters of formulas, punctuation."""


def spelling(statement: str) -> str:
    """Equal for statements that differ in case, white space and marks around formulas alone."""
    text = unicodedata.normalize("NFC", statement).casefold()

    def without(marks: re.Match[str]) -> str:  # 1, 12 is another list than 11, 2
        around = (
            text[max(0, marks.start() - 1) : marks.start()],
            text[marks.end() : marks.end() + 1],
        )
        return " " if all(map(str.isdigit, around)) else ""

    return _MARKS.sub(without, text)


class KnownStatements:
    """Recognises a statement that repeats a known one: as a whole, or 13 words in a row."""

    def __init__(self, statements: Iterable[str]) -> None:
        statements = list(statements)
        self._grams = {gram for known in statements for gram in ngrams(words(known), NGRAM)}
        self._keys = {spelling(known) for known in statements}

    def has(self, statement: str) -> bool:
        """Whether it repeats one, case, white space and marks around formulas aside."""
        shared = not self._grams.isdisjoint(ngrams(words(statement), NGRAM))
        return shared or spelling(statement) in self._keys


class CopyFilter:
    """Recognises a statement that repeats a seed problem or one seen before.

    Args:
        seeds: Statements of the seed corpus.
    """

    def __init__(self, seeds: Iterable[str]) -> None:
        self._seeds = KnownStatements(seeds)
        self._seen: set[str] = set()

    def reason_to_drop(self, statement: str) -> str | None:
        """Why the statement is a copy; None, and it is remembered, where it is not."""
        if self._seeds.has(statement):
            return "copies a seed problem"
        key = spelling(statement)
        if key in self._seen:
            return "copies another new problem"
        self._seen.add(key)
        return None
