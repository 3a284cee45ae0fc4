"""What may not enter a set of new problems: copies of each other and of the seeds."""

from __future__ import annotations

from collections.abc import Iterable

from promptcot.overlap import ngrams, words
from promptcot.split import statement_key

NGRAM = 13
"""Words in a row that make a new problem a copy (the paper's decontamination length)."""


class CopyFilter:
    """Recognises a statement that repeats a seed problem or one seen before.

    Args:
        seeds: Statements of the seed corpus.
    """

    def __init__(self, seeds: Iterable[str]) -> None:
        seeds = list(seeds)
        self._grams = {gram for seed in seeds for gram in ngrams(words(seed), NGRAM)}
        self._seeds = {statement_key(seed) for seed in seeds}
        self._seen: set[str] = set()

    def reason_to_drop(self, statement: str) -> str | None:
        """Why the statement is a copy; None, and it is remembered, where it is not."""
        key = statement_key(statement)
        if key in self._seeds or not self._grams.isdisjoint(ngrams(words(statement), NGRAM)):
            return "copies a seed problem"
        if key in self._seen:
            return "copies another new problem"
        self._seen.add(key)
        return None
