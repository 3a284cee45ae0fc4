"""Solutions of both domains: final answers against references, programs against tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

from tqdm import tqdm

from promptcot.fences import LANGUAGES
from promptcot.records import Domain, Problem, Verdict
from verify.answers import AnswerVerifier, Judgement, reference_answer
from verify.extraction import FORMS
from verify.judging import Ruling
from verify.sandbox import is_active
from verify.submissions import Submission
from verify.unit_tests import UnitTestVerifier

TOGETHER = 256
"""Solutions that are read ahead, so that answers and programs find enough to do at once."""
HIDING = ("root", "landlock")
UNHIDDEN = "programs can read all files that you can read, and the memory of the judge"

NO_REFERENCE = "no reference answer"
NO_RULE = "no rule decides the reference itself"
NO_TESTS = "no tests"
MALFORMED_TESTS = "malformed tests"
OTHER = "0"
"""An answer that every rule can read."""

T = TypeVar("T")


class Answer(NamedTuple):
    """A solution whose final answer is to be compared with a reference."""

    reference: str | None
    solution: str


class Judges:
    """Both verifiers, their processes started when a solution needs one. Close it after use.

    Args:
        num_workers: Processes of each; 0 for one a core.
        wall_s: Seconds that one answer may take; programs have limits of their own.
        forms: Forms of answers that count, see ``extraction.FORMS``.
        allow_unsafe: Run programs although nothing confines them on this machine.
    """

    def __init__(
        self,
        num_workers: int = 0,
        wall_s: float = 2.0,
        forms: Sequence[str] = FORMS,
        allow_unsafe: bool = False,
    ) -> None:
        self.num_workers = num_workers or len(os.sched_getaffinity(0))
        self.allow_unsafe = allow_unsafe
        self.answers = AnswerVerifier(self.num_workers, wall_s, forms)
        self._programs: UnitTestVerifier | None = None

    def judged(
        self, tasks: Iterable[tuple[T, Answer | Submission | Ruling]]
    ) -> Iterator[tuple[T, Judgement | Ruling]]:
        """What is found, beside the name that came with the task, in the order of the tasks.

        Args:
            tasks: Read ahead by at most ``TOGETHER``; a ruling is given back as it is.
        """
        source = iter(tasks)
        while some := list(islice(source, TOGETHER)):
            answers = [task for _, task in some if isinstance(task, Answer)]
            judgements = self.answers.judge_all(answers)
            submissions = [task for _, task in some if isinstance(task, Submission)]
            rulings = self.programs().judge_all(submissions) if submissions else iter(())
            for name, task in some:
                if isinstance(task, Answer):
                    yield name, next(judgements)
                else:
                    yield name, task if isinstance(task, Ruling) else next(rulings)
            del judgements, rulings  # each keeps its verifier to itself until it ends

    def programs(self) -> UnitTestVerifier:
        """The verifier of programs; the first time it says what confines them."""
        if self._programs is None:
            self._programs = UnitTestVerifier(self.num_workers, allow_unsafe=self.allow_unsafe)
            for layer, what in self._programs.layers.items():
                tqdm.write(f"sandbox: {layer}: {what}", file=sys.stderr)
            if not any(is_active(self._programs.layers[name]) for name in HIDING):
                tqdm.write(f"sandbox: warning: {UNHIDDEN}", file=sys.stderr)
        return self._programs

    def active_layers(self) -> list[str]:
        """Names of the layers of isolation that confine programs."""
        return [layer for layer, what in self.programs().layers.items() if is_active(what)]

    def close(self) -> None:
        """End all processes. Safe to call twice."""
        self.answers.close()
        if self._programs is not None:
            self._programs.close()


class ByDomain:
    """Verifies mathematics by its final answer, and programs by their unit tests.

    Args:
        num_workers: Processes of each kind; 0 for one a core.
        wall_s: Seconds that one answer may take; tests have limits of their own.
        forms: Forms of answers that count, see ``extraction.FORMS``.
        language: Of programs whose problem does not say it.
        allow_unsafe: Run programs although nothing confines them on this machine.
    """

    RESOURCES = frozenset({"num_workers"})

    def __init__(
        self,
        num_workers: int = 0,
        wall_s: float = 2.0,
        forms: Sequence[str] = FORMS,
        language: str = "python",
        allow_unsafe: bool = False,
    ) -> None:
        if language not in LANGUAGES:
            raise ValueError(f"language={language!r}: choose {' or '.join(LANGUAGES)}")
        self.language = language
        self._judges = Judges(num_workers, wall_s, forms, allow_unsafe)

    def objection(self, problem: Problem) -> str:
        """Why no solution of this problem can be decided; empty where one can."""
        if problem.domain is Domain.CODE:
            return self._objection_to_tests(problem)
        expected = reference_answer(problem.reference)
        if expected is None:
            return NO_REFERENCE
        # the same spelling is always equal: whether a rule reads it, another answer shows
        return NO_RULE if self._judges.answers.are_equal(expected, OTHER) is None else ""

    def verdicts(self, attempts: Iterable[tuple[Problem, str]]) -> Iterator[Verdict]:
        """Verdicts on whole completions or bare answers, in their order.

        One stream at a time: another waits until this one ends or is given up.

        Raises:
            SandboxError: A program is to run, and nothing confines it on this machine.
        """
        tasks = ((None, self._task(problem, solution)) for problem, solution in attempts)
        for _, found in self._judges.judged(tasks):
            yield _verdict(found)

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        self._judges.close()

    def _objection_to_tests(self, problem: Problem) -> str:
        if not (problem.reference or "").strip():
            return NO_TESTS
        try:
            submission = Submission.of_problem(problem, "", self.language)
        except ValueError:
            return MALFORMED_TESTS
        return "" if submission.tests else NO_TESTS

    def _task(self, problem: Problem, solution: str) -> Answer | Submission | Ruling:
        if problem.domain is not Domain.CODE:
            return Answer(problem.reference, solution)
        try:
            return Submission.of_problem(problem, solution, self.language)
        except ValueError as error:
            return Ruling("IE", f"problem {problem.id}: {error}")


def _verdict(found: Judgement | Ruling) -> Verdict:
    if isinstance(found, Judgement):
        return Verdict(found.outcome, found.detail, found.answer or "")
    return Verdict(found.outcome, f"{found.verdict}: {found.detail}", found.verdict)
