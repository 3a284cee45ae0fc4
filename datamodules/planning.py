"""Which rows make an optimizer step, and how a step is shared out. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random

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
        """Numbers of the rows of an epoch; equally many in each.

        Of a weight of 0.5 two epochs in a row take every row once.
        """
        size = round(self.weight * self.count)
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
        self.room = [budget] * parts
        self.rows: list[list[int]] = [[] for _ in range(parts)]

    def take(self, row: int, length: int) -> bool:
        """Put a row where it leaves the least room; False where it fits nowhere."""
        left, place = min(
            ((room - length, place) for place, room in enumerate(self.room) if room >= length),
            default=(-1, -1),
        )
        if place < 0:
            return False
        self.room[place] = left
        self.rows[place].append(row)
        return True


def fill_steps(
    order: Iterable[int], lengths: Sequence[int], budget: int, parts: int
) -> list[list[int]]:
    """Steps of ``parts`` micro-batches of at most ``budget`` tokens, nearly full.

    A row that finds no room waits for the next step; a step is closed when ``LOOKAHEAD`` wait.

    Raises:
        ValueError: A row is longer than the budget.
    """
    steps: list[list[int]] = []
    waiting: deque[int] = deque()
    rows = iter(order)
    while True:
        step: list[int] = []
        bins = Bins(budget, parts)
        for row in [waiting.popleft() for _ in range(len(waiting))]:
            (step if bins.take(row, lengths[row]) else waiting).append(row)
        while len(waiting) < LOOKAHEAD and (row := next(rows, -1)) >= 0:
            (step if bins.take(row, lengths[row]) else waiting).append(row)
        if not step:
            if waiting:
                raise ValueError(
                    f"a row of {lengths[waiting[0]]} tokens is longer than the token_budget of "
                    f"{budget}: raise it, or lower max_tokens"
                )
            return steps
        steps.append(step)


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
