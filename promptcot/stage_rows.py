"""Rows of a stage of a round: in a file, in memory their keys and places alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

Row = dict[str, Any]
V = TypeVar("V")


class StageRows(Mapping[str, Row]):
    """A JSONL file that rows are appended to, each under its key; a row is read when asked for.

    Args:
        path: Of the file, made where there is none. A last line that a crash cut off is removed.

    Raises:
        ValueError: A line is no row with a key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        try:
            self._recover()
        except ValueError:
            self._file.close()
            raise

    def append(self, key: str, row: Mapping[str, Any]) -> None:
        """Write one finished row; a key that is there already is left as it is.

        Raises:
            OSError: The disk is full; what was written before stays valid.
        """
        if key in self._places:
            return
        line = json.dumps({"key": key, **row}, ensure_ascii=False).encode() + b"\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            self._write(line)
        except OSError as error:
            self._file.truncate(start)
            raise OSError(
                error.errno,
                f"cannot write to {self.path.parent} ({error.strerror}): free some space and run "
                f"the same command again; the {len(self)} rows before this one are safe",
            ) from error
        self._places[key] = start, len(line)

    def sync(self) -> None:
        """Force what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file; nothing can be read after it."""
        self._file.close()

    def __getitem__(self, key: str) -> Row:
        start, length = self._places[key]
        row: Row = json.loads(os.pread(self._file.fileno(), length, start))
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _recover(self) -> None:
        """Find the rows that are there; the rest of a line that a crash cut off goes."""
        start = 0
        with open(self.path, "rb") as lines:
            for line in lines:
                if not line.endswith(b"\n"):
                    break
                self._places[self._key(line)] = start, len(line)
                start += len(line)
        self._file.truncate(start)

    def _key(self, line: bytes) -> str:
        try:
            return str(json.loads(line)["key"])
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"{self.path} is damaged ({error!r} in {line[:60]!r}): delete the folder "
                f"{self.path.parent} and run again"
            ) from error

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:  # an unbuffered write may take less than it was given, on a disk nearly full
            rest = rest[self._file.write(rest) :]


class Lazily(Mapping[str, V]):
    """Values that are made anew whenever they are asked for, so that none stays in memory.

    Args:
        keys: In their order.
        value: Makes the value of a key.
    """

    def __init__(self, keys: Iterable[str], value: Callable[[str], V]) -> None:
        self._keys = dict.fromkeys(keys)
        self._value = value

    def __getitem__(self, key: str) -> V:
        if key not in self._keys:
            raise KeyError(key)
        return self._value(key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
