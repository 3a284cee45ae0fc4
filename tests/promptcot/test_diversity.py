"""Diversity of texts and answers, by hand and at its limits."""

import math
from collections import Counter
from itertools import permutations

import pytest

from promptcot.diversity import distinct_ngrams, entropy


def test_the_share_of_distinct_runs_by_hand():
    # a b, b c and a b, b d: four runs, of which a b comes twice
    assert distinct_ngrams(["a b c", "A, b: d"], 2) == 3 / 4
    # within one text, too: a a three times
    assert distinct_ngrams(["a a a a"], 2) == 1 / 3


def test_of_k_equal_texts_one_in_k_runs_is_distinct_and_of_different_ones_each():
    assert distinct_ngrams(["one two three four five"] * 8, 4) == 1 / 8
    assert distinct_ngrams(["a b c d", "e f g h"], 4) == 1.0


def test_short_texts_contribute_no_run_and_without_any_nothing_is_repeated():
    assert distinct_ngrams(["a b c d", "a b c", ""], 4) == 1.0
    assert distinct_ngrams(["42", "42"], 4) == 1.0
    assert distinct_ngrams([], 1) == 1.0


def test_a_run_of_no_words_is_refused():
    with pytest.raises(ValueError, match="n=0: a run has at least 1 word"):
        distinct_ngrams(["a"], 0)


def test_entropy_by_hand_and_at_its_limits():
    assert entropy(Counter("aaaa")) == 0.0
    assert entropy({}) == 0.0
    assert entropy(Counter("abcd")) == pytest.approx(math.log(4))
    # 3/4 and 1/4: 3/4 log(4/3) + 1/4 log 4
    by_hand = 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    assert entropy({"a": 3, "b": 1, "c": 0}) == pytest.approx(by_hand)


def test_no_order_changes_either():
    texts = ["a b c", "a b", "c a b a"]
    assert len({distinct_ngrams(order, 2) for order in permutations(texts)}) == 1
    assert len({entropy(Counter(order)) for order in permutations("aabbbc")}) == 1
