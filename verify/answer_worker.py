"""A process that decides about answers, one line of JSON in and one out, until its input ends.

Its parent kills it when an answer takes too long. It is started by ``worker.py``.
"""

from __future__ import annotations

import json
import resource
import sys
from typing import Any

MEMORY_BYTES = 1_000_000_000
"""Address space; what would need more is undecided."""


def main() -> None:
    """Answer every line of standard input."""
    from promptcot.children import die_with_parent

    die_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from verify.formulas import deciding  # noqa: F401 - before the clock runs

    _say({"ready": True})
    for line in sys.stdin:
        _say(answered(json.loads(line)))


def answered(pair: dict[str, str]) -> dict[str, Any]:
    """The decision about a pair as a row; what goes wrong is undecided."""
    from promptcot.records import Outcome
    from verify.formulas.deciding import Decision, decide

    try:
        decision = decide(pair["reference"], pair["answer"])
        if decision.outcome is Outcome.UNDECIDED and decision.rule == "unknown":
            decision = _symbolically(pair["reference"], pair["answer"]) or decision
    except MemoryError:
        decision = Decision(Outcome.UNDECIDED, "memory", "more than a gigabyte of memory")
    except RecursionError:
        decision = Decision(Outcome.UNDECIDED, "size", "nested too deep")
    except Exception as error:  # whatever sympy may raise
        decision = Decision(Outcome.UNDECIDED, "error", f"{type(error).__name__}: {error}"[:200])
    return {"outcome": decision.outcome, "rule": decision.rule, "reason": decision.reason}


def _symbolically(reference: str, answer: str) -> Any:  # noqa: ANN401
    from verify.formulas.symbolic import decide_symbolically

    if "math_verify" not in sys.modules:
        _say({"ready": False})  # the clock stops
        try:
            import math_verify  # noqa: F401
        finally:
            _say({"ready": True})
    return decide_symbolically(reference, answer)


def _say(row: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()
