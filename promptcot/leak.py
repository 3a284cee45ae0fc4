"""What a rationale pays for quoting its problem, so that copying does not win the E-step.

The reward log p(z | c) + log p(x | z, c) can be had by writing x into z: the second term goes to
zero, and a copy is shorter than a rationale and a problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from promptcot.overlap import common_subsequence, longest_common_run, ngrams, num_words, words


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class LeakGuard:
    """A penalty on the words that a rationale has in common with its problem, in their order.

    With runs of f words free, the penalty counts the words of the longest common run beyond f,
    and the problem's distinct runs of f + 1 words that stand in the rationale: a problem of 40
    words copied whole counts 2 * (40 - f). A problem copied in shorter pieces, or with words in
    between, counts by the words that it has in common with a stretch of the rationale twice as
    long, in their order, beyond ``free_share`` of its own. The larger of both is taken. Honest
    rationales count nothing or next to it.

    Args:
        nats_per_word: Price of each. It must outweigh that a copy is short: with the embedded
            model a statement of 60 words in the place of a rationale of 140 gains 650 nats.
        free_words: Runs up to this length are free, terms and names that both must use; though
            never more than half of the problem's words.
        free_share: Of the problem's words, that may stand scattered; 1 for all. Of the bundled
            rationales none has more than 0.37.
    """

    nats_per_word: float = 50.0
    free_words: int = 4
    free_share: float = 0.6

    def __post_init__(self) -> None:
        if not 0 <= self.nats_per_word < math.inf or self.free_words < 0:
            raise ValueError(
                f"leak_guard nats_per_word={self.nats_per_word}, free_words={self.free_words}: "
                "both must be 0 or more, the first finite; to do without, set leak_guard to null"
            )
        if not 0 <= self.free_share <= 1:
            raise ValueError(
                f"leak_guard free_share={self.free_share}: it is a share of the problem's words, "
                "from 0 to 1; to do without, set leak_guard to null"
            )

    def penalty(self, rationale: str, statement: str) -> float:
        """What a rationale pays, in nats; 0 where no run of both is longer than the free ones."""
        of_problem = words(statement)
        free = min(self.free_words, int(num_words(of_problem) // 2))
        excess = max(0.0, longest_common_run(rationale, statement) - free)
        shared = ngrams(words(rationale), free + 1) & ngrams(of_problem, free + 1)
        return self.nats_per_word * max(excess + len(shared), self._scattered(rationale, statement))

    def _scattered(self, rationale: str, statement: str) -> float:
        """Words of the problem beyond the free share that stand within twice its length."""
        of_problem, said = words(statement), words(rationale)
        size = 2 * len(of_problem)
        starts = range(0, max(1, len(said) - size // 2), max(1, size // 4))
        common = max(common_subsequence(said[s : s + size], of_problem) for s in starts)
        return max(
            0.0, (common / max(1, len(of_problem)) - self.free_share) * num_words(of_problem)
        )
