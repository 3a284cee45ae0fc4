"""Self-play: the policy's own right and wrong solutions, in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from promptcot.attempts import Attempt, attempt_figures
from promptcot.corpora import read_corpus
from promptcot.fingerprints import fingerprint
from promptcot.protocols import Completion, Sampling, ScoreRequest, Target, Verifier
from promptcot.recipes.asking import seed_of
from promptcot.recipes.attempting import ATTEMPTS, Attempting, Objection
from promptcot.recipes.making import PolicyRecipe, Recipe
from promptcot.records import Problem
from promptcot.selection import (
    NO_PAIR,
    SOLVED_BY_NONE,
    SOLVED_TOO_OFTEN,
    is_solved_too_often,
    objection_to_problem,
    preference_pairs,
)
from promptcot.stage_rows import Row
from promptcot.store import DROPPED, ROWS, Round, read_round

NUM_PROBES = 4
SOLVED_BEFORE = "solved by all attempts of an earlier round"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class SelfPlay(Attempting):
    """Samples n solutions of each problem, has them verified, and pairs right with wrong ones.

    A row is a pair: a problem, ``chosen`` and ``rejected`` with their token ids. Attempts that are
    cut off or malformed, or about which the verifier cannot decide, are in no pair; they count as
    attempts that did not pass. Of the problems, each counted by its rule, are left out: those
    without a label or tests, with a trivial label, or with a statement that no answer decides;
    those that no attempt solves, or too many do; those without two well-formed attempts to
    compare. The label of a problem is given or, by ``make label``, voted by a named model.

    Args:
        sampling: Of the policy; the paper draws 8 at temperature 1.2 (30B) or 1.25 (4B).
        max_pass_rate: Share of right attempts from which a problem is too easy.
        keep_at_max: Keep a problem with just that share, as the released code of the paper does.
        max_pairs: Of one problem.
        max_pairs_voted: Of one whose label was voted, and may be wrong.
        num_problems: Of a round; null for all. Rounds of a fit take one part of the corpus after
            another, in an order that the problems' hashes decide, and begin again at its end.
        part: Which part this round takes.
        trivial_labels: Keep problems whose answer is 0, 1, "no" or "none".
        solved_in: Folders of rounds, in order; what all attempts of the last one that asked it
            solved is not asked again.
        temperature_step: By how much ``harder`` raises the temperature.

    Source:
        PromptCoT 2.0 (arXiv 2509.19894), section 3.4.2.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(n=8, temperature=1.2))
    max_pass_rate: float = 0.5
    keep_at_max: bool = False
    max_pairs: int = 4
    max_pairs_voted: int = 2
    num_problems: int | None = None
    part: int = 0
    trivial_labels: bool = False
    solved_in: tuple[str, ...] = ()
    temperature_step: float = 0.1

    def __post_init__(self) -> None:
        if self.sampling.n < 2:  # noqa: PLR2004
            raise ValueError(
                f"sampling n={self.sampling.n}: a pair needs a right and a wrong attempt, so n "
                "must be 2 or more"
            )
        if not 0 < self.max_pass_rate <= 1:
            raise ValueError(
                f"max_pass_rate={self.max_pass_rate}: it is a share of attempts, above 0 and at "
                "most 1"
            )
        if self.num_problems is not None and self.num_problems < 1:
            raise ValueError(f"num_problems={self.num_problems}: a round has 1 at least, or all")
        if min(self.max_pairs, self.max_pairs_voted) < 1:
            raise ValueError(
                f"max_pairs={self.max_pairs}, max_pairs_voted={self.max_pairs_voted}: both must be "
                "at least 1; to leave out voted labels, give a corpus without them"
            )

    def of_policy(self, weights: str, number: int) -> Recipe:
        """The recipe of round ``number`` of a fit of the policy, whose weights are these now."""
        return replace(self, policy=weights, seed=self.seed + number, part=self.part + number)

    def harder(self, steps: int, rounds: Sequence[Path]) -> PolicyRecipe:
        """The same at a higher temperature, without what earlier rounds solved every time."""
        temperature = self.sampling.temperature + steps * self.temperature_step
        sampling = replace(self.sampling, temperature=round(temperature, 6))
        return replace(self, sampling=sampling, solved_in=tuple(map(str, rounds)))

    def probes(self) -> list[ScoreRequest]:
        """Prompts of the first problems and, as a text to score, their statements again."""
        return [
            ScoreRequest(self.format.solve_prompt(problem), Target(((problem.statement,),)))
            for problem in read_corpus(self.corpus).problems[:NUM_PROBES]
        ]

    def settings(self) -> dict[str, Any]:
        solved = fingerprint(sorted(self._solved())) if self.solved_in else ""
        return {"recipe": "self_play", **super().settings(), "solved_in": solved}

    def problems(self) -> Sequence[Problem]:
        every = read_corpus(self.corpus).problems
        if self.num_problems is None or self.num_problems >= len(every):
            return every
        ordered = sorted(every, key=lambda problem: fingerprint(problem.to_row()))
        start = self.part * self.num_problems
        return [ordered[(start + n) % len(ordered)] for n in range(self.num_problems)]

    def copies(self) -> Sequence[str]:
        return super().copies() if self.num_problems is None else ()

    def objections(self, verifier: Verifier) -> Objection:
        solved = self._solved()

        def objection(problem: Problem) -> str:
            if fingerprint(problem.to_row()) in solved:
                return SOLVED_BEFORE
            return objection_to_problem(problem, self.trivial_labels) or verifier.objection(problem)

        return objection

    def make(self, making: Round) -> None:
        problems, attempted = self._attempts(making)
        for key, attempts in attempted.items():
            self._keep_pairs(making, key, problems[key], attempts)
        making.figures = {
            **attempt_figures(attempted.values()),
            "problems": len(self.problems()) + len(self.copies()),
            "problems_kept": len({row["problem_key"] for row in making.rows(ROWS).values()}),
            "temperature": self.sampling.temperature,
        }

    def written(self, key: str, pair: Row) -> tuple[str, Row]:
        """Key and row of a pair; a variation of self-play writes others."""
        return key, pair

    def _keep_pairs(
        self, making: Round, key: str, problem: Problem, attempts: Sequence[Attempt]
    ) -> None:
        passed = [attempt.completion for attempt in attempts if attempt.passed]
        failed = [attempt.completion for attempt in attempts if attempt.failed]
        if not passed:
            return making.drop(key, SOLVED_BY_NONE, id=problem.id)
        if is_solved_too_often(
            len(passed), len(attempts), self.max_pass_rate, inclusive=not self.keep_at_max
        ):
            return making.drop(key, SOLVED_TOO_OFTEN, id=problem.id, passed=len(passed))
        limit = self.max_pairs if problem.vote_share is None else self.max_pairs_voted
        texts = [c.text for c in passed], [c.text for c in failed]
        pairs = preference_pairs(*texts, limit, seed_of(self.seed, "pairs", key))
        if not pairs:
            return making.drop(key, NO_PAIR, id=problem.id)
        for number, (right, wrong) in enumerate(pairs):
            row = {
                **problem.to_row(),
                "problem_key": key,
                "pass_rate": len(passed) / len(attempts),
                "chosen": _solution(passed[right]),
                "rejected": _solution(failed[wrong]),
            }
            making.append(ROWS, *self.written(f"{key}-{number}", row))

    def _solved(self) -> set[str]:
        """Keys of the problems that are not asked again."""
        solved: dict[str, bool] = {}
        for folder in map(Path, self.solved_in):
            for row in read_round(folder, ATTEMPTS):
                solved[row["key"]] = row["passed"] == row["attempts"]
            # of rounds that may be gone by now
            before = [row for row in _dropped(folder) if row["reason"] == SOLVED_BEFORE]
            solved |= {row["key"]: True for row in before}
        return {key for key, is_solved in solved.items() if is_solved}


def _solution(completion: Completion) -> dict[str, Any]:
    return {"text": completion.text, "tokens": list(completion.tokens)}


def _dropped(folder: Path) -> list[dict[str, Any]]:
    return read_round(folder, DROPPED) if (folder / f"{DROPPED}.jsonl").exists() else []
