"""One run to a folder: an advisory lock that the kernel frees however the process ends."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE_S = 5.0
"""How long to wait for the children of a killed run to go."""


@contextmanager
def folder_lock(folder: Path, patience_s: float = PATIENCE_S) -> Iterator[int]:
    """Hold ``folder`` against other processes until the block ends.

    Yields the open file that holds the lock; a child that inherits it holds the lock as well.

    Raises:
        BlockingIOError: Another process still holds it after ``patience_s`` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with open(path, "a+", encoding="utf-8") as file:
        _acquire(file.fileno(), path, patience_s)
        file.truncate(0)
        file.write(f"process {os.getpid()} ({' '.join(sys.argv)})")
        file.flush()
        yield file.fileno()


def _acquire(descriptor: int, path: Path, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = path.read_text(encoding="utf-8") or "another process"
                raise BlockingIOError(
                    f"{path.parent} is in use by {holder}: wait for it to end, "
                    "or give this run a folder of its own"
                ) from None
            time.sleep(0.1)
