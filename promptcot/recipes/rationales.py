"""E-step, its making: the best of n rationales for every problem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import AutoEngine
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.overlap import ngram_overlap
from promptcot.parsing import Flaw, parse_rationale
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion, OpenEngine, Request, Sampling, ScoreRequest
from promptcot.recipes.asking import complete, lazily, score, seed_of
from promptcot.recipes.making import Recipe, seeds_fingerprint, with_concepts
from promptcot.records import Annotation, Problem
from promptcot.rewards import Reward
from promptcot.store import ROWS, Round

NO_RATIONALE = "no usable rationale"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Rationales:
    """Samples rationales of the rationale model q(z | c, x) and keeps each problem's best.

    The best has the largest reward log p(z | c) + log p(x | z, c) under the prompt model. With
    n = 1 at temperature 0 it makes the M-step's data: the one greedy rationale, not scored.

    Args:
        rationale_model: Folder of the weights of q; in a fit that refreshes its training set, the
            model that is trained takes its place.
        prompt_model: Folder of the weights of p; empty where nothing is to be chosen.
        corpus: Problems with concepts; one without is dropped and counted.
        sampling: Of q; the paper draws 8 at temperature 1.
        per_token: Choose by the means over tokens of both terms instead of their sum. The sum is
            the paper's, and favours short rationales.
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
    min_words: int = 0
    engine: OpenEngine = AutoEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42

    def __post_init__(self) -> None:
        if self.sampling.n > 1 and not self.prompt_model:
            raise ValueError(
                f"sampling n={self.sampling.n} rationales needs a prompt model to choose by: "
                "set prompt_model to a folder of weights, or n to 1"
            )

    def of_policy(self, weights: str, number: int) -> Recipe:
        """The recipe of round ``number`` of a fit of q, whose weights are these now."""
        return replace(self, rationale_model=weights, seed=self.seed + number)

    def settings(self) -> dict[str, Any]:
        return {
            "recipe": "rationales",
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "rationale_model": weights_fingerprint(self.rationale_model),
            "prompt_model": weights_fingerprint(self.prompt_model) if self.prompt_model else "",
            "format": fingerprint(self.format.to_row()),
        }

    def make(self, making: Round) -> None:
        problems = with_concepts(making, read_corpus(self.corpus))
        requests = {
            key: Request(self.format.rationale_prompt(problem), seed_of(self.seed, key))
            for key, problem in problems.items()
        }
        with lazily(self.engine, self.rationale_model) as engine:
            sampled = complete(making, "sampled_rationales", engine, requests, self.sampling)
        parsed = {key: self._parse(completions) for key, completions in sampled.items()}
        rewards = self._rewards(making, problems, parsed)
        for key, choices in parsed.items():
            self._keep_best(making, problems[key], key, _texts(choices), rewards)
        making.figures = {**_sampling_figures(parsed), **_kept_figures(making)}

    def _parse(self, completions: Sequence[Completion]) -> list[str | Flaw]:
        return [
            parse_rationale(c.text, self.format, c.finished, self.min_words) for c in completions
        ]

    def _rewards(
        self,
        making: Round,
        problems: Mapping[str, Problem],
        parsed: Mapping[str, Sequence[str | Flaw]],
    ) -> dict[str, Reward]:
        if not self.prompt_model:
            return {}
        requests = {
            fingerprint(key, text): ScoreRequest(
                self.format.compose_prompt(problems[key]),
                self.format.compose_target(text, problems[key].statement),
            )
            for key, choices in parsed.items()
            for text in _texts(choices)
        }
        with lazily(self.engine, self.prompt_model) as engine:
            return score(making, "rewards", engine, requests)

    def _keep_best(
        self,
        making: Round,
        problem: Problem,
        key: str,
        texts: Sequence[str],
        rewards: Mapping[str, Reward],
    ) -> None:
        if not self.prompt_model:
            values: dict[str, float | None] = dict.fromkeys(texts)
            kept = next(iter(texts), None)
        else:
            found = {text: rewards.get(fingerprint(key, text)) for text in texts}
            sums = {t: r.value(per_token=self.per_token) for t, r in found.items() if r is not None}
            values = {**sums}
            kept = max(sums, key=sums.__getitem__, default=None)
        if kept is None:
            return making.drop(key, NO_RATIONALE, id=problem.id)
        row = Annotation(problem, kept, values[kept]).to_row()
        making.append(ROWS, key, {**row, "rewards": list(values.values())})


def _texts(choices: Sequence[str | Flaw]) -> list[str]:
    """The usable rationales, each once, in the order of their sampling."""
    return list(dict.fromkeys(str(c) for c in choices if not isinstance(c, Flaw)))


def _sampling_figures(parsed: Mapping[str, Sequence[str | Flaw]]) -> dict[str, Any]:
    choices = [choice for row in parsed.values() for choice in row]
    flaws = Counter(str(choice) for choice in choices if isinstance(choice, Flaw))
    return {"sampled": len(choices), "flaws": dict(sorted(flaws.items()))}


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
