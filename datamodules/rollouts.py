"""Sampled rationales and their rewards, for a policy gradient."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer

from datamodules.annotations import RationaleDataModule
from datamodules.figures import log_figures
from datamodules.kept_logprobs import KeepsLogprobs
from datamodules.packed import TrainingBatches
from promptcot.corpora import Corpus, read_rows
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.policy_gradient import Baseline, sampler_mismatch
from promptcot.protocols import Completion
from promptcot.recipes.rollouts import sampled_target
from promptcot.records import Problem
from promptcot.rollouts import Rollout, pack_rollouts, with_advantages, with_policy_logprobs
from promptcot.tokens import encode

log = logging.getLogger(__name__)
NEEDED = (
    *("group", "reward", "rationale", "tokens", "finished", "sampler_logprobs"),
    *("id", "domain", "level", "concepts", "statement", "reference"),
)
FOLDER = "policy_logprobs"


class RolloutDataModule(KeepsLogprobs, RationaleDataModule):
    """For a policy gradient on q(z | c, x): the rows of recipe ``Rollouts``.

    Before the first step on them, the trainer's own forward pass gives each sampled token its
    log-probability under the policy that sampled it; they are kept in
    ``<default_root_dir>/policy_logprobs``, so that a resumed fit has the same. Held-out rows are
    annotations, as in ``RationaleDataModule``.

    Args:
        weights: See ``AnnotationDataModule``.
        corpus: The rows.
        baseline: What a sample's reward is compared with.
        kwargs: See ``AnnotationDataModule``.
    """

    examples: Sequence[Rollout]

    def __init__(
        self,
        weights: str,
        corpus: Corpus,
        baseline: Baseline = "rloo",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(weights, corpus, **kwargs)
        self.baseline = baseline

    def training_examples(self, corpus: Corpus) -> Sequence[Rollout]:
        """The sampled sequences, compared with their groups; then those that are not too long."""
        tokenizer = self.tokenizer()
        rollouts = [self._rollout(tokenizer, row, place) for place, row in read_rollouts(corpus)]
        compared = with_advantages(rollouts, self.baseline)
        named = [(f"{rollout.group}", rollout) for rollout in compared]
        return [rollout for _, rollout in self.fitting(named, corpus)]

    def train_dataloader(self) -> TrainingBatches[Any, Any]:
        self.refresh()
        trainer = self.trainer
        assert trainer is not None
        logprobs = self._policy_logprobs(trainer)
        _report_mismatch(trainer, self.examples, logprobs)
        examples = with_policy_logprobs(self.examples, logprobs.tolist())
        return self.training_batches(examples, pack_rollouts)

    def _rollout(self, tokenizer: Any, row: Mapping[str, Any], place: str) -> Rollout:  # noqa: ANN401
        completion = Completion(
            row["rationale"],
            row["finished"],
            tuple(row["tokens"]),
            tuple(row["sampler_logprobs"]),
        )
        prompt = self.format.rationale_prompt(Problem.from_row(row))
        example = encode(tokenizer, prompt, sampled_target(completion))
        if len(completion.logprobs) != len(example.target):
            raise ValueError(
                f"{place}: {len(completion.logprobs)} sampler_logprobs for {len(example.target)} "
                "sampled tokens: the file was changed, or made with another tokenizer"
            )
        return Rollout(
            example.prompt,
            example.target,
            example.segment_lengths,
            group=row["group"],
            reward=row["reward"],
            sampler_logprobs=completion.logprobs,
            reference_logprobs=tuple(row.get("reference_logprobs") or ()),
        )

    def _policy_logprobs(self, trainer: Trainer) -> torch.Tensor:
        """Of all target tokens, end to end; every rank must call this."""
        # with what the sampler said: a later policy may have sampled the very same texts
        rows = [(e.prompt, e.target, e.sampler_logprobs) for e in self.examples]
        name = fingerprint([weights_fingerprint(str(trainer.lightning_module.weights)), rows])
        folder = Path(trainer.default_root_dir) / FOLDER
        return self.kept.of(trainer, folder, name, self.evaluation_batches(self.examples))


def read_rollouts(corpus: Corpus) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Place and row of each sample in a round of recipe ``Rollouts``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row is of another recipe, or its round is damaged.
    """
    for place, row in read_rows(corpus):
        if missing := [name for name in NEEDED if name not in row]:
            raise ValueError(
                f"{place} has no {', '.join(missing)}: a policy gradient learns from the rows of "
                "recipe Rollouts (python cli.py make rollouts)"
            )
        yield place, row


def _report_mismatch(trainer: Trainer, rollouts: Sequence[Rollout], policy: torch.Tensor) -> None:
    """Log and say how far sampler and trainer are apart."""
    if not trainer.is_global_zero:
        return
    sampler = torch.tensor([value for rollout in rollouts for value in rollout.sampler_logprobs])
    sequences = torch.tensor([n for n, rollout in enumerate(rollouts) for _ in rollout.target])
    found = sampler_mismatch(policy, sampler, sequences)
    log.info(
        "sampler and trainer differ by %.4f nats a token in the mean; ratios %.3f to %.3f",
        found.mean_abs_difference,
        found.ratio_min,
        found.ratio_max,
    )
    log_figures(trainer, "sampler", found._asdict())
