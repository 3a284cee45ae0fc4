"""Attempts at problems and their verdicts, and what a round of them says of the policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from promptcot.diversity import distinct_ngrams, entropy
from promptcot.protocols import Completion
from promptcot.records import Outcome, Verdict

NGRAM = 4
"""Words in a row by which attempts at one problem are told apart."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A completion, the verdict on it, and its flaw of form; empty for a well-formed one."""

    completion: Completion
    verdict: Verdict
    flaw: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is well formed and right."""
        return not self.flaw and self.verdict.outcome is Outcome.PASS

    @property
    def failed(self) -> bool:
        """Whether it is well formed and wrong."""
        return not self.flaw and self.verdict.outcome is Outcome.FAIL

    def to_row(self) -> dict[str, Any]:
        """Verdict and flaw, without the completion."""
        verdict = self.verdict
        return {
            "outcome": str(verdict.outcome),
            "answer": verdict.answer,
            "detail": verdict.detail,
            "flaw": self.flaw,
        }

    @staticmethod
    def from_row(row: Mapping[str, Any], completion: Completion) -> Attempt:
        """The attempt of a completion whose verdict ``to_row`` wrote."""
        verdict = Verdict(Outcome(row["outcome"]), row["detail"], row["answer"])
        return Attempt(completion, verdict, row["flaw"])


def attempt_figures(asked: Sequence[Sequence[Attempt]]) -> dict[str, Any]:
    """Counts and means over the attempts at each problem.

    Every attempt is passed, failed, undecided or flawed, and ``attempts`` is their sum.
    """
    every = [attempt for attempts in asked for attempt in attempts]
    if not every:
        return {"problems_asked": 0, "attempts": 0}
    flaws = Counter(attempt.flaw for attempt in every if attempt.flaw)
    passed, failed = sum(a.passed for a in every), sum(a.failed for a in every)
    counts = {
        "problems_asked": len(asked),
        "attempts": len(every),
        "passed": passed,
        "failed": failed,
        "flawed": flaws.total(),
        "undecided": len(every) - passed - failed - flaws.total(),
        "flaws": dict(sorted(flaws.items())),
    }
    texts = [[attempt.completion.text for attempt in attempts] for attempts in asked]
    rights = [sum(a.passed for a in attempts) / len(attempts) for attempts in asked]
    return {
        **counts,
        "pass_rate": passed / len(every),
        "mostly_solved": fmean(right > 1 / 2 for right in rights),
        "never_solved": fmean(right == 0 for right in rights),
        f"distinct_{NGRAM}": fmean(distinct_ngrams(some, NGRAM) for some in texts),
        "answer_entropy": fmean(entropy(Counter(a.verdict.answer for a in some)) for some in asked),
        **_lengths(every),
    }


def _lengths(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Mean tokens of all and of those that passed; words, where an engine tells no tokens."""
    lengths = [len(a.completion.tokens or a.completion.text.split()) for a in attempts]
    right = [length for length, a in zip(lengths, attempts, strict=True) if a.passed]
    found = {"mean_tokens": fmean(lengths)}
    return {**found, "mean_tokens_passed": fmean(right)} if right else found
