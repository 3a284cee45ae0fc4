"""Encoded rows: in memory, or on disk with only their lengths in memory."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa

from promptcot.store import read_json, write_json
from promptcot.tokens import Trainable
from promptcot.turns import Turns

E = TypeVar("E", bound=Trainable)
E_co = TypeVar("E_co", bound=Trainable, covariant=True)
ROWS_FILE, INDEX_FILE, MANIFEST_FILE = "rows.arrow", "index.npy", "manifest.json"
BATCH = 64
"""Rows of one record batch: what is in memory while writing."""
SCHEMA = pa.schema([("tokens", pa.list_(pa.int32())), ("spans", pa.list_(pa.int32()))])


class Rows(Protocol[E_co]):
    """Rows that a plan can be made of without reading them."""

    @property
    def lengths(self) -> Sequence[int]:
        """Tokens of each."""
        ...

    def terms(self, row: int) -> tuple[int, ...]:
        """How many terms one gives to each mean that the loss is made of."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, row: int) -> E_co: ...


class RowsInMemory(Sequence[E]):
    """A list of examples."""

    def __init__(self, examples: Sequence[E]) -> None:
        self.examples = examples
        self.lengths = [len(example) for example in examples]

    def terms(self, row: int) -> tuple[int, ...]:
        return self.examples[row].terms

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, row: Any) -> Any:  # noqa: ANN401
        return self.examples[row]


class RowsOnDisk(Sequence[Turns]):
    """Rows that ``write_rows`` wrote, read from the disk when they are asked for.

    In memory are eight bytes a row: its tokens and its targets.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = read_json(folder / MANIFEST_FILE)
        self.fingerprint = str(self.manifest["fingerprint"])
        index = np.load(folder / INDEX_FILE)
        self.lengths: Sequence[int] = index[0]
        self.num_targets = index[1]
        self._batches = pa.ipc.open_file(pa.memory_map(str(folder / ROWS_FILE)))

    def terms(self, row: int) -> tuple[int, ...]:
        return (int(self.num_targets[row]),)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: Any) -> Any:  # noqa: ANN401
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        number = range(len(self))[row]
        batch = self._batches.get_batch(number // BATCH)
        tokens, spans = (batch.column(c)[number % BATCH].values.to_pylist() for c in (0, 1))
        return Turns(tuple(tokens), tuple(zip(spans[::2], spans[1::2], strict=True)))


def write_rows(folder: Path, rows: Iterable[Turns], manifest: dict[str, Any]) -> RowsOnDisk:
    """Write rows as they come; the folder appears when it is whole.

    Args:
        folder: New.
        rows: Read once.
        manifest: More to keep with them; what it holds when all rows were read.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    content = hashlib.sha256()
    index: list[np.ndarray] = []
    with ExitStack() as stack:
        file = stack.enter_context(pa.OSFile(str(partial / ROWS_FILE), "wb"))
        writer = stack.enter_context(pa.ipc.new_file(file, SCHEMA))
        for group in _groups(rows):
            tokens = [np.array(row.tokens, np.int32) for row in group]
            spans = [np.array(row.spans, np.int32).reshape(-1) for row in group]
            for array in (*tokens, *spans):
                content.update(len(array).to_bytes(4, "little") + array.tobytes())
            columns = [pa.array(part, pa.list_(pa.int32())) for part in (tokens, spans)]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA))
            index.append(np.array([[len(r) for r in group], [r.terms[0] for r in group]], np.int32))
    np.save(partial / INDEX_FILE, np.concatenate([np.zeros((2, 0), np.int32), *index], axis=1))
    write_json(partial / MANIFEST_FILE, {**manifest, "fingerprint": content.hexdigest()[:16]})
    os.replace(partial, folder)
    return RowsOnDisk(folder)


def _groups(rows: Iterable[Turns]) -> Iterator[list[Turns]]:
    group: list[Turns] = []
    for row in rows:
        group.append(row)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group
