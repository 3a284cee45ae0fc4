"""Rows of JSONL in, verdicts out: streaming, in order, and going on where it was.

A rerun keeps the whole lines of the output, cuts a last one that is not whole, and does the rows
that are missing.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from promptcot.jsonl import parse_line
from promptcot.records import Domain, Outcome
from verify.answers import Judgement
from verify.by_domain import Answer, Judges
from verify.judging import Ruling
from verify.program_worker import MAX_DIGITS
from verify.submissions import Submission

BEGINNING = b'{"id": "'
"""Of every verdict's line."""
Key = tuple[str, str]
"""Id of a row and hash of its line: a verdict belongs to both."""


@dataclass(frozen=True, slots=True)
class Row:
    """A checked row: an answer with its reference, or a program with its tests."""

    key: Key
    task: Answer | Submission


def verify_rows(
    input: Path, output: Path, workers: int = 0, wall_s: float = 2.0, allow_unsafe: bool = False
) -> str:
    """Verify every row of a file and append the verdicts to another.

    Rows are {"id", "domain": "math", "reference", "solution"} or {"id", "domain": "code",
    "language", "mode", "entry", "solution", "tests", "compare", "limits"}; see docs/answers.md and
    docs/sandbox.md. Verdicts are {"id", "outcome", "verdict", "detail", "seconds", "row"}. Of an
    answer, ``verdict`` names the rule that decided, and ``answer`` is what was extracted; of a
    program, it is AC, WA, TLE, MLE, OLE, RE, CE or IE, ``test`` is the first that failed, and
    ``layers`` are those that confined it. ``row`` is a hash of the row.

    Args:
        input: Rows to verify.
        output: Verdicts; those that are there already are kept, and their rows skipped.
        workers: Processes; 0 for one a core.
        wall_s: Seconds that one answer may take; programs have limits of their own.
        allow_unsafe: Run programs although this machine offers nothing to confine them.

    Returns:
        Counts, in a sentence.
    """
    if not input.is_file():
        raise FileNotFoundError(f"there is no file {input}: check the path")
    if output.exists() and output.samefile(input):
        raise ValueError(f"{output} is the input, and would be the output: name another output")
    sys.set_int_max_str_digits(MAX_DIGITS)
    wanted = Counter(row.key for row in _rows(input))
    output.parent.mkdir(parents=True, exist_ok=True)
    judges = Judges(workers, wall_s, allow_unsafe=allow_unsafe)
    with open(output, "a+b") as file:
        _lock(file, output)
        counts, done = _recover(file, output)
        _check_kept(done, wanted, output)
        bar = tqdm(total=wanted.total(), initial=done.total(), unit="row", disable=None)
        try:
            missing = ((row.key, row.task) for row in _missing(_rows(input), done))
            for key, found in judges.judged(missing):
                verdict = _verdict(key, found, judges)
                line = json.dumps(verdict, ensure_ascii=False).encode(errors="replace")
                file.write(line + b"\n")
                file.flush()
                counts[verdict["outcome"]] += 1
                bar.update()
        finally:
            bar.close()
            judges.close()
    said = ", ".join(f"{counts[str(outcome)]} {outcome}" for outcome in Outcome)
    return f"{sum(counts.values())} rows -> {output}: {said}"


def _verdict(key: Key, found: Judgement | Ruling, judges: Judges) -> dict[str, Any]:
    if isinstance(found, Judgement):
        return _of_answer(key, found)
    return _of_program(key, found, judges.active_layers())


def _of_answer(key: Key, judgement: Judgement) -> dict[str, Any]:
    return {
        "id": key[0],
        "outcome": str(judgement.outcome),
        "verdict": judgement.rule,
        "detail": judgement.detail,
        "seconds": judgement.seconds,
        "answer": judgement.answer,
        "row": key[1],
    }


def _of_program(key: Key, ruling: Ruling, layers: list[str]) -> dict[str, Any]:
    return {
        "id": key[0],
        "outcome": str(ruling.outcome),
        "verdict": ruling.verdict,
        "detail": ruling.detail,
        "seconds": ruling.seconds,
        "test": ruling.test,
        "layers": layers,
        "row": key[1],
    }


def _missing(rows: Iterator[Row], done: Counter[Key]) -> Iterator[Row]:
    """Rows without a verdict; of several that are the same as many are done as have one."""
    left = Counter(done)
    for row in rows:
        if left[row.key]:
            left[row.key] -= 1
        else:
            yield row


def _check_kept(done: Counter[Key], wanted: Counter[Key], output: Path) -> None:
    foreign = done - wanted
    if foreign:
        first = next(iter(foreign))[0]
        raise ValueError(
            f"{output} holds {foreign.total()} verdicts, that of {first!r} first, of rows that the "
            "input does not have, or not any more so: name another output"
        )


def _rows(path: Path) -> Iterator[Row]:
    """Checked rows of the input.

    Raises:
        ValueError: A line is no row; the file, the line and the cure are named.
    """
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _checked(line, f"{path} line {number}", path.parent)


def _checked(line: bytes, place: str, folder: Path) -> Row:
    row = parse_line(line, place)
    name = row.get("id", row.get("name")) if isinstance(row, dict) else None
    if name is None:
        raise ValueError(f"{place}: {str(row)[:60]!r} is not a JSON object with an id")
    domain = row.get("domain", Domain.CODE if "program" in row else None)
    if domain not in list(Domain):
        raise ValueError(f"{place}: the domain is {domain!r}, but it can be 'math' or 'code'")
    said = str(name).encode(errors="replace").decode()  # as the verdict's line will have it
    key = said, hashlib.sha256(line.strip()).hexdigest()[:16]
    if domain == Domain.CODE:
        try:
            return Row(key, Submission.from_row(row, folder))
        except (ValueError, OSError) as error:
            raise ValueError(f"{place}: {error}") from None
    solution, reference = row.get("solution"), row.get("reference")
    if not isinstance(solution, str) or not isinstance(reference, str | int | float | None):
        raise ValueError(
            f"{place}: a row of mathematics needs a text as `solution` and one as `reference`"
        )
    return Row(key, Answer(None if reference is None else str(reference), solution))


def _lock(file: IO[bytes], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise OSError(
            f"another process writes {path}: wait for it, or name another output"
        ) from None


def _recover(file: IO[bytes], path: Path) -> tuple[Counter[str], Counter[Key]]:
    """Verdicts that are there, by outcome and by row; a cut last line goes."""
    file.seek(0)
    counts: Counter[str] = Counter()
    done: Counter[Key] = Counter()
    whole = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n") and _is_cut_off(line):
            break
        try:
            verdict = json.loads(line)
            counts[verdict["outcome"]] += 1
            done[verdict["id"], verdict["row"]] += 1
        except (ValueError, TypeError, KeyError):
            raise ValueError(f"{path} line {number} is no verdict: name another output") from None
        whole += len(line)
    file.truncate(whole)
    file.seek(0, os.SEEK_END)
    return counts, done


def _is_cut_off(line: bytes) -> bool:
    """Whether a last line is the beginning of a verdict, not something else that has no end."""
    if not (line.startswith(BEGINNING) or BEGINNING.startswith(line)):
        return False
    try:
        return "outcome" in json.loads(line)
    except ValueError:
        return True
