"""Is a final answer right? Extraction, then equivalence, in processes that can be killed.

The outcome is ``undecided``, with a reason, where no rule knows: an answer in prose, one of many
characters, a value too large to compute, a decision that takes too long.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock

from promptcot.records import Outcome
from verify.extraction import FORMS, Extraction, extract
from verify.formulas.deciding import Decision, decide_quickly
from verify.workers import WorkerPool

Pair = tuple[str, str]
WORKER = "from verify.answer_worker import main; main()"
SHOWN = 80
"""Characters of an answer that a detail repeats."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The outcome for a solution, its answer, and the rule that decided."""

    outcome: Outcome
    rule: str
    answer: str | None
    detail: str
    seconds: float = 0.0


class AnswerVerifier:
    """Decides whether the final answer of a solution equals the reference.

    Processes are started when the first answer needs one. Close it after use.

    Args:
        num_workers: Processes that decide at the same time.
        wall_s: Seconds that one answer may take before its process is killed.
        forms: Forms of answers that count, see ``extraction.FORMS``.
    """

    def __init__(
        self, num_workers: int = 1, wall_s: float = 2.0, forms: Sequence[str] = FORMS
    ) -> None:
        extract("", forms)
        self.forms = tuple(forms)
        self.pool = WorkerPool(num_workers, wall_s, WORKER)
        self._lock = Lock()

    def judge(self, reference: str | None, solution: str) -> Judgement:
        """The judgement of one solution."""
        return next(iter(self.judge_all([(reference, solution)])))

    def are_equal(self, a: str, b: str) -> bool | None:
        """Whether two answers, already extracted, mean the same; None where no rule knows."""
        quick = decide_quickly(a, b)
        if quick is None:
            with self._lock:
                quick = next(decision for _, decision, _ in list(decided(self.pool, [(a, b)])))
        return None if quick.outcome is Outcome.UNDECIDED else quick.outcome is Outcome.PASS

    def judge_all(self, rows: Iterable[tuple[str | None, str]]) -> Iterator[Judgement]:
        """Judgements of references and solutions, in their order, as soon as each can be told."""
        with self._lock:
            yield from _InOrder(self.pool, self.forms).run(rows)

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        self.pool.close()


@dataclass(slots=True)
class _Row:
    answer: Extraction
    decision: Decision | None = None
    seconds: float = 0.0

    def judgement(self) -> Judgement:
        assert self.decision is not None
        decision, answer = self.decision, self.answer.answer
        said = f"answer {_short(answer)} ({self.answer.form}), by {decision.rule}" if answer else ""
        detail = "; ".join(part for part in (said, decision.reason) if part)
        return Judgement(decision.outcome, decision.rule, answer, detail, round(self.seconds, 6))


class _InOrder:
    """Sends what needs a worker to the pool, and gives out the judgements in order."""

    def __init__(self, pool: WorkerPool, forms: Sequence[str]) -> None:
        self.pool = pool
        self.forms = forms
        self.rows: deque[_Row] = deque()
        self.sent: list[_Row] = []
        self.limit = 64 * pool.num_workers

    def run(self, source: Iterable[tuple[str | None, str]]) -> Iterator[Judgement]:
        """All judgements. At most ``limit`` rows wait for one before them."""
        rows = iter(source)
        while True:
            hard = list(self._next_hard(rows))
            for place, decision, seconds in decided(self.pool, hard) if hard else ():
                self.sent[place].decision = decision
                self.sent[place].seconds += seconds
            self.sent.clear()
            if not self.rows:
                return
            while self.rows:
                yield self.rows.popleft().judgement()

    def _next_hard(self, rows: Iterator[tuple[str | None, str]]) -> Iterator[Pair]:
        while len(self.rows) < self.limit:
            given = next(rows, None)
            if given is None:
                return
            started = time.monotonic()
            row, pair = _prepare(*given, self.forms)
            if pair is not None:
                row.decision = decide_quickly(*pair)
            row.seconds = time.monotonic() - started
            self.rows.append(row)
            if pair is not None and row.decision is None:
                self.sent.append(row)
                yield pair


def _prepare(
    reference: str | None, solution: str, forms: Sequence[str]
) -> tuple[_Row, Pair | None]:
    row = _Row(extract(solution, forms))
    expected = reference_answer(reference)
    if expected is None:
        row.decision = Decision(Outcome.UNDECIDED, "no reference", "there is no reference answer")
        return row, None
    if row.answer.answer is None:
        row.decision = Decision(Outcome.UNDECIDED, "no answer", row.answer.form)
        return row, None
    return row, (expected, row.answer.answer)


def decided(pool: WorkerPool, pairs: Iterable[Pair]) -> Iterator[tuple[int, Decision, float]]:
    """Place of a pair, the decision about it, and the seconds that it took; as they are made."""
    rows = ({"reference": reference, "answer": answer} for reference, answer in pairs)
    reasons = {"time": f"no decision within {pool.wall_s:g} s", "death": "the process died of it"}
    for result in pool.run(rows):
        if result.row is None:
            decision = Decision(Outcome.UNDECIDED, result.lost, reasons[result.lost])
        else:
            said = result.row
            decision = Decision(Outcome(said["outcome"]), said["rule"], said["reason"])
        yield result.number, decision, result.seconds


def reference_answer(reference: str | None) -> str | None:
    """The answer in a reference: what it boxes, or has behind its last ####, else all of it."""
    if reference is None or not reference.strip():
        return None
    return extract(reference, ("boxed",)).answer or reference.rpartition("#### ")[2] or reference


def _short(text: str | None) -> str:
    said = repr(text)
    return said if len(said) <= SHOWN else said[:SHOWN] + "..."
