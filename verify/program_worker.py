"""A process that judges programs, one line of JSON in and one out, until its input ends.

It runs none itself: they run in forks of the servers that its sandbox starts. It is started by
``worker.py``.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

MAX_DIGITS = 100_000
"""Digits of a whole number in a row."""


def main(layers: Sequence[str], allow_unsafe: bool) -> None:
    """Judge every line of standard input."""
    from promptcot.children import die_with_parent

    die_with_parent()
    sys.set_int_max_str_digits(MAX_DIGITS)
    processors = _settle()
    from verify.judging import Judge
    from verify.sandbox import Sandbox, SandboxError
    from verify.submissions import Submission

    try:
        judge = Judge(Sandbox(layers, allow_unsafe, processors), lambda: _say({"ready": True}))
    except SandboxError as error:
        _say({"error": str(error)})
        return
    _say({"ready": True})
    for line in sys.stdin:
        row = json.loads(line)
        submission = Submission.from_row(row)
        try:
            ruling = judge.judge(submission, row["first"])
        except FileNotFoundError as error:
            _say({"error": str(error)})
            return
        _say(
            {
                "verdict": ruling.verdict,
                "detail": ruling.detail,
                "test": ruling.test,
                "seconds": ruling.seconds,
            }
        )
    judge.close()


def _settle() -> set[int]:
    """Stay on one processor, with the servers that will be started; those that we may run on.

    A worker and its server wait for each other. On two processors each would find its caches cold
    and, as often, its processor asleep. Programs are not bound.
    """
    from verify.worker import PLACE

    processors = os.sched_getaffinity(0)
    place = int(os.environ[PLACE]) + os.getppid()  # pools of one worker are not all on the first
    os.sched_setaffinity(0, {sorted(processors)[place % len(processors)]})
    return processors


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()
