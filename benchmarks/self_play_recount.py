"""Counts again which solutions of stored rounds and evaluations are right, by other code.

    PYTHONPATH=. python benchmarks/self_play_recount.py --problems problems/train.jsonl FOLDER ...

It shares nothing with the verifier whose verdicts it checks: the last boxed answer of a solution
that ended by itself is compared with the reference as a number, else as a formula. A folder is one
of a round, with ``rollouts.jsonl`` and ``attempts.jsonl``, or holds such folders. Exits with 1
where a pass rate differs by more than 0.1 %, or a reference is not the problem's.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

ALLOWED_DIFFERENCE = 0.001
SHOWN = 20
LONGEST = 60
"""Characters of an answer that is read as a formula."""
MARK = "\\boxed{"
FORMULA = re.compile(r"(?:[0-9+\-*/(). ]|sqrt|pi)+")
"""What a formula may hold: nothing that could be a program, or a power without end."""


@dataclass(slots=True)
class Count:
    """What was counted in a folder."""

    attempts: int = 0
    verified: int = 0
    recounted: int = 0
    disagreements: list[str] = field(default_factory=list)
    strangers: int = 0
    """Problems whose reference is not that of the problems' file."""

    @property
    def is_good(self) -> bool:
        """Whether both counts tell the same pass rate."""
        apart = abs(self.verified - self.recounted) / max(1, self.attempts)
        return apart <= ALLOWED_DIFFERENCE and not self.strangers


def last_box(text: str) -> str | None:
    """What stands in the last box; None without one that is closed."""
    start = text.rfind(MARK)
    depth = 1
    for place in range(start + len(MARK), len(text) if start >= 0 else 0):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if not depth:
            return text[start + len(MARK) : place]
    return None


def cleaned(answer: str) -> str:
    """An answer without units, currency, separators of thousands and spaces at its ends."""
    answer = re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}", "", answer)
    answer = re.sub(r"\\[,;!: ]|\\?\$|\\left|\\right", "", answer)
    answer = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", answer)
    answer = re.sub(r"\s+(?:dollars?|years?|hours?|old|[a-z]+s)\.?$", "", answer.strip())
    return answer.strip().removesuffix(".").strip()


def number(answer: str) -> Fraction | None:
    """An answer that is a whole number, a decimal or a fraction of two."""
    if not re.fullmatch(r"[+-]?\d{1,30}(?:\.\d{1,30}|\s*/\s*\d{1,30})?", answer):
        return None
    try:
        return Fraction(answer.replace(" ", ""))
    except ZeroDivisionError:
        return None


def are_equal(answer: str, reference: str) -> bool:
    """Whether two answers mean the same."""
    a, b = cleaned(answer), cleaned(reference)
    if a == b:
        return True
    numbers = number(a), number(b)
    return numbers[0] == numbers[1] if None not in numbers else are_equal_formulas(a, b)


def are_equal_formulas(a: str, b: str) -> bool:
    """Whether sympy finds no difference; false for what is no formula of numbers."""
    from sympy import simplify
    from sympy.parsing.sympy_parser import parse_expr

    plain = [_plain(text) for text in (a, b)]
    if any(len(p) > LONGEST or "**" in p or not FORMULA.fullmatch(p) for p in plain):
        return False
    try:
        first, second = (parse_expr(text) for text in plain)
        return bool(simplify(first - second) == 0)
    except (ArithmeticError, SyntaxError, TypeError, ValueError, AttributeError):
        return False


def _plain(formula: str) -> str:
    formula = re.sub(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", formula)
    formula = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", formula)
    formula = formula.replace("\\cdot", "*").replace("\\times", "*").replace("\\pi", "pi")
    return re.sub(r"(?<=[0-9)])(?=sqrt|pi|\()", "*", formula)


def is_right(completion: Mapping[str, Any], reference: str) -> bool:
    """Whether a solution ended by itself and its box holds the reference."""
    box = last_box(completion["text"]) if completion["finished"] else None
    return box is not None and are_equal(box, reference)


def recount(folder: Path, references: Mapping[str, str]) -> Count:
    """Count one folder, verdict by verdict.

    Args:
        folder: Of a round or an evaluation.
        references: By problem id; empty to take those that the folder tells.
    """
    written = {row["key"]: row["completions"] for row in rows(folder / "rollouts.jsonl")}
    count = Count()
    for row in rows(folder / "attempts.jsonl"):
        reference = references.get(row["id"], "" if references else row["reference"])
        count.strangers += reference != row["reference"]
        pairs = zip(written.pop(row["key"]), row["verdicts"], strict=True)
        for completion, verdict in pairs:
            passed = verdict["outcome"] == "pass" and not verdict["flaw"]
            right = is_right(completion, reference)
            count.attempts += 1
            count.verified += passed
            count.recounted += right
            if passed != right:
                said = f"{verdict['outcome']} {verdict['flaw']}".strip()
                count.disagreements.append(
                    f"{row['id']}: verified {said} ({verdict['answer']!r}), recounted "
                    f"{'right' if right else 'wrong'}, reference {reference}: "
                    f"{completion['text'][-120:]!r}"
                )
    if written:
        raise ValueError(f"{folder}: {len(written)} problems have solutions but no verdicts")
    return count


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSONL file."""
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def main(arguments: Sequence[str]) -> int:
    """Count all folders; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--problems", type=Path, nargs="*", default=[], help="files of references")
    given = parser.parse_args(arguments)
    references = {row["id"]: row["reference"] for path in given.problems for row in rows(path)}
    found = sorted({p.parent for folder in given.folders for p in folder.rglob("attempts.jsonl")})
    counts = {
        folder: recount(folder, references) for folder in found if folder.suffix != ".partial"
    }
    for folder, count in counts.items():
        report(folder, count)
    return 0 if counts and all(count.is_good for count in counts.values()) else 1


def report(folder: Path, count: Count) -> None:
    """Write what was counted."""
    share = max(1, count.attempts)
    sys.stdout.write(
        f"{folder}: {count.attempts} attempts, verified {count.verified} "
        f"({count.verified / share:.4f}), recounted {count.recounted} "
        f"({count.recounted / share:.4f}), {len(count.disagreements)} verdicts disagree, "
        f"{count.strangers} references are not the problems'\n"
    )
    for line in count.disagreements[:SHOWN]:
        sys.stdout.write(f"    {line}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
