"""E-step, its making: the best of n rationales for every problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from promptcot.overlap import ngram_overlap
from promptcot.recipes.making import Recipe
from promptcot.recipes.rewarded import RewardedSampling, Sample, sampling_figures
from promptcot.records import Annotation, Problem
from promptcot.store import ROWS, Round

NO_RATIONALE = "no usable rationale"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Rationales(RewardedSampling):
    """Samples rationales of the rationale model q(z | c, x) and keeps each problem's best.

    The best has the largest reward log p(z | c) + log p(x | z, c) under the prompt model, less
    what the leak guard takes. With n = 1 at temperature 0 it makes the M-step's data: the one
    greedy rationale, not scored, for which ``prompt_model`` stays empty.
    """

    def __post_init__(self) -> None:
        if self.sampling.n > 1 and not self.prompt_model:
            raise ValueError(
                f"sampling n={self.sampling.n} rationales needs a prompt model to choose by: "
                "set prompt_model to a folder of weights, or n to 1"
            )

    def of_policy(self, weights: str, number: int) -> Recipe:
        """The recipe of round ``number`` of a fit of q, whose weights are these now."""
        return self._at(weights, number)

    def settings(self) -> dict[str, Any]:
        return {"recipe": "rationales", **super().settings()}

    def make(self, making: Round) -> None:
        problems, sampled = self._sample(making)
        for key, samples in sampled.items():
            self._keep_best(making, problems[key], key, samples)
        making.figures = {**sampling_figures(sampled), **_kept_figures(making)}

    def _keep_best(
        self, making: Round, problem: Problem, key: str, samples: Sequence[Sample]
    ) -> None:
        usable = {s.rationale: s for s in samples if self._can_be_kept(s)}  # each text once
        if not usable:
            return making.drop(key, NO_RATIONALE, id=problem.id)
        best = max(usable.values(), key=lambda s: 0.0 if s.value is None else s.value)
        row = Annotation(problem, str(best.rationale), best.value).to_row()
        values = [sample.value for sample in usable.values()]
        making.append(ROWS, key, {**row, **best.terms(), "rewards": values})

    def _can_be_kept(self, sample: Sample) -> bool:
        return sample.value is not None if self.prompt_model else sample.is_usable


def _kept_figures(making: Round) -> dict[str, Any]:
    rows = list(making.rows(ROWS).values())
    rewarded = [row for row in rows if row["reward"] is not None]
    figures: dict[str, Any] = {}
    if rows:
        figures["mean_words"] = fmean(len(row["rationale"].split()) for row in rows)
        figures["mean_overlap"] = fmean(
            ngram_overlap(row["rationale"], row["statement"]) for row in rows
        )
    if rewarded:
        figures["mean_reward_kept"] = fmean(row["reward"] for row in rewarded)
        figures["mean_reward_usable"] = fmean(fmean(row["rewards"]) for row in rewarded)
    return figures
