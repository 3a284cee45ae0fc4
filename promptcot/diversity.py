"""How much texts and answers differ from each other. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from promptcot.overlap import words


def distinct_ngrams(texts: Iterable[str], n: int) -> float:
    """Share of distinct ones among all runs of ``n`` words of the texts, in (0, 1].

    A text of fewer words contributes none. Where there is no run at all nothing is repeated, and
    the share is 1: that texts have become short is for their length to tell. The more texts, and
    the longer, the smaller it is by itself: compare it between equal numbers of texts.

    Source:
        Li et al. 2016, arXiv:1510.03055, section 5.2: distinct-n.
    """
    if n < 1:
        raise ValueError(f"n={n}: a run has at least 1 word")
    tokens = [words(text) for text in texts]
    grams = [tuple(t[i : i + n]) for t in tokens for i in range(len(t) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def entropy(counts: Mapping[object, int]) -> float:
    """Of drawing one of all that were counted, in nats: 0 where all are the same.

    At most log k for k labels, where each was counted equally often; 0 where nothing was counted.

    Args:
        counts: How often each label came; ``collections.Counter`` makes them.
    """
    total = sum(counts.values())
    shares = [count / total for count in counts.values() if count]
    return math.fsum(share * -math.log(share) for share in shares)
