"""A pool of processes that do jobs, each killed when a job takes too long.

One thread drives them all through pipes, a line of JSON for each job and each result. A killed
worker is replaced at once; a job whose worker was killed by somebody else is done again.
"""

from __future__ import annotations

import selectors
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from verify.worker import START_S, Job, Row, Worker

MAX_DEATHS = 3
"""Workers that may crash at one job before it is given up, or while they start."""
MAX_KILLS = 50
"""Workers that others may kill at one job before it is given up."""
ALLOWED_S = "allowed_s"
"""Key of a job's own seconds; a worker that says it is ready while it is at it starts them anew."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a job.

    Args:
        number: Its place among the jobs.
        row: What the worker said; None where the job was given up.
        lost: "time" or "death" where it was given up.
        seconds: How long it took.
    """

    number: int
    row: Row | None
    lost: str
    seconds: float


class WorkerPool:
    """Workers that do jobs.

    Args:
        num_workers: Processes.
        wall_s: Seconds that one job may take.
        program: Python code that a worker runs: it says {"ready": true} when its clock may run,
            false to stop it, {"error"} where it cannot work at all, and a row for each job.
        purpose: What the workers do, for error messages.
    """

    def __init__(
        self, num_workers: int, wall_s: float, program: str, purpose: str = "verifies answers"
    ) -> None:
        if num_workers < 1 or wall_s <= 0:
            raise ValueError(
                f"workers = {num_workers}, wall_s = {wall_s}: there must be a worker, and time"
            )
        self.num_workers = num_workers
        self.wall_s = wall_s
        self.program = program
        self.purpose = purpose
        self.kills = 0
        self._failed_starts = 0
        self._workers: list[Worker] = []
        self._selector: selectors.BaseSelector | None = None
        self._waiting: deque[Job] = deque()

    def run(self, rows: Iterable[Row]) -> Iterator[Result]:
        """Results of jobs, in the order in which they come."""
        source = (Job(number, row) for number, row in enumerate(rows))
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
            worker.dismiss()
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
        taken = {worker.place for worker in self._workers}
        worker = Worker(self.program, min(set(range(len(taken) + 1)) - taken))
        self._workers.append(worker)
        self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def _replace(self, worker: Worker) -> None:
        assert self._selector is not None
        self._selector.unregister(worker.output)
        self._workers.remove(worker)
        worker.kill()
        self._add()

    def _give_out(self, source: Iterator[Job]) -> None:
        for worker in self._workers:
            if not worker.is_ready or worker.job is not None:
                continue
            if not self._waiting and not self._take(source):
                return
            job = self._waiting.popleft()
            worker.ask(job, self._allowed(job))
        if not self._waiting and not any(worker.job for worker in self._workers):
            self._take(source)  # all are starting: is there work at all?

    def _take(self, source: Iterator[Job]) -> bool:
        job = next(source, None)
        if job is not None:
            self._waiting.append(job)
        return job is not None

    def _allowed(self, job: Job | None) -> float:
        return float(job.row.get(ALLOWED_S, self.wall_s)) if job is not None else self.wall_s

    def _collect(self) -> Iterator[Result]:
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

    def _heard(self, worker: Worker, row: Row) -> Iterator[Result]:
        if "error" in row:
            self.close()
            raise RuntimeError(row["error"])
        if "ready" in row:
            worker.is_ready, self._failed_starts = row["ready"], 0
            allowed = self._allowed(worker.job) if worker.is_ready else START_S
            worker.deadline = time.monotonic() + allowed
        elif worker.job is not None:
            number, worker.job = worker.job.number, None
            yield Result(number, row, "", time.monotonic() - worker.asked)

    def _overdue(self, worker: Worker) -> Iterator[Result]:
        if not worker.is_ready and worker.job is None:
            self.close()
            raise RuntimeError(
                f"a worker that {self.purpose} did not start within {START_S:.0f} s: is the "
                "machine overloaded?"
            )
        self.kills += 1
        job = worker.job
        self._replace(worker)
        if job is not None:
            yield Result(job.number, None, "time", time.monotonic() - worker.asked)

    def _died(self, worker: Worker) -> Iterator[Result]:
        job, was_ready = worker.job, worker.is_ready
        self._failed_starts += job is None and not was_ready
        if self._failed_starts >= MAX_DEATHS:
            self.close()
            raise RuntimeError(
                f"a worker that {self.purpose} died while it started: is the installation whole "
                "(make setup)?"
            )
        was_killed = worker.ended_by() == -signal.SIGKILL
        self._replace(worker)
        if job is None:
            return
        job.deaths += 1 if was_killed else MAX_KILLS // MAX_DEATHS + 1
        if job.deaths < MAX_KILLS:
            self._waiting.append(job)
        else:
            yield Result(job.number, None, "death", time.monotonic() - worker.asked)
