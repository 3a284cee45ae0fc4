"""Rows of JSONL in, verdicts out: streaming, in order, and going on where it was.

Verdicts are written some hundred at a time. A rerun keeps the whole lines
of the output, cuts a last one that is not whole, and does the rows that are missing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from promptcot.records import Domain, Outcome
from verify.answers import AnswerVerifier, Judgement

Row = Mapping[str, Any]
TOGETHER = 256
"""Rows whose verdicts are written together."""


def verify_rows(input: Path, output: Path, workers: int = 0, wall_s: float = 2.0) -> str:
    """Verify every row of a file and append the verdicts to another.

    Rows are {"id", "domain": "math", "reference", "solution"}; verdicts are {"id", "outcome",
    "verdict", "detail", "seconds", "answer"}, where ``verdict`` names the rule that decided and
    ``answer`` is what was extracted.

    Args:
        input: Rows to verify.
        output: Verdicts; those that are there already are kept, and their rows skipped.
        workers: Processes; 0 for one a core.
        wall_s: Seconds that one answer may take.

    Returns:
        Counts, in a sentence.
    """
    if not input.is_file():
        raise FileNotFoundError(f"there is no file {input}: check the path")
    total = sum(1 for _ in _rows(input))
    output.parent.mkdir(parents=True, exist_ok=True)
    verifier = AnswerVerifier(workers or len(os.sched_getaffinity(0)), wall_s)
    with open(output, "a+b") as file:
        _lock(file, output)
        counts, done = _recover(file, output)
        bar = tqdm(total=total, initial=done.total(), unit="row", disable=None)
        try:
            for verdict in _verdicts(_missing(_rows(input), done), verifier):
                file.write(json.dumps(verdict, ensure_ascii=False).encode(errors="replace") + b"\n")
                file.flush()
                counts[verdict["outcome"]] += 1
                bar.update()
        finally:
            bar.close()
            verifier.close()
    said = ", ".join(f"{counts[str(outcome)]} {outcome}" for outcome in Outcome)
    return f"{sum(counts.values())} rows -> {output}: {said}"


def _missing(rows: Iterator[Row], done: Counter[str]) -> Iterator[Row]:
    """Rows without a verdict; of several with one id as many are done as have one."""
    left = Counter(done)
    for row in rows:
        if left[row["id"]]:
            left[row["id"]] -= 1
        else:
            yield row


def _verdicts(rows: Iterator[Row], verifier: AnswerVerifier) -> Iterator[dict[str, Any]]:
    """Verdicts in the order of the rows."""
    while some := list(islice(rows, TOGETHER)):
        pairs = [(r["reference"], r["solution"]) for r in some if r["domain"] == Domain.MATH]
        judgements = iter(list(verifier.judge_all(pairs)))
        for row in some:
            is_math = row["domain"] == Domain.MATH
            yield _verdict(row, next(judgements)) if is_math else _not_yet(row)


def _verdict(row: Row, judgement: Judgement) -> dict[str, Any]:
    return {
        "id": row["id"],
        "outcome": str(judgement.outcome),
        "verdict": judgement.rule,
        "detail": judgement.detail,
        "seconds": judgement.seconds,
        "answer": judgement.answer,
    }


def _not_yet(row: Row) -> dict[str, Any]:
    detail = "programs are not verified yet: leave out the rows of this domain"
    return {
        "id": row["id"],
        "outcome": str(Outcome.UNDECIDED),
        "verdict": "IE",
        "detail": detail,
        "seconds": 0.0,
        "answer": None,
    }


def _rows(path: Path) -> Iterator[Row]:
    """Checked rows of the input.

    Raises:
        ValueError: A line is no row; the file, the line and the cure are named.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _checked(line, f"{path} line {number}")


def _checked(line: bytes, place: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{place}: not a whole JSON object ({error}): mend or delete the line"
        ) from None
    name = row.get("id", row.get("name")) if isinstance(row, dict) else None
    if name is None:
        raise ValueError(f"{place}: {str(row)[:60]!r} is not a JSON object with an id")
    domain = row.get("domain", Domain.CODE if "program" in row else None)
    if domain not in list(Domain):
        raise ValueError(f"{place}: the domain is {domain!r}, but it can be 'math' or 'code'")
    if domain == Domain.CODE:
        return {"id": str(name), "domain": domain}
    solution, reference = row.get("solution"), row.get("reference")
    if not isinstance(solution, str) or not isinstance(reference, str | int | float | None):
        raise ValueError(
            f"{place}: a row of mathematics needs a text as `solution` and one as `reference`"
        )
    said = None if reference is None else str(reference)
    return {"id": str(name), "domain": domain, "reference": said, "solution": solution}


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OSError(
            f"another process writes {path}: wait for it, or name another output"
        ) from None


def _recover(file: IO[bytes], path: Path) -> tuple[Counter[str], Counter[str]]:
    """Verdicts that are there, by outcome and by id; a cut last line goes."""
    file.seek(0)
    counts: Counter[str] = Counter()
    done: Counter[str] = Counter()
    whole = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):
            break
        try:
            verdict = json.loads(line)
            counts[verdict["outcome"]] += 1
            done[verdict["id"]] += 1
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{path} line {number} is no verdict: name another output, or delete the file"
            ) from None
        whole += len(line)
    file.truncate(whole)
    file.seek(0, os.SEEK_END)
    return counts, done
