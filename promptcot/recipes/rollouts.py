"""E-step, its making for a policy gradient: every sampled rationale, token for token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from promptcot.fingerprints import weights_fingerprint
from promptcot.protocols import Completion, ScoreRequest, Target
from promptcot.recipes.asking import lazily, score_tokens
from promptcot.recipes.making import Recipe
from promptcot.recipes.rationales import NO_RATIONALE
from promptcot.recipes.rewarded import RewardedSampling, Sample, sampling_figures
from promptcot.records import Annotation, Problem
from promptcot.store import ROWS, Round
from promptcot.vocabularies import check_same_vocabulary

LONG_SAMPLE = "a sample too long for the reference model's context"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Rollouts(RewardedSampling):
    """Samples n rationales of every problem and keeps them all, with what each earned.

    A row is one sample: its token ids, their log-probabilities as the sampler reports them, its
    reward, and the ``group`` of those of the same problem. A flawed sample (cut off, empty, with
    tags, too long for p) counts as the worst usable one of its group less ``flaw_penalty``; a
    problem without a usable one is dropped.

    Args:
        flaw_penalty: In nats; with ``per_token`` divided by the problem's tokens, as the reward is.
        reference_model: Folder of weights whose log-probabilities are added to the rows, for a
            penalty on the divergence from it: the cold-started q. Empty for none.
    """

    flaw_penalty: float = 10.0
    reference_model: str = ""

    def __post_init__(self) -> None:
        sampling = self.sampling
        if not self.prompt_model:
            raise ValueError("rollouts need a prompt model for their rewards: set prompt_model")
        if sampling.n < 2:  # noqa: PLR2004
            raise ValueError(
                f"sampling n={sampling.n}: a policy gradient compares samples of one problem, so "
                "n must be 2 or more"
            )
        if sampling.top_p < 1:
            raise ValueError(
                f"sampling top_p={sampling.top_p} draws from a cut distribution, of which neither "
                "sampler nor trainer reports probabilities, so that importance ratios would be "
                "wrong: set top_p to 1"
            )
        if sampling.temperature != 1:
            raise ValueError(
                f"sampling temperature={sampling.temperature}: sampler and trainer report "
                "log-probabilities at temperature 1, so that importance ratios would be wrong: "
                "set the temperature to 1"
            )

    def of_policy(self, weights: str, number: int) -> Recipe:
        """The recipe of round ``number`` of a fit of q, whose weights are these now."""
        return self._at(weights, number)

    def settings(self) -> dict[str, Any]:
        reference = weights_fingerprint(self.reference_model) if self.reference_model else ""
        return {"recipe": "rollouts", **super().settings(), "reference_model": reference}

    def make(self, making: Round) -> None:
        if self.reference_model:
            check_same_vocabulary(self.rationale_model, self.reference_model)
        problems, sampled = self._sample(making, keep="logprobs")
        for key, samples in sampled.items():
            if not all(sample.completion.logprobs for sample in samples):
                raise ValueError(
                    "the engine reports no token log-probabilities, which a policy gradient "
                    "needs: choose HFEngine, VLLMEngine, or ServerEngine with chat: false on vLLM"
                )
            if all(sample.value is None for sample in samples):
                making.drop(key, NO_RATIONALE, id=problems[key].id)
        usable = {key: s for key, s in sampled.items() if any(x.value is not None for x in s)}
        references = self._references(making, problems, usable)
        for key, samples in usable.items():
            names = [f"{key}-{number}" for number in range(len(samples))]
            if self.reference_model and any(name not in references for name in names):
                making.drop(key, LONG_SAMPLE, id=problems[key].id)
                continue
            for name, sample in zip(names, samples, strict=True):
                row = self._row(problems[key], samples, sample)
                given = {"group": key, "reference_logprobs": references.get(name)}
                making.append(ROWS, name, {**row, **given})
        making.figures = sampling_figures(sampled)

    def _references(
        self,
        making: Round,
        problems: Mapping[str, Problem],
        sampled: Mapping[str, Sequence[Sample]],
    ) -> dict[str, list[float]]:
        if not self.reference_model:
            return {}
        requests = {
            f"{key}-{number}": ScoreRequest(
                self.format.rationale_prompt(problems[key]), sampled_target(sample.completion)
            )
            for key, samples in sampled.items()
            for number, sample in enumerate(samples)
        }
        with lazily(self.engine, self.reference_model) as engine:
            scored = score_tokens(making, "reference_logprobs", engine, requests)
        return {name: list(chain.from_iterable(logprobs)) for name, logprobs in scored.items()}

    def _row(self, problem: Problem, group: Sequence[Sample], sample: Sample) -> dict[str, Any]:
        worst = min((s for s in group if s.value is not None), key=lambda s: s.value or 0.0)
        penalty = self.flaw_penalty
        if self.per_token and worst.reward is not None:
            penalty /= worst.reward.problem_tokens
        value = (worst.value or 0.0) - penalty if sample.value is None else sample.value
        completion = sample.completion
        return {
            **Annotation(problem, completion.text, value).to_row(),
            **sample.terms(),
            "flaw": sample.flaw,
            "finished": completion.finished,
            "tokens": list(completion.tokens),
            "sampler_logprobs": list(completion.logprobs),
        }


def sampled_target(completion: Completion) -> Target:
    """What was sampled, token for token; its end token only where it was sampled, too."""
    return Target(((completion.tokens,),), ends=completion.finished)
