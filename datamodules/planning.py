"""Which rows make an optimizer step, and how a step is shared out. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from random import Random

import numpy as np

from promptcot.chunks import chunks

LOOKAHEAD = 256
"""Rows that found no room in a step before it is closed; they come first in the next one."""


@dataclass(frozen=True, slots=True)
class Source:
    """Rows ``start`` to ``start + count`` of all, and how often an epoch takes them.

    Args:
        name: In the logs.
        start: Number of its first row.
        count: Of its rows.
        weight: Times that an epoch takes each row; of a fraction the rows take turns.
    """

    name: str
    start: int
    count: int
    weight: float = 1.0

    def of_epoch(self, seed: int, epoch: int) -> list[int]:
        """Numbers of the rows of an epoch; equally many in each, one at least.

        Of a weight of 0.5 two epochs in a row take every row once.
        """
        size = max(1, round(self.weight * self.count)) if self.count else 0
        if size == self.count:
            return list(range(self.start, self.start + self.count))
        order = list(range(self.start, self.start + self.count))
        Random(f"{seed}/{self.name}").shuffle(order)
        first = epoch * size
        return [order[place % self.count] for place in range(first, first + size)]


@dataclass(frozen=True)
class Plan:
    """The optimizer steps of each epoch; seed, epoch and rows decide them, and nothing else.

    Args:
        sources: Of the rows.
        seed: Of their order.
        batch_size: Rows of a step, over all ranks and micro-batches.
        token_budget: Most tokens of one micro-batch. With it a step takes as many rows as its
            micro-batches can hold, whatever ``batch_size``.
    """

    sources: tuple[Source, ...]
    seed: int
    batch_size: int
    token_budget: int | None = None

    def order(self, epoch: int) -> list[int]:
        """The rows of an epoch, in a random order."""
        rows = [row for source in self.sources for row in source.of_epoch(self.seed, epoch)]
        Random(f"{self.seed}/{epoch}").shuffle(rows)
        return rows

    def steps(self, lengths: Sequence[int], epoch: int, parts: int) -> list[list[int]]:
        """The rows of each step of an epoch; every row of the epoch is in one of them.

        Args:
            lengths: Tokens of every row.
            epoch: Counted from 0.
            parts: Micro-batches of a step over all ranks.
        """
        order = self.order(epoch)
        if self.token_budget is None:
            size = self.batch_size
            return [order[start : start + size] for start in range(0, len(order), size)]
        return fill_steps(order, lengths, self.token_budget, parts)

    def micro_batches(
        self, step: Sequence[int], lengths: Sequence[int], parts: int
    ) -> list[list[int]]:
        """A step cut into micro-batches; some may be empty."""
        if self.token_budget is None:
            return share(step, lengths, parts)
        bins = Bins(self.token_budget, parts)
        for row in step:  # in the order in which they found their places before
            bins.take(row, lengths[row])
        return bins.rows


class Bins:
    """Micro-batches that are filled, each row into the fullest that still has room."""

    def __init__(self, budget: int, parts: int) -> None:
        self.room = [(budget, place) for place in range(parts)]  # always ascending
        self.rows: list[list[int]] = [[] for _ in range(parts)]

    def take(self, row: int, length: int) -> bool:
        """Put a row where it leaves the least room; False where it fits nowhere."""
        found = bisect_left(self.room, (length, 0))
        if found == len(self.room):
            return False
        room, place = self.room.pop(found)
        insort(self.room, (room - length, place))
        self.rows[place].append(row)
        return True


def fill_steps(
    order: Sequence[int], lengths: Sequence[int], budget: int, parts: int
) -> list[list[int]]:
    """Steps of ``parts`` micro-batches of at most ``budget`` tokens, nearly full.

    A row that finds no room waits for the next step; a step is closed when ``LOOKAHEAD`` wait.

    Raises:
        ValueError: A row is longer than the budget.
    """
    taken = np.asarray(lengths)[np.array(order, np.intp)].tolist()
    if (longest := max(taken, default=0)) > budget:
        raise ValueError(
            f"a row of {longest} tokens is longer than the token_budget of {budget}: raise it, or "
            "lower max_tokens"
        )
    steps: list[list[int]] = []
    rows = zip(order, taken, strict=True)
    waiting: list[tuple[int, int]] = []
    while True:
        step: list[int] = []
        bins = Bins(budget, parts)
        first, waiting = waiting, []
        for row, length in chain(first, rows):
            if bins.take(row, length):
                step.append(row)
            else:
                waiting.append((row, length))
                if len(waiting) == LOOKAHEAD:
                    break
        if not step:
            return steps
        steps.append(step)


def runs(lengths: Sequence[int], rows: int, budget: int | None) -> list[range]:
    """Consecutive rows cut into micro-batches that keep their order.

    Args:
        lengths: Tokens of every row.
        rows: Most rows of one, where there is no budget.
        budget: Most tokens of one; a row that is longer is one by itself.
    """
    if budget is None:
        return list(chunks(len(lengths), rows))
    starts, tokens = [], budget + 1
    for row, length in enumerate(lengths):
        tokens += length
        if tokens > budget:
            starts.append(row)
            tokens = length
    return [range(*pair) for pair in pairwise([*starts, len(lengths)])]


def share(step: Sequence[int], lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Cut a step into ``parts`` micro-batches of about equal tokens; some may be empty.

    The longest row goes first, each to the part with the fewest tokens so far.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    totals = [0] * parts
    for row in sorted(step, key=lambda row: (-lengths[row], row)):
        least = totals.index(min(totals))
        shares[least].append(row)
        totals[least] += lengths[row]
    return shares
