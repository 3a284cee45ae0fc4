"""A program, the tests that it must pass, and how: one row of ``cli.py verify``, checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from promptcot.fences import LANGUAGES
from promptcot.records import Problem
from verify.outputs import CHECKER, tolerance
from verify.sandbox import Limits

MODES = ("stdin", "function")
FIELDS = {"stdin": ("stdin", "stdout"), "function": ("args", "expected")}
"""Fields of a test. One may be absent, but not where there are others, whose names may be wrong."""
MAX_INPUT = 1 << 30
"""Bytes of one standard input."""
MAX_NESTING = 100
"""Lists and objects within each other; Python could not write a thousand of them down again."""
TOO_DEEP = f"it is nested deeper than {MAX_NESTING} lists and objects"


@dataclass(frozen=True, slots=True)
class Submission:
    """A solution to be judged.

    Args:
        id: Name of the row.
        language: A key of ``completions.LANGUAGES``.
        mode: "stdin": a script; "function": ``entry`` is called.
        entry: Function or method; None for the only one.
        solution: A completion or a program.
        tests: {"stdin", "stdout"} or {"args", "expected"}; where ``stdout`` is null, or
            ``expected`` absent, the program only has to end well.
        compare: See ``outputs``.
        limits: Of each test.
        checker: Source of the program that decides about outputs, if there is one.
        is_program: Whether the solution is a program as it stands, not a completion.
    """

    id: str
    language: str
    mode: str
    entry: str | None
    solution: str
    tests: tuple[Mapping[str, Any], ...]
    compare: str
    limits: Limits
    checker: str | None = None
    is_program: bool = False

    def to_row(self) -> dict[str, Any]:
        """A JSON object; ``from_row`` reads it back."""
        return {
            "id": self.id,
            "language": self.language,
            "mode": self.mode,
            "entry": self.entry,
            "solution": self.solution,
            "tests": list(self.tests),
            "compare": self.compare,
            "limits": self.limits.to_row(),
            "checker": self.checker,
            "is_program": self.is_program,
        }

    @staticmethod
    def from_row(row: Mapping[str, Any], folder: Path | None = None) -> Submission:
        """The submission in a row.

        Args:
            row: A row of ``cli.py verify``.
            folder: Where files that it names lie; None forbids to name any.

        Raises:
            ValueError: A field is missing or wrong; it is named.
            FileNotFoundError: A file that the row names does not exist.
        """
        _check_nesting(row)
        tests = _tests(row.get("tests"))
        mode = row.get("mode") or ("function" if any("args" in test for test in tests) else "stdin")
        language = row.get("language") or "python"
        if not isinstance(language, str) or language not in LANGUAGES:
            raise ValueError(f"language is {language!r}, but it can be {' or '.join(LANGUAGES)}")
        if mode not in MODES or (mode == "function" and language != "python"):
            raise ValueError(
                f"mode is {mode!r} for {language}, but it can be 'stdin', or 'function' for Python"
            )
        entry = row.get("entry")
        if not isinstance(entry, str | None):
            raise ValueError(f"entry is {entry!r}, but it must be a name or null")
        compare = row.get("compare") or "tokens"
        if not isinstance(compare, str):
            raise ValueError(f"compare is {compare!r}, but it must be a text")
        tolerance(compare)
        for number, test in enumerate(tests, 1):
            _check_names(test, mode, number, has_checker=compare.startswith(CHECKER))
            _check_test(test, mode, number)
        return Submission(
            id=str(row.get("id", row.get("name"))),
            language=language,
            mode=mode,
            entry=entry,
            solution=_solution(row, folder),
            tests=tests,
            compare=compare,
            limits=Limits.of(row.get("limits")),
            checker=_checker(row, compare, mode, folder),
            is_program=bool(row.get("is_program") or row.get("solution") is None),
        )

    @staticmethod
    def of_problem(problem: Problem, solution: str, language: str = "python") -> Submission:
        """A solution of a problem whose reference is its tests.

        They are JSON: a list of tests, or an object with ``tests`` and any other field of a row.

        Args:
            problem: Of programming.
            solution: A completion.
            language: Where the reference does not say it.

        Raises:
            ValueError: The problem has no tests, or they are malformed.
        """
        if problem.reference is None:
            raise ValueError("it has no tests as its reference")
        try:
            given: Any = json.loads(problem.reference)
        except RecursionError:
            raise ValueError(TOO_DEEP) from None
        row = {"tests": given} if isinstance(given, list) else given
        if not isinstance(row, dict):
            raise ValueError("its reference is neither a list of tests nor an object with tests")
        return Submission.from_row(
            {"language": language, **row, "id": problem.id, "solution": solution}
        )


def standard_input(test: Mapping[str, Any]) -> bytes:
    """Standard input of a test; ``stdin_repeat`` [head, unit, n] stands for head + unit * n."""
    if test.get("stdin_repeat") is not None:
        head, unit, times = test["stdin_repeat"]
        return bytes((head + unit * times).encode(errors="surrogatepass"))
    text: str = test.get("stdin") or ""
    return text.encode(errors="surrogatepass")


def _check_nesting(row: Mapping[str, Any]) -> None:
    level: list[Any] = [row]
    for _ in range(MAX_NESTING):
        inner = chain.from_iterable(v.values() if isinstance(v, Mapping) else v for v in level)
        level = [value for value in inner if isinstance(value, dict | list)]
        if not level:
            return
    raise ValueError(TOO_DEEP)


def _tests(value: Any) -> tuple[Mapping[str, Any], ...]:  # noqa: ANN401
    if not isinstance(value, list) or not all(isinstance(test, dict) for test in value):
        raise ValueError(f"tests are {str(value)[:60]!r}, but they must be a list of objects")
    return tuple(value)


def _check_test(test: Mapping[str, Any], mode: str, number: int) -> None:
    if mode == "function":
        if not isinstance(test.get("args"), list | dict):
            raise ValueError(f"test {number} has no list `args`, which a function is called with")
        return
    repeated = test.get("stdin_repeat")
    if repeated is not None:
        kinds = [type(part) for part in repeated] if isinstance(repeated, list) else []
        if kinds != [str, str, int] or len(repeated[1]) * repeated[2] > MAX_INPUT:
            raise ValueError(
                f"test {number}: stdin_repeat must be [text, text, times], at most {MAX_INPUT} "
                "bytes in all"
            )
    for name in ("stdin", "stdout"):
        if not isinstance(test.get(name), str | None):
            raise ValueError(f"test {number}: {name} is {ascii(test[name])[:40]}, not a text")


def _check_names(test: Mapping[str, Any], mode: str, number: int, *, has_checker: bool) -> None:
    """Refuse {"input", "output"} and the like, which any program that ends well would pass.

    A checker may need no output to compare with.
    """
    named = {"stdin" if name == "stdin_repeat" else name for name in test}
    wanted = FIELDS[mode]
    needed = wanted[:1] if has_checker else wanted
    missing, others = [name for name in needed if name not in named], sorted(named - {*wanted})
    if missing and others:
        raise ValueError(
            f"test {number} has {ascii(', '.join(others))[:60]}, but no {' and no '.join(missing)}:"
            f" the fields are called {' and '.join(wanted)}"
        )


def _solution(row: Mapping[str, Any], folder: Path | None) -> str:
    solution = row.get("solution")
    if solution is None and folder is not None and isinstance(row.get("program"), str):
        return _source("program", folder / row["program"])
    if isinstance(solution, str):
        return solution
    raise ValueError("a row of code needs a text as `solution`, or the file of a `program`")


def _checker(row: Mapping[str, Any], compare: str, mode: str, folder: Path | None) -> str | None:
    if not compare.startswith(CHECKER):
        return None
    if mode == "function":
        raise ValueError("a checker reads what a program writes: mode must be 'stdin'")
    if folder is None:  # a row that has been checked, on its way to a worker
        checker = row.get("checker")
        if not isinstance(checker, str):
            raise ValueError(f"compare is {compare!r}, but no file can be read here")
        return checker
    return _source("checker", folder / compare.removeprefix(CHECKER))


def _source(kind: str, path: Path) -> str:
    if path.exists() and not path.is_file():  # such as /dev/zero, which has no end
        raise ValueError(f"the {kind} {str(path)!r} is no file: name one in the folder of the rows")
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except (OSError, ValueError) as error:  # ValueError: of a name with a null byte
        said = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"the {kind} {str(path)!r} cannot be read ({said}): its name is relative to the "
            "folder of the rows"
        ) from None
