"""What self-play and evaluation share: a policy attempts problems, a verifier decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from promptcot.attempts import Attempt
from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import AutoEngine
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.prompts import PromptFormat
from promptcot.protocols import (
    REFUSED,
    Completion,
    OpenEngine,
    OpenVerifier,
    Request,
    Sampling,
    Verifier,
)
from promptcot.recipes.asking import complete, lazily, patience_s, seed_of
from promptcot.recipes.making import drop_copies, seeds_fingerprint
from promptcot.records import Outcome, Problem, Verdict
from promptcot.solutions import SolutionFlaw, Thought, solution_flaw
from promptcot.stage_rows import Lazily
from promptcot.store import Round

Objection = Callable[[Problem], str]
ROLLOUTS, ATTEMPTS = "rollouts", "attempts"
"""Stages of a round: completions by problem, and the verdicts on them."""


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Attempting:
    """A policy writes n solutions of each problem; a verifier decides about each.

    Args:
        verifier: YAML names its class, such as ``verify.ByDomain``.
        policy: Folder of the weights, or name of the served model.
        corpus: Problems with a final answer (mathematics) or unit tests (code) as ``reference``.
        sampling: Of the policy.
        thought: Whether a well-formed solution has one <think>...</think> before its reply.
        engine: Opened on the policy, as a rule with ``chat: true``.
        format: The wording of prompts.
        seed: Of all sampling.
    """

    verifier: OpenVerifier
    policy: str = ""
    corpus: Corpus = field(default_factory=Corpus)
    sampling: Sampling = field(default_factory=lambda: Sampling(n=8))
    thought: Thought = "allowed"
    engine: OpenEngine = AutoEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42

    def settings(self) -> dict[str, Any]:
        return {
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "policy": weights_fingerprint(self.policy),
            "format": fingerprint(self.format.to_row()),
        }

    def problems(self) -> Sequence[Problem]:
        """Those of the round."""
        return read_corpus(self.corpus).problems

    def copies(self) -> Sequence[str]:
        """Ids of the corpus's rows that are in no round because they are copies."""
        return read_corpus(self.corpus).copies

    def objections(self, verifier: Verifier) -> Objection:
        """Why a problem is not asked, in words that count all of its kind; empty where it is."""
        return verifier.objection

    def _problems(self, making: Round, verifier: Verifier) -> dict[str, Problem]:
        """Those that are asked, by key; the others are dropped and counted."""
        keyed = {fingerprint(problem.to_row()): problem for problem in self.problems()}
        objection = self.objections(verifier)
        drop_copies(making, self.copies())
        asked: dict[str, Problem] = {}
        for key, problem in keyed.items():
            if reason := objection(problem):
                making.drop(key, reason, id=problem.id)
            else:
                asked[key] = problem
        return asked

    def _attempts(self, making: Round) -> tuple[dict[str, Problem], Mapping[str, list[Attempt]]]:
        """The problems that were attempted and what became of it, by key.

        Attempts are read anew whenever those of a problem are asked for: all of a round's, long
        solutions with their token ids, are too much for memory.

        Raises:
            ValueError: There is no policy.
        """
        if not self.policy:
            raise ValueError(
                "there is no policy: name a folder of weights, or a served model, with --policy"
            )
        with closing(self.verifier()) as verifier:
            problems = self._problems(making, verifier)
            requests = {
                key: Request(self.format.solve_prompt(problem), seed_of(self.seed, key))
                for key, problem in problems.items()
            }
            with lazily(self.engine, self.policy) as engine:
                written = complete(making, ROLLOUTS, engine, requests, self.sampling, keep="tokens")
            self._verify(making, verifier, problems, written)
        verdicts = making.rows(ATTEMPTS)

        def attempts_at(key: str) -> list[Attempt]:
            judged = zip(verdicts[key]["verdicts"], written[key], strict=True)
            return [Attempt.from_row(row, completion) for row, completion in judged]

        return problems, Lazily(written, attempts_at)

    def _verify(
        self,
        making: Round,
        verifier: Verifier,
        problems: Mapping[str, Problem],
        written: Mapping[str, Sequence[Completion]],
    ) -> None:
        """Write a row of verdicts of each problem, as soon as it has all of them."""
        done = making.rows(ATTEMPTS)
        left = [key for key in written if key not in done]
        if not left:
            return
        verdicts = verifier.verdicts(
            (problems[key], completion.text)
            for key in left
            for completion in written[key]
            if completion.finished
        )
        bar = tqdm(desc="verdicts", total=len(left), mininterval=patience_s(), unit="problem")
        for key in left:
            attempts = list(self._judged(problems[key], written[key], verdicts))
            row = {
                "id": problems[key].id,
                "reference": problems[key].reference,
                "passed": sum(attempt.passed for attempt in attempts),
                "failed": sum(attempt.failed for attempt in attempts),
                "attempts": len(attempts),
                "verdicts": [attempt.to_row() for attempt in attempts],
            }
            making.append(ATTEMPTS, key, row)
            bar.update()
        bar.close()

    def _judged(
        self, problem: Problem, completions: Sequence[Completion], verdicts: Iterator[Verdict]
    ) -> Iterator[Attempt]:
        for completion in completions:
            flaw = solution_flaw(problem, completion.text, completion.finished, self.thought)
            if completion.finish_reason == REFUSED:
                flaw = SolutionFlaw.REFUSED
            verdict = Verdict(Outcome.UNDECIDED, str(flaw or ""))
            if completion.finished:
                verdict = next(verdicts)
            if flaw is None and verdict.outcome is Outcome.UNDECIDED and not verdict.answer:
                flaw = SolutionFlaw.NO_ANSWER
            yield Attempt(completion, verdict, str(flaw or ""))
