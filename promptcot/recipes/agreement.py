"""Traces that agree with the reference of their problem, as a verifier decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tqdm import tqdm

from promptcot.protocols import Verifier
from promptcot.reasoning import Trace
from promptcot.recipes.asking import patience_s
from promptcot.records import Outcome, Problem
from promptcot.store import Round

VERDICTS = "verdicts"
"""Stage of a round: by trace what the verifier says."""
DISAGREEING = {
    Outcome.FAIL: "disagrees with the reference",
    Outcome.UNDECIDED: "undecided whether it agrees with the reference",
}


class Sample(NamedTuple):
    """A trace that is asked for: number ``number`` of those of a problem, from 0 on."""

    problem: Problem
    problem_key: str
    number: int

    def name(self) -> dict[str, Any]:
        """What tells it from others, for rows of what was dropped."""
        return {"id": self.problem.id, "sample": self.number}


def agreeing(
    making: Round,
    verifier: Verifier,
    samples: Mapping[str, Sample],
    traces: Mapping[str, Trace],
) -> dict[str, str]:
    """The answer of each trace that passes, by key; the others are dropped and counted."""
    _verify(making, verifier, samples, traces)
    verdicts = making.rows(VERDICTS)
    answers: dict[str, str] = {}
    for key in traces:
        verdict = verdicts[key]
        outcome = Outcome(verdict["outcome"])
        if outcome is Outcome.PASS:
            answers[key] = verdict["answer"]
        else:
            found = {name: verdict[name] for name in ("answer", "detail")}
            making.drop(key, DISAGREEING[outcome], **samples[key].name(), **found)
    return answers


def _verify(
    making: Round,
    verifier: Verifier,
    samples: Mapping[str, Sample],
    traces: Mapping[str, Trace],
) -> None:
    """Append the verdicts that are not on disk yet."""
    done = making.rows(VERDICTS)
    left = [key for key in traces if key not in done]
    verdicts = verifier.verdicts((samples[key].problem, traces[key].reply) for key in left)
    bar = tqdm(desc=VERDICTS, total=len(left), mininterval=patience_s(), unit="trace")
    with bar:
        for key in left:
            verdict = next(verdicts)
            found = {"answer": verdict.answer, "detail": verdict.detail}
            making.append(VERDICTS, key, {"outcome": str(verdict.outcome), **found})
            bar.update()
