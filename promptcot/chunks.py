"""Consecutive ranges of indices."""

from collections.abc import Iterator


def chunks(count: int, size: int) -> Iterator[range]:
    """``range(count)`` cut into ranges of ``size``, the last one shorter where it must be."""
    return (range(start, min(start + size, count)) for start in range(0, count, size))
