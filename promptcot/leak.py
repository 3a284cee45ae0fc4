"""What a rationale pays for quoting its problem, so that copying does not win the E-step.

The reward log p(z | c) + log p(x | z, c) can be had by writing x into z: the second term goes to
zero, and a copy is shorter than a rationale and a problem.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptcot.overlap import longest_common_run, ngrams, words


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class LeakGuard:
    """A penalty on the words that a rationale has in common with its problem, in their order.

    With runs of f words free, the penalty counts the words of the longest common run beyond f,
    and the problem's distinct runs of f + 1 words that stand in the rationale. A problem of 40
    words copied whole costs 2 * (40 - f) words; honest rationales cost nothing or next to it.

    Args:
        nats_per_word: Price of each. Above what a word of the problem is worth to p, so that no
            quotation pays: a statement of competition mathematics costs about 3 nats a word.
        free_words: Runs up to this length are free: terms and names that both must use.
    """

    nats_per_word: float = 5.0
    free_words: int = 4

    def __post_init__(self) -> None:
        if self.nats_per_word < 0 or self.free_words < 0:
            raise ValueError(
                f"leak_guard nats_per_word={self.nats_per_word}, free_words={self.free_words}: "
                "both must be 0 or more; to do without, set leak_guard to null"
            )

    def penalty(self, rationale: str, statement: str) -> float:
        """What a rationale pays, in nats; 0 where no run of both is longer than the free ones."""
        excess = max(0, longest_common_run(rationale, statement) - self.free_words)
        n = self.free_words + 1
        shared = ngrams(words(rationale), n) & ngrams(words(statement), n)
        return self.nats_per_word * (excess + len(shared))
