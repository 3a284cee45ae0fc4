"""What a program reads and writes: files in memory one way, pipes with limits the other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence

STDERR_BYTES = 1 << 16
"""Bytes of standard error that are kept; the rest is read and forgotten."""
_CHUNK = 1 << 16
_ADD_SEALS, _SEALS = 1033, 0x1 | 0x2 | 0x4 | 0x8


class Outputs:
    """Pipes for standard output, standard error and the report, each kept up to a limit."""

    def __init__(self, limit: int, report_limit: int) -> None:
        pairs = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        self.ours = [ours for ours, _ in pairs]
        self.theirs = [theirs for _, theirs in pairs]
        self.kept = {file: bytearray() for file in self.ours}
        self.limits = dict(zip(self.ours, (limit, STDERR_BYTES, report_limit), strict=True))
        self.is_too_much = False
        for file in self.ours:
            os.set_blocking(file, False)

    def read_all(self, ready: Sequence[int]) -> list[int]:
        """Read some of each file that is ready; those of which there is no more now."""
        return [file for file in self.ours if file in ready and not self.read(file)]

    def drain(self) -> None:
        """Read the rest, after the end of whoever wrote."""
        for file in self.ours:
            while self.read(file) == _CHUNK:  # less is the last that is there
                pass

    def read(self, file: int) -> int:
        """Read some; the bytes, 0 when there is nothing more, or nothing more now."""
        try:
            data = os.read(file, _CHUNK)
        except BlockingIOError:
            return 0
        room = self.limits[file] - len(self.kept[file])
        self.kept[file] += data[:room]
        if len(data) > room and file != self.ours[1]:
            self.is_too_much = True
            return 0
        return len(data)

    def close_theirs(self) -> None:
        """Close the ends that the program has now."""
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        """Close all."""
        self.close_theirs()
        while self.ours:
            os.close(self.ours.pop())


def in_memory(data: bytes) -> int:
    """A new file that holds data, which nobody can change."""
    file = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    written = 0
    while written < len(data):
        written += os.pwrite(file, memoryview(data)[written:], written)
    seal(file)
    return file


def seal(file: int) -> None:
    """Let nobody change a file in memory any more."""
    fcntl.fcntl(file, _ADD_SEALS, _SEALS)
