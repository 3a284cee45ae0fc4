"""Which examples make an optimizer step, and how a step is shared out. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random


def plan_epoch(count: int, batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Every index once, in a random order that (seed, epoch) decides, cut into optimizer steps."""
    order = list(range(count))
    Random(f"{seed}/{epoch}").shuffle(order)
    return [order[start : start + batch_size] for start in range(0, count, batch_size)]


def share(step: Sequence[int], lengths: Mapping[int, int], parts: int) -> list[list[int]]:
    """Cut a step into ``parts`` micro-batches of about equal tokens; some may be empty.

    The longest sequence goes first, each to the part with the fewest tokens so far.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    totals = [0] * parts
    for index in sorted(step, key=lambda index: (-lengths[index], index)):
        least = totals.index(min(totals))
        shares[least].append(index)
        totals[least] += lengths[index]
    return shares
