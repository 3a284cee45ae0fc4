"""What the two models are worth on problems that neither was trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import AutoEngine
from promptcot.figures import held_out_figures
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.metrics import effective_samples, importance_bound
from promptcot.overlap import longest_common_run, ngram_overlap
from promptcot.parsing import Flaw, parse_composition, parse_own_rationale, parse_rationale
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion, OpenEngine, Piece, Request, Sampling, ScoreRequest
from promptcot.recipes.asking import complete, lazily, score, seed_of
from promptcot.recipes.making import seeds_fingerprint, with_concepts
from promptcot.records import Problem
from promptcot.rewards import Reward
from promptcot.store import ROWS, Round
from promptcot.vocabularies import check_same_vocabulary

Sampled = Mapping[str, Sequence[Completion]]


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class HeldOut:
    """Likelihoods of held-out problems, and an importance-weighted bound of log p(x | c).

    Args:
        rationale_model: Folder of the weights of q.
        prompt_model: Folder of the weights of p.
        corpus: The held-out problems.
        num_samples: Rationales K that q draws for the bound of each problem, at temperature 1:
            only then is their log-probability that of the distribution they come from.
        max_tokens: Limit of one rationale.
        compose_max_tokens: Limit of what p writes, rationale and problem.
        engine: Opened on q, closed, then opened on p; it must report token log-probabilities.
        format: The wording of prompts and the tags.
        seed: Of all sampling. The same in every round, so that rounds differ by the models alone.
    """

    rationale_model: str
    prompt_model: str
    corpus: Corpus = field(default_factory=Corpus)
    num_samples: int = 8
    max_tokens: int = 2048
    compose_max_tokens: int = 4096
    engine: OpenEngine = AutoEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42

    def settings(self) -> dict[str, Any]:
        return {
            "recipe": "held_out",
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "rationale_model": weights_fingerprint(self.rationale_model),
            "prompt_model": weights_fingerprint(self.prompt_model),
            "format": fingerprint(self.format.to_row()),
        }

    def make(self, making: Round) -> None:
        check_same_vocabulary(self.rationale_model, self.prompt_model)
        keyed = with_concepts(making, read_corpus(self.corpus))
        greedy, samples = self._ask_rationale_model(making, keyed)
        keyed = {key: problem for key, problem in keyed.items() if key in samples}
        with lazily(self.engine, self.prompt_model) as engine:
            requests = self._requests(keyed, "own", self.format.compose_prompt)
            limits = Sampling(temperature=1.0, max_tokens=self.compose_max_tokens)
            own = complete(making, "own_compositions", engine, requests, limits)
            targets = dict(self._targets(keyed, greedy, samples, own))
            rewards = score(making, "rewards", engine, targets)
        for key, problem in keyed.items():
            if key in own:  # else its prompt is too long, in every round
                row = self._row(key, problem, greedy[key][0], samples[key], own[key][0], rewards)
                making.append(ROWS, key, row)
        if making.rows(ROWS):
            making.figures = held_out_figures(list(making.rows(ROWS).values())).to_row()

    def _ask_rationale_model(
        self, making: Round, problems: Mapping[str, Problem]
    ) -> tuple[Sampled, Sampled]:
        ask = self._requests(problems, "greedy", self.format.rationale_prompt)
        with lazily(self.engine, self.rationale_model) as engine:
            greedily = Sampling(temperature=0.0, max_tokens=self.max_tokens)
            greedy = complete(making, "greedy_rationales", engine, ask, greedily)
            ask = self._requests(problems, "bound", self.format.rationale_prompt)
            drawn = Sampling(n=self.num_samples, temperature=1.0, max_tokens=self.max_tokens)
            samples = complete(making, "sampled_rationales", engine, ask, drawn, keep="logprobs")
        for completions in samples.values():
            if not all(completion.logprobs for completion in completions):
                raise ValueError(
                    "the engine reports no token log-probabilities, so no bound can be computed: "
                    "choose HFEngine, VLLMEngine, or ServerEngine with chat: false on vLLM"
                )
        return greedy, samples

    def _requests(
        self, problems: Mapping[str, Problem], purpose: str, prompt: Callable[[Problem], str]
    ) -> dict[str, Request]:
        return {
            key: Request(prompt(problem), seed_of(self.seed, purpose, key))
            for key, problem in problems.items()
        }

    def _targets(
        self, problems: Mapping[str, Problem], greedy: Sampled, samples: Sampled, own: Sampled
    ) -> Iterator[tuple[str, ScoreRequest]]:
        """What p is to score: q's greedy rationale, q's K samples, p's own rationale."""
        for key, problem in problems.items():
            rationales: dict[str, Piece] = {}
            for completion in greedy.get(key, ()):
                rationales[key] = self._greedy_text(completion)
            # As sampled, token for token: another tokenisation of the same text would be another
            # event than the one whose probability under q is known.
            for number, completion in enumerate(samples.get(key, ())):
                rationales[f"{key}-{number}"] = completion.tokens
            for completion in own.get(key, ()):
                if not isinstance(text := parse_own_rationale(completion.text, self.format), Flaw):
                    rationales[f"{key}-own"] = text
            prompt = self.format.compose_prompt(problem)
            for name, rationale in rationales.items():
                target = self.format.compose_target(rationale, problem.statement)
                yield name, ScoreRequest(prompt, target)

    def _row(
        self,
        key: str,
        problem: Problem,
        greedy: Completion,
        samples: Sequence[Completion],
        own: Completion,
        rewards: Mapping[str, Reward],
    ) -> dict[str, Any]:
        reward, of_own = rewards.get(key), rewards.get(f"{key}-own")
        of_samples = [rewards.get(f"{key}-{number}") for number in range(len(samples))]
        log_joint = [self._log_joint(*pair) for pair in zip(samples, of_samples, strict=True)]
        log_proposal = [math.fsum(sample.logprobs) for sample in samples]
        bound = importance_bound(log_joint, log_proposal)
        scored = (r for r in (reward, of_own, *of_samples) if r is not None)
        rationale = parse_rationale(greedy.text, self.format, greedy.finished)
        text = self._greedy_text(greedy)
        return {
            "id": problem.id,
            "bound": bound if math.isfinite(bound) else None,
            "effective_samples": effective_samples(log_joint, log_proposal),
            **(asdict(reward) if reward else dict.fromkeys(Reward.__dataclass_fields__)),
            "problem_tokens": next((r.problem_tokens for r in scored), None),
            "own_log_problem": of_own.log_problem if of_own else None,
            "overlap": ngram_overlap(text, problem.statement),
            "longest_run": longest_common_run(text, problem.statement),
            "flaw": str(rationale) if isinstance(rationale, Flaw) else None,
            "compose_flaw": self._compose_flaw(own),
            "rationale": greedy.text,
            "composition": own.text,
        }

    def _greedy_text(self, greedy: Completion) -> str:
        """The rationale as the M-step trains on it; where it does not parse, all that q wrote."""
        found = parse_rationale(greedy.text, self.format, greedy.finished)
        return greedy.text if isinstance(found, Flaw) else found

    def _log_joint(self, sample: Completion, reward: Reward | None) -> float:
        """Log of p(z, x | c); minus infinity, no weight, where z holds a tag or is too long for p.

        After a tag no problem could be read. Without its weight the bound is lower, never wrong.
        A rationale that the limit cut off counts like any other: it is an event of its own, with
        the probability of its tokens and no end, and p may put its tag after it.
        """
        if reward is None or any(tag in sample.text for tag in self.format.tags):
            return -math.inf
        return reward.value()

    def _compose_flaw(self, own: Completion) -> str | None:
        found = parse_composition(own.text, self.format)
        if not isinstance(found, Flaw):
            return None
        return str(found if own.finished else Flaw.UNFINISHED)
