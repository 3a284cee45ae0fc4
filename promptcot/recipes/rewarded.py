"""E-step, its sampling: n rationales of every problem and what each is worth."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Self

from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import AutoEngine
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.leak import LeakGuard
from promptcot.parsing import Flaw, parse_rationale
from promptcot.prompts import PromptFormat, rationale_target
from promptcot.protocols import Completion, OpenEngine, Request, Sampling, ScoreRequest
from promptcot.recipes.asking import Keep, complete, lazily, score, seed_of
from promptcot.recipes.making import seeds_fingerprint, with_concepts
from promptcot.records import Problem
from promptcot.rewards import Reward
from promptcot.store import Round

NUM_PROBES = 4
UNSCORED = "has no finite reward, or is too long for the prompt model"


@dataclass(frozen=True, slots=True)
class Sample:
    """A sampled rationale and its reward."""

    completion: Completion
    rationale: str | Flaw
    reward: Reward | None = None
    """Of a usable rationale, where there is a prompt model and the sequence fits its context."""
    value: float | None = None
    """The reward as it counts: less the leak guard's penalty, in nats."""
    leak_penalty: float = 0.0

    @property
    def is_usable(self) -> bool:
        """Whether it could be parsed."""
        return not isinstance(self.rationale, Flaw)

    @property
    def flaw(self) -> str | None:
        """Why it has no value where others have one."""
        if isinstance(self.rationale, Flaw):
            return str(self.rationale)
        return UNSCORED if self.value is None else None

    def terms(self) -> dict[str, Any]:
        """What the value is made of, as a row holds it."""
        return {
            "log_rationale": self.reward.log_rationale if self.reward else None,
            "log_problem": self.reward.log_problem if self.reward else None,
            "leak_penalty": self.leak_penalty,
        }


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class RewardedSampling:
    """Samples rationales of the rationale model q(z | c, x) and scores them under p.

    Args:
        rationale_model: Folder of the weights of q; in a fit that refreshes its training set, the
            model that is trained takes its place.
        prompt_model: Folder of the weights of p.
        corpus: Problems with concepts; one without is dropped and counted.
        sampling: Of q; the paper draws 8 at temperature 1.
        per_token: Count the means over tokens of both terms instead of their sum. The sum is
            the paper's, and favours short rationales.
        leak_guard: What quoting the problem costs; null, as in the paper, for nothing.
        min_words: Shorter rationales are flawed.
        engine: Opened on q, closed, then opened on p.
        format: The wording of prompts and the tags.
        seed: Of all sampling.
    """

    rationale_model: str = ""
    prompt_model: str = ""
    corpus: Corpus = field(default_factory=Corpus)
    sampling: Sampling = field(default_factory=lambda: Sampling(n=8))
    per_token: bool = False
    leak_guard: LeakGuard | None = field(default_factory=LeakGuard)
    min_words: int = 0
    engine: OpenEngine = AutoEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42

    def _at(self, weights: str, number: int) -> Self:
        """The same of round ``number`` of a fit of q, whose weights are these now."""
        return replace(self, rationale_model=weights, seed=self.seed + number)

    def probes(self) -> list[ScoreRequest]:
        """Prompts of the first problems, each followed by its rationale, or by its statement."""
        seeds = read_corpus(self.corpus)
        problems = [problem for problem in seeds.problems if problem.concepts][:NUM_PROBES]
        return [
            ScoreRequest(
                self.format.rationale_prompt(problem),
                rationale_target(seeds.rationales.get(problem.id) or problem.statement),
            )
            for problem in problems
        ]

    def settings(self) -> dict[str, Any]:
        return {
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "rationale_model": weights_fingerprint(self.rationale_model),
            "prompt_model": weights_fingerprint(self.prompt_model) if self.prompt_model else "",
            "format": fingerprint(self.format.to_row()),
        }

    def _sample(
        self, making: Round, *, keep: Keep = "text"
    ) -> tuple[dict[str, Problem], dict[str, list[Sample]]]:
        """The problems that were asked about and each one's samples, in their order, by key."""
        problems = with_concepts(making, read_corpus(self.corpus))
        requests = {
            key: Request(self.format.rationale_prompt(problem), seed_of(self.seed, key))
            for key, problem in problems.items()
        }
        with lazily(self.engine, self.rationale_model) as engine:
            sampled = complete(
                making,
                "sampled_rationales",
                engine,
                requests,
                self.sampling,
                keep=keep,
            )
        parsed = {key: self._parse(completions) for key, completions in sampled.items()}
        rewards = self._rewards(making, problems, parsed)
        return problems, {
            key: [
                self._rewarded(sample, problems[key].statement, key, rewards) for sample in samples
            ]
            for key, samples in parsed.items()
        }

    def _parse(self, completions: Sequence[Completion]) -> list[Sample]:
        return [
            Sample(c, parse_rationale(c.text, self.format, c.finished, self.min_words))
            for c in completions
        ]

    def _rewards(
        self,
        making: Round,
        problems: Mapping[str, Problem],
        parsed: Mapping[str, Sequence[Sample]],
    ) -> dict[str, Reward]:
        if not self.prompt_model:
            return {}
        requests = {
            fingerprint(key, text): ScoreRequest(
                self.format.compose_prompt(problems[key]),
                self.format.compose_target(text, problems[key].statement),
            )
            for key, samples in parsed.items()
            for text in usable_texts(samples)
        }
        with lazily(self.engine, self.prompt_model) as engine:
            return score(making, "rewards", engine, requests)

    def _rewarded(
        self, sample: Sample, statement: str, key: str, rewards: Mapping[str, Reward]
    ) -> Sample:
        if isinstance(sample.rationale, Flaw):
            return sample
        reward = rewards.get(fingerprint(key, sample.rationale))
        if reward is None:
            return sample
        guard = self.leak_guard
        penalty = guard.penalty(sample.rationale, statement) if guard else 0.0
        if self.per_token:  # as the mean over the problem's tokens that it stands against
            penalty /= reward.problem_tokens
        value = reward.value(per_token=self.per_token) - penalty
        if not math.isfinite(value):  # of weights that are damaged: nothing to choose by
            return sample
        return replace(sample, reward=reward, value=value, leak_penalty=penalty)


def usable_texts(samples: Sequence[Sample]) -> list[str]:
    """The usable rationales, each once, in the order of their sampling."""
    return list(dict.fromkeys(str(s.rationale) for s in samples if s.is_usable))


def sampling_figures(sampled: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Counts and means over all samples of a round."""
    samples = [sample for row in sampled.values() for sample in row]
    has_values = any(sample.value is not None for sample in samples)
    flaws = Counter(s.flaw for s in samples if s.flaw and (has_values or not s.is_usable))
    figures: dict[str, Any] = {"sampled": len(samples), "flaws": dict(sorted(flaws.items()))}
    rewarded = [s for s in samples if s.reward is not None and s.value is not None]
    if rewarded:
        figures |= {
            "mean_reward_sampled": fmean(s.value for s in rewarded if s.value is not None),
            "mean_log_rationale": fmean(s.reward.log_rationale for s in rewarded if s.reward),
            "mean_log_problem": fmean(s.reward.log_problem for s in rewarded if s.reward),
            "mean_leak_penalty": fmean(s.leak_penalty for s in rewarded),
            "mean_rationale_tokens": fmean(s.reward.rationale_tokens for s in rewarded if s.reward),
        }
    return figures
