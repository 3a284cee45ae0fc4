"""The concept vocabulary of a corpus, and how new concept sets are drawn from it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from random import Random

from promptcot.records import Domain, Problem


class ConceptSampler:
    """Draws sets of concepts that tend to occur together, within one domain.

    The first concept of a set is drawn by its frequency, each next one by a softmax over how
    often it occurs in the corpus together with those already chosen. Levels are drawn by their
    frequency. No set is drawn twice, and none is that of a corpus problem.

    Args:
        problems: The corpus; only its concepts and levels are used.
        size: Concepts in a set.
        temperature: Of the softmax; towards 0 only the most frequent company is drawn.

    Source:
        The concept sampler of PromptCoT 1.0 (arXiv 2503.02324), without its embeddings.
    """

    def __init__(
        self, problems: Sequence[Problem], size: int = 5, temperature: float = 1.0
    ) -> None:
        self.problems = [problem for problem in problems if problem.concepts]
        self.size = size
        self.temperature = temperature
        self._known = {(p.domain, frozenset(p.concepts)) for p in self.problems}
        self._counts = {domain: self._count(domain) for domain in Domain}
        self._pairs = Counter(
            (p.domain, *pair)
            for p in self.problems
            for a, b in combinations(sorted(set(p.concepts)), 2)
            for pair in ((a, b), (b, a))
        )
        if not any(len(counts) >= size for counts in self._counts.values()):
            raise ValueError(
                f"no domain of the corpus has the {size} different concepts a set needs: "
                "annotate more problems or draw smaller sets"
            )

    def draw(self, number: int, seed: int) -> list[Problem]:
        """``number`` problems still without statement; fewer when no new set can be found."""
        rng = Random(f"concepts/{seed}")
        drawn: list[Problem] = []
        for _ in range(20 * number):
            if len(drawn) == number:
                break
            like = rng.choice(self.problems)
            if len(self._counts[like.domain]) < self.size:
                continue
            concepts = self._draw_set(like.domain, rng)
            if (like.domain, frozenset(concepts)) not in self._known:
                self._known.add((like.domain, frozenset(concepts)))
                name = f"new-{seed}-{len(drawn) + 1:05d}"
                drawn.append(Problem(name, like.domain, "", concepts, like.level))
        return drawn

    def _draw_set(self, domain: Domain, rng: Random) -> tuple[str, ...]:
        counts = self._counts[domain]
        names = sorted(counts)
        chosen = rng.choices(names, [counts[name] for name in names])
        while len(chosen) < self.size:
            rest = [name for name in names if name not in chosen]
            together = [sum(self._pairs[domain, name, c] for c in chosen) for name in rest]
            top = max(together)
            chosen += rng.choices(
                rest, [math.exp((count - top) / self.temperature) for count in together]
            )
        return tuple(chosen)

    def _count(self, domain: Domain) -> Counter[str]:
        return Counter(c for p in self.problems if p.domain is domain for c in set(p.concepts))
