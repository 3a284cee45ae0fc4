"""One process of a pool that does jobs, seen from outside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from promptcot.children import PARENT

CHECKOUT = Path(__file__).resolve().parents[1]
START_S = 120.0
"""Longest time that a worker may take to start, or to import sympy."""
PLACE = "VERIFY_PLACE"
"""Environment variable in which a worker finds its place."""

Row = dict[str, Any]


@dataclass(slots=True)
class Job:
    """Something to do.

    Args:
        number: Its place among the jobs.
        row: What the worker is told.
        deaths: Of workers that were at it, so far.
    """

    number: int
    row: Row
    deaths: int = 0


class Worker:
    """One process.

    Args:
        program: What it runs, for tests that need one that hangs.
        place: A number that no other worker of the pool has, from 0.
    """

    def __init__(self, program: str, place: int) -> None:
        start = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); {program}"
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                PARENT: str(os.getpid()),
                PLACE: str(place),
                "OMP_NUM_THREADS": "1",
            },
        )
        self.place = place
        self.is_ready = False
        self.job: Job | None = None
        """What it is at."""
        self.deadline = time.monotonic() + START_S
        self.asked = 0.0
        self._rest = b""

    @property
    def output(self) -> IO[bytes]:
        """Where its results come from."""
        assert self.process.stdout is not None
        return self.process.stdout

    def ask(self, job: Job, wall_s: float) -> None:
        """Give it a job."""
        assert self.process.stdin is not None
        self.job = job
        self.asked = time.monotonic()
        self.deadline = self.asked + wall_s
        try:
            self.process.stdin.write(json.dumps(job.row).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:  # it is dead, as its output will tell
            self.deadline = time.monotonic()

    def rows(self) -> list[Row] | None:
        """The whole rows that it wrote since; None when it is dead."""
        said = os.read(self.output.fileno(), 1 << 16)
        if not said:
            return None
        *lines, self._rest = (self._rest + said).split(b"\n")
        return [json.loads(line) for line in lines]

    def ended_by(self) -> int:
        """Its exit status, negative for a signal; 0 where it closed its output but lives on."""
        try:
            return self.process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return 0

    def dismiss(self) -> None:
        """Let it end by itself, and clean up, if it has nothing to do."""
        assert self.process.stdin is not None
        if self.is_ready and self.job is None:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                self.process.stdin.close()
                self.process.wait(timeout=1)

    def kill(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdin is not None
        for pipe in (self.process.stdin, self.output):
            try:
                pipe.close()
            except OSError:  # what it did not read cannot be flushed
                continue
