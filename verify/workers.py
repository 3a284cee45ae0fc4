"""A pool of processes that decide about answers, each killed when an answer takes too long.

One thread drives them all through pipes. A killed worker is replaced at once; an answer whose
worker was killed by somebody else is asked again.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from promptcot.children import PARENT
from promptcot.records import Outcome
from verify.deciding import Decision

CHECKOUT = Path(__file__).resolve().parents[1]
START_S = 120.0
"""Longest time that a worker may take to start, or to import sympy."""
MAX_DEATHS = 3
"""Workers that may crash at one answer before it is undecided, or while they start."""
MAX_KILLS = 50
"""Workers that others may kill at one answer before it is undecided."""

Pair = tuple[str, str]
Decided = tuple[int, Decision, float]
"""Place of a pair, the decision about it, and the seconds that it took."""


class Worker:
    """One process. ``program`` is what it runs, for tests that need one that hangs."""

    def __init__(self, program: str) -> None:
        start = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); {program}"
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, PARENT: str(os.getpid()), "OMP_NUM_THREADS": "1"},
        )
        self.is_ready = False
        self.job: tuple[int, Pair, int] | None = None
        """Number and pair of the answer that it is at, and what the deaths at it count so far."""
        self.deadline = time.monotonic() + START_S
        self.asked = 0.0
        self._rest = b""

    @property
    def output(self) -> IO[bytes]:
        """Where its decisions come from."""
        assert self.process.stdout is not None
        return self.process.stdout

    def ask(self, job: tuple[int, Pair, int], wall_s: float) -> None:
        """Give it an answer to decide about."""
        assert self.process.stdin is not None
        self.job = job
        self.asked = time.monotonic()
        self.deadline = self.asked + wall_s
        row = {"reference": job[1][0], "answer": job[1][1]}
        try:
            self.process.stdin.write(json.dumps(row).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:  # it is dead, as its output will tell
            self.deadline = time.monotonic()

    def rows(self) -> list[dict[str, Any]] | None:
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


class WorkerPool:
    """Workers that decide about pairs of answers.

    Args:
        num_workers: Processes.
        wall_s: Seconds that one answer may take.
        program: Python code that a worker runs.
    """

    def __init__(
        self,
        num_workers: int = 1,
        wall_s: float = 2.0,
        program: str = "from verify.answer_worker import main; main()",
    ) -> None:
        if num_workers < 1 or wall_s <= 0:
            raise ValueError(
                f"workers = {num_workers}, wall_s = {wall_s}: there must be a worker, and time"
            )
        self.num_workers = num_workers
        self.wall_s = wall_s
        self.program = program
        self.kills = 0
        self._failed_starts = 0
        self._workers: list[Worker] = []
        self._selector: selectors.BaseSelector | None = None
        self._waiting: deque[tuple[int, Pair, int]] = deque()

    def decide(self, pairs: Iterable[Pair]) -> Iterator[Decided]:
        """Decisions about pairs, in the order in which they are made."""
        source = iter(enumerate(pairs))
        self._waiting.clear()
        self._start()
        while True:
            self._give_out(source)
            if not any(worker.job for worker in self._workers) and not self._waiting:
                return
            yield from self._collect()

    def close(self) -> None:
        """End all workers. Safe to call twice."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()
        if self._selector is not None:
            self._selector.close()
            self._selector = None

    def _start(self) -> None:
        if self._selector is None:
            self._selector = selectors.DefaultSelector()
        for worker in list(self._workers):
            if worker.job is not None:  # of a round that nobody finished
                self._replace(worker)
        while len(self._workers) < self.num_workers:
            self._add()

    def _add(self) -> None:
        assert self._selector is not None
        worker = Worker(self.program)
        self._workers.append(worker)
        self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def _replace(self, worker: Worker) -> None:
        assert self._selector is not None
        self._selector.unregister(worker.output)
        self._workers.remove(worker)
        worker.kill()
        self._add()

    def _give_out(self, source: Iterator[tuple[int, Pair]]) -> None:
        for worker in self._workers:
            if not worker.is_ready or worker.job is not None:
                continue
            if not self._waiting:
                number, pair = next(source, (-1, ("", "")))
                if number < 0:
                    return
                self._waiting.append((number, pair, 0))
            worker.ask(self._waiting.popleft(), self.wall_s)
        if not self._waiting and not any(worker.job for worker in self._workers):
            number, pair = next(source, (-1, ("", "")))  # all are starting: is there work at all?
            if number >= 0:
                self._waiting.append((number, pair, 0))

    def _collect(self) -> Iterator[Decided]:
        assert self._selector is not None
        now = time.monotonic()
        nearest = min(
            worker.deadline for worker in self._workers if worker.job or not worker.is_ready
        )
        for key, _ in self._selector.select(max(0.0, nearest - now)):
            worker: Worker = key.data
            rows = worker.rows()
            if rows is None:
                yield from self._died(worker)
                continue
            for row in rows:
                yield from self._heard(worker, row)
        for worker in list(self._workers):
            if (worker.job or not worker.is_ready) and worker.deadline <= time.monotonic():
                yield from self._overdue(worker)

    def _heard(self, worker: Worker, row: dict[str, Any]) -> Iterator[Decided]:
        if "ready" in row:
            worker.is_ready, self._failed_starts = row["ready"], 0
            allowed = self.wall_s if worker.is_ready else START_S
            worker.deadline = time.monotonic() + allowed
        elif worker.job is not None:
            number, worker.job = worker.job[0], None
            decision = Decision(Outcome(row["outcome"]), row["rule"], row["reason"])
            yield number, decision, time.monotonic() - worker.asked

    def _overdue(self, worker: Worker) -> Iterator[Decided]:
        if not worker.is_ready and worker.job is None:
            self.close()
            raise RuntimeError(
                f"a worker that verifies answers did not start within {START_S:.0f} s: is the "
                "machine overloaded?"
            )
        self.kills += 1
        job = worker.job
        self._replace(worker)
        if job is not None:
            reason = f"no decision within {self.wall_s:g} s"
            seconds = time.monotonic() - worker.asked
            yield job[0], Decision(Outcome.UNDECIDED, "time", reason), seconds

    def _died(self, worker: Worker) -> Iterator[Decided]:
        job, was_ready = worker.job, worker.is_ready
        self._failed_starts += job is None and not was_ready
        if self._failed_starts >= MAX_DEATHS:
            self.close()
            raise RuntimeError(
                "a worker that verifies answers died while it started: is the installation whole "
                "(make setup)?"
            )
        was_killed = worker.ended_by() == -signal.SIGKILL
        self._replace(worker)
        if job is None:
            return
        number, pair, deaths = job
        deaths += 1 if was_killed else MAX_KILLS // MAX_DEATHS + 1
        if deaths < MAX_KILLS:
            self._waiting.append((number, pair, deaths))
        else:
            decision = Decision(Outcome.UNDECIDED, "death", "the process died of it")
            yield number, decision, time.monotonic() - worker.asked
