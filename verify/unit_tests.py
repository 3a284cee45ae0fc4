"""Does a program pass its tests? Judged in parallel, in processes that can be killed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from threading import Lock

from verify.judging import Ruling
from verify.sandbox import LAYERS, LONGEST_WAIT, Sandbox
from verify.submissions import Submission
from verify.workers import ALLOWED_S, Result, WorkerPool

TOGETHER = 16
"""Programs for each worker that are judged before those out of time are tried again alone."""
SLACK_S = 240.0
"""A worker's time for a test, besides what the sandbox grants it: to compile, read and compare."""


class UnitTestVerifier:
    """Decides whether programs pass their tests.

    A program out of time is tried once more while no other runs, so that a verdict does not depend
    on the load that we make ourselves. Processes are started when the first program needs one.
    Close it after use.

    Args:
        num_workers: Programs that run at the same time.
        layers: Layers of isolation to use, see ``sandbox.LAYERS``.
        allow_unsafe: Run programs although nothing confines them on this machine.

    Raises:
        SandboxError: Nothing confines programs on this machine.
    """

    def __init__(
        self,
        num_workers: int = 1,
        layers: Sequence[str] = LAYERS,
        allow_unsafe: bool = False,
    ) -> None:
        sandbox = Sandbox(layers, allow_unsafe)
        self.layers: Mapping[str, str] = sandbox.layers
        """Each layer of isolation, and what of it is active."""
        sandbox.close()
        start = f"main({tuple(layers)!r}, {allow_unsafe!r})"
        program = f"from verify.program_worker import main; {start}"
        self.pool = WorkerPool(num_workers, SLACK_S, program, "judges programs")
        self._lock = Lock()

    def judge_all(self, submissions: Iterable[Submission]) -> Iterator[Ruling]:
        """Verdicts in the order of the submissions."""
        source = iter(submissions)
        with self._lock:
            while some := list(islice(source, TOGETHER * self.pool.num_workers)):
                yield from self._judge(some)

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        self.pool.close()

    def _judge(self, some: list[Submission]) -> list[Ruling]:
        rulings: dict[int, Ruling] = {}
        rows = [
            {**submission.to_row(), ALLOWED_S: submission.limits.wall_s * LONGEST_WAIT + SLACK_S}
            for submission in some
        ]
        for result in self.pool.run({**row, "first": 1} for row in rows):
            rulings[result.number] = _ruling(result)
        is_alone = len(some) == 1 or self.pool.num_workers == 1
        for number, ruling in sorted(rulings.items()):
            if ruling.verdict == "TLE" and not is_alone:
                again = [{**rows[number], "first": ruling.test}]
                rulings[number] = next(_ruling(result) for result in list(self.pool.run(again)))
        return [rulings[number] for number in range(len(some))]


def _ruling(result: Result) -> Ruling:
    if result.row is None:
        why = "died" if result.lost == "death" else "hung"
        return Ruling("IE", f"the process that judges {why}", None, result.seconds)
    return Ruling(**result.row)
