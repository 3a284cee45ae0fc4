"""Rows to training sequences, by one process or several; the result is the same, in their order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from typing import Any, NamedTuple

from datamodules.conversations import ConversationEncoder
from promptcot.chats import UnusableRow
from promptcot.children import PARENT, die_with_parent
from promptcot.turns import Turns

Row = tuple[str, Mapping[str, Any]]
"""Place in words, and what stands there."""
CHUNK = 32
"""Rows that a process takes at once."""
AHEAD = 4
"""Chunks under way for each process: what is in memory."""


class Encoded(NamedTuple):
    """What came of a row: its sequences, or why there are none."""

    place: str
    name: str
    sequences: tuple[Turns, ...] = ()
    error: UnusableRow | None = None

    def named(self) -> Iterator[tuple[str, Turns]]:
        """Each sequence with a name; of several they are numbered."""
        for number, turns in enumerate(self.sequences, 1):
            yield (self.name if len(self.sequences) == 1 else f"{self.name}-{number}"), turns


def encode_rows(
    encoder: ConversationEncoder, rows: Iterable[Row], num_workers: int = 1
) -> Iterator[Encoded]:
    """What comes of each row, in their order.

    Args:
        encoder: Of rows.
        rows: Read as they are needed, never many at once.
        num_workers: Processes that encode; with 1 it is this one.
    """
    if num_workers == 1:
        yield from (encode_row(encoder, row) for row in rows)
        return
    rows, waiting = iter(rows), deque[Future[list[Encoded]]]()
    setup = (encoder, os.getpid())
    with ProcessPoolExecutor(num_workers, get_context("spawn"), _begin, setup) as pool:
        while chunk := list(islice(rows, CHUNK)):
            waiting.append(pool.submit(_encode_chunk, chunk))
            if len(waiting) >= AHEAD * num_workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def encode_row(encoder: ConversationEncoder, row: Row) -> Encoded:
    """What comes of one row."""
    place, fields = row
    name = str(fields.get("id") or place)
    try:
        return Encoded(place, name, encoder.encode(fields, place))
    except UnusableRow as error:
        return Encoded(place, name, error=error)


_encoder: ConversationEncoder
"""Of a process that does nothing else."""


def _begin(encoder: ConversationEncoder, parent: int) -> None:
    global _encoder
    os.environ[PARENT] = str(parent)
    die_with_parent()
    _encoder = encoder


def _encode_chunk(rows: Sequence[Row]) -> list[Encoded]:
    return [encode_row(_encoder, row) for row in rows]
