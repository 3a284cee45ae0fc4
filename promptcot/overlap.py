"""How much of one text stands in another: the leak of a problem into its own rationale.

The E-step's reward can be gamed by a rationale that quotes the problem (log p(x | z, c) then
goes to zero by copying), so these are reported beside every likelihood.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """Lower-case words and numbers; punctuation and LaTeX's marks are no words."""
    return _WORD.findall(text.casefold())


def ngrams(tokens: Sequence[str], n: int) -> set[tuple[str, ...]]:
    """The distinct runs of ``n`` words."""
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def ngram_overlap(rationale: str, statement: str, n: int = 4) -> float:
    """Share of the problem's distinct n-grams that stand in the rationale, in [0, 1].

    A problem shorter than ``n`` words counts as one gram of all its words; an empty one gives 0.
    """
    of_problem = words(statement)
    n = min(n, len(of_problem))
    if n == 0:
        return 0.0
    grams = ngrams(of_problem, n)
    return len(grams & ngrams(words(rationale), n)) / len(grams)


def longest_common_run(first: str, second: str) -> int:
    """Length in words of the longest run of words that both texts contain."""
    a, b = words(first), words(second)
    return SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size
