"""Answers verified a second: ours against math-verify's own functions, in one run.

    PYTHONPATH=. python benchmarks/answers.py [PAIRS.jsonl]

The file has rows with "gold" and "pred", or "answer". One process each: one worker of ours, its
start included, and math-verify in this process with its own alarms. Three sets: bare integers;
the file's pairs (by default the answers of the bundled corpus, and each plus 0); the same with
one in a hundred a tower of powers. math-verify does the first 400 of each, as it is slow.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import math_verify

from verify import AnswerVerifier

SAMPLES = Path(__file__).parents[1] / "promptcot" / "sample_data"
TOWER = "9^{9^{9^{9}}}"

Pairs = list[tuple[str, str]]


def main(files: Sequence[str]) -> None:
    """Print a table."""
    pairs = file_pairs(Path(files[0])) if files else bundled_pairs()
    pairs = [pairs[n % len(pairs)] for n in range(max(2000, len(pairs)))]
    hostile = [(a, TOWER if n % 100 == 0 else b) for n, (a, b) in enumerate(pairs)]
    integers = [(str(n), str(n + n % 2)) for n in range(20_000)]
    sets = {"bare integers": integers, "pairs": pairs, "1 % towers of powers": hostile}
    sys.stdout.write(f"{'set':22} {'ours /s':>9} {'worst s':>8} {'math-verify /s':>15}\n")
    for name, rows in sets.items():
        ours, worst = rate(our_way, rows)
        theirs, _ = rate(their_way, rows[:400])
        sys.stdout.write(f"{name:22} {ours:9.0f} {worst:8.3f} {theirs:15.0f}\n")


def rate(way: Callable[[Pairs], float], rows: Pairs) -> tuple[float, float]:
    """Pairs a second, and the seconds of the slowest."""
    start = time.perf_counter()
    worst = way(rows)
    return len(rows) / (time.perf_counter() - start), worst


def our_way(rows: Pairs) -> float:
    """One worker, its start included."""
    verifier = AnswerVerifier(1)
    worst = max(judgement.seconds for judgement in verifier.judge_all(rows))
    verifier.close()
    return worst


def their_way(rows: Pairs) -> float:
    """math-verify as its README calls it."""
    worst = 0.0
    for reference, answer in rows:
        start = time.perf_counter()
        gold, target = (math_verify.parse(f"${text}$") for text in (reference, answer))
        math_verify.verify(gold, target)
        worst = max(worst, time.perf_counter() - start)
    return worst


def bundled_pairs() -> Pairs:
    """Each mathematics reference of the bundled corpus, and itself plus nothing."""
    rows = [row for path in sorted(SAMPLES.glob("math_*.jsonl")) for row in read(path)]
    return [(row["reference"], f"{row['reference']}+0") for row in rows]


def file_pairs(path: Path) -> Pairs:
    """Pairs of a file; a lone answer is compared with itself."""
    return [
        (row.get("gold", row.get("answer", "")), row.get("pred", row.get("answer", "")))
        for row in read(path)
    ]


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main(sys.argv[1:])
