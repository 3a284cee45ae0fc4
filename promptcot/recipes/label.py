"""References for problems that come without: a vote of many completions of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import AutoEngine
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.prompts import PromptFormat
from promptcot.protocols import (
    Completion,
    Labeller,
    OpenEngine,
    OpenLabeller,
    Request,
    Sampling,
)
from promptcot.recipes.asking import complete, lazily, seed_of
from promptcot.recipes.making import drop_copies, seeds_fingerprint
from promptcot.records import Domain, Problem
from promptcot.store import DROPPED, ROWS, Round

NO_TESTS = "a program without tests, which no vote can write"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class LabelProblems:
    """A model solves each problem that has no reference, and what most solutions say becomes it.

    PromptCoT 2.0 (arXiv 2509.19894) takes the majority of 8 solutions of another, stronger model.
    Problems that have a reference are passed on as they are. A problem whose vote elects nothing
    is dropped and counted.

    Args:
        labeller: The model: a folder of weights, or the name under which a server has it.
        vote: Counts the answers of one problem: ``verify.MajorityVote``.
        corpus: The problems.
        sampling: Of the labeller; n solutions vote.
        engine: Opened on the labeller.
        format: The wording of prompts.
        seed: Of all sampling.
    """

    labeller: str
    vote: OpenLabeller
    corpus: Corpus = field(default_factory=Corpus)
    sampling: Sampling = field(default_factory=lambda: Sampling(n=8))
    engine: OpenEngine = AutoEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42

    def settings(self) -> dict[str, Any]:
        return {
            "recipe": "label",
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "labeller": weights_fingerprint(self.labeller),
            "format": fingerprint(self.format.to_row()),
        }

    def make(self, making: Round) -> None:
        seeds = read_corpus(self.corpus)
        drop_copies(making, seeds.copies)
        problems = {fingerprint(problem.to_row()): problem for problem in seeds.problems}
        solved = self._solve(making, problems)
        done = making.rows(ROWS).keys() | making.rows(DROPPED).keys()
        with closing(self.vote()) as labeller:
            for key, problem in problems.items():
                if key in done:
                    continue
                if key in solved:
                    self._label(making, labeller, key, problem, solved[key])
                elif _has_reference(problem):
                    making.append(ROWS, key, problem.to_row())
                else:
                    making.drop(key, NO_TESTS, id=problem.id)
        making.figures = _figures(making, solved)

    def _solve(
        self, making: Round, problems: Mapping[str, Problem]
    ) -> Mapping[str, list[Completion]]:
        requests = {
            key: Request(self.format.solve_prompt(problem), seed_of(self.seed, key))
            for key, problem in problems.items()
            if problem.domain is Domain.MATH and not _has_reference(problem)
        }
        with lazily(self.engine, self.labeller) as engine:
            return complete(making, "solutions", engine, requests, self.sampling)

    def _label(
        self,
        making: Round,
        labeller: Labeller,
        key: str,
        problem: Problem,
        solutions: Sequence[Completion],
    ) -> None:
        label = labeller.label(solutions)
        count = {"labeller": self.labeller, "votes": label.votes, "cast": label.cast}
        if label.answer is None:
            return making.drop(key, label.why, id=problem.id, **count)
        share = label.votes / len(solutions)
        labelled = replace(problem, reference=label.answer, vote_share=share)
        making.append(ROWS, key, {**labelled.to_row(), **count})


def _has_reference(problem: Problem) -> bool:
    return bool((problem.reference or "").strip())


def _figures(making: Round, solved: Mapping[str, Sequence[Completion]]) -> dict[str, Any]:
    rows = making.rows(ROWS)
    shares = [row["vote_share"] for key, row in rows.items() if key in solved]
    figures: dict[str, Any] = {
        "asked": len(solved),
        "given": len(rows) - len(shares),
        "labelled": len(shares),
    }
    if solved:
        figures["cut_off"] = fmean(not s.finished for each in solved.values() for s in each)
    if shares:
        figures["mean_vote_share"] = fmean(shares)
        figures["unanimous"] = fmean(share == 1 for share in shares)
    return figures
