"""A process that judges programs, one line of JSON in and one out, until its input ends.

It runs none itself: they run in forks of the servers that its sandbox starts. It is started by
``workers.py``.
"""

from __future__ import annotations

import json
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
    from verify.judging import Judge
    from verify.sandbox import Sandbox, SandboxError
    from verify.submissions import Submission

    try:
        judge = Judge(Sandbox(layers, allow_unsafe), lambda: _say({"ready": True}))
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


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()
