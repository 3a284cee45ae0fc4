"""How much of one text stands in another: the leak of a problem into its own rationale.

The E-step's reward can be gamed by a rationale that quotes the problem (log p(x | z, c) then
goes to zero by copying), so these are reported beside every likelihood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Japanese and Chinese
)
"""Scripts that set no spaces between words."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_UNSEEN = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x2060, 0x2065), 0xFEFF])
"""Characters without width, which would make another word of what looks the same."""
_CHARACTER = re.compile(rf"[{_UNSPACED}]")
CHARACTERS_PER_WORD = 2
"""In scripts without spaces; about as many as the words of Chinese and Japanese have."""


def words(text: str) -> list[str]:
    """Lower-case words and numbers; punctuation and LaTeX's marks are no words.

    In scripts without spaces each character stands by itself; two count as one word below.
    """
    seen = text if text.isascii() else text.translate(_UNSEEN)
    return _WORD.findall(seen.casefold())


def num_words(tokens: Sequence[str]) -> float:
    """How many words these are; a whole number unless there are characters that stand alone."""
    characters = sum(map(_is_character, tokens))
    return len(tokens) - characters + characters / CHARACTERS_PER_WORD


def runs(tokens: Sequence[str], n: float) -> Iterator[tuple[str, ...]]:
    """All runs of ``n`` words: from each word on the shortest that has as many."""
    shares = [1 if _is_character(token) else CHARACTERS_PER_WORD for token in tokens]
    wanted = n * CHARACTERS_PER_WORD
    end = 0
    held = 0
    for start, share in enumerate(shares):
        while held < wanted:
            if end == len(tokens):
                return
            held += shares[end]
            end += 1
        yield tuple(tokens[start:end])
        held -= share


def ngrams(tokens: Sequence[str], n: float) -> set[tuple[str, ...]]:
    """The distinct runs of ``n`` words."""
    return set(runs(tokens, n))


def ngram_overlap(rationale: str, statement: str, n: int = 4) -> float:
    """Share of the problem's distinct n-grams that stand in the rationale, in [0, 1].

    A problem shorter than ``n`` words counts as one gram of all its words; an empty one gives 0.
    """
    of_problem = words(statement)
    size = min(n, num_words(of_problem))
    if size == 0:
        return 0.0
    grams = ngrams(of_problem, size)
    return len(grams & ngrams(words(rationale), size)) / len(grams)


def longest_common_run(first: str, second: str) -> float:
    """Length in words of the longest run of words that both texts contain."""
    a, b = words(first), words(second)
    match = SequenceMatcher(None, a, b, autojunk=False).find_longest_match()
    return num_words(a[match.a : match.a + match.size])


def common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest sequence of words that both have in this order, with gaps or without.

    Source:
        Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    places: dict[str, int] = {}
    for place, word in enumerate(second):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(second)) - 1
    left = everything
    for word in first:
        met = left & places.get(word, 0)
        left = (left + met | left - met) & everything
    return len(second) - left.bit_count()


def _is_character(token: str) -> bool:
    return len(token) == 1 and token > "\u0dff" and _CHARACTER.match(token) is not None
