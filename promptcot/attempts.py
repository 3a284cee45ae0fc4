"""Attempts at problems and their verdicts, and what a round of them says of the policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def attempt_figures(asked: Iterable[Sequence[Attempt]]) -> dict[str, Any]:
    """Counts and means over the attempts at each problem, which are gone through once.

    Every attempt is passed, failed, undecided or flawed, and ``attempts`` is their sum.
    """
    flaws: Counter[str] = Counter()
    failed = 0
    lengths: list[int] = []
    right_lengths: list[int] = []
    rights: list[float] = []
    distinct: list[float] = []
    entropies: list[float] = []
    for attempts in asked:
        flaws.update(attempt.flaw for attempt in attempts if attempt.flaw)
        failed += sum(attempt.failed for attempt in attempts)
        lengths += map(_length, attempts)
        passed = [attempt for attempt in attempts if attempt.passed]
        right_lengths += map(_length, passed)
        rights.append(len(passed) / len(attempts))
        distinct.append(distinct_ngrams((a.completion.text for a in attempts), NGRAM))
        entropies.append(entropy(Counter(a.verdict.answer for a in attempts)))
    if not lengths:
        return {"problems_asked": 0, "attempts": 0}
    return {
        "problems_asked": len(rights),
        "attempts": len(lengths),
        "passed": len(right_lengths),
        "failed": failed,
        "flawed": flaws.total(),
        "undecided": len(lengths) - len(right_lengths) - failed - flaws.total(),
        "flaws": dict(sorted(flaws.items())),
        "pass_rate": len(right_lengths) / len(lengths),
        "mostly_solved": fmean(right > 1 / 2 for right in rights),
        "never_solved": fmean(right == 0 for right in rights),
        f"distinct_{NGRAM}": fmean(distinct),
        "answer_entropy": fmean(entropies),
        "mean_tokens": fmean(lengths),
        **({"mean_tokens_passed": fmean(right_lengths)} if right_lengths else {}),
    }


def _length(attempt: Attempt) -> int:
    """Tokens of an attempt; words, where an engine tells no tokens."""
    return len(attempt.completion.tokens or attempt.completion.text.split())
