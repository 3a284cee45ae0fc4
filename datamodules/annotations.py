"""Annotations (c, z, x) as training sequences for the two models of the method."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from datamodules.planning import plan_epoch, share
from promptcot.batches import TokenBatch, pack
from promptcot.corpora import Corpus, read_corpus
from promptcot.prompts import PromptFormat, rationale_target
from promptcot.protocols import Target
from promptcot.records import Annotation
from promptcot.tokens import Example, encode
from promptcot.weights import check_weights

log = logging.getLogger(__name__)


class AnnotationDataModule(LightningDataModule, ABC):
    """Packed batches of annotations; a subclass says what is the prompt and what the target.

    Args:
        weights: Folder (or hub name) whose tokenizer is used.
        corpus: The rows; those without a rationale are not trained on.
        batch_size: Sequences in one optimizer step, over all devices and micro-batches.
        max_tokens: Longest sequence; longer ones are left out, counted and named.
        seed: Decides the order of the rows.
        format: The wording of prompts and the tags.
    """

    def __init__(
        self,
        weights: str,
        corpus: Corpus,
        batch_size: int = 16,
        max_tokens: int = 4096,
        seed: int = 42,
        format: PromptFormat | None = None,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.corpus = corpus
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.seed = seed
        self.format = format or PromptFormat()
        self.examples: list[Example] = []

    @abstractmethod
    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        """What the model is given, and what it is to write."""

    def setup(self, stage: str) -> None:
        from transformers import AutoTokenizer

        if self.examples:
            return
        check_weights(self.weights)
        tokenizer = AutoTokenizer.from_pretrained(self.weights, trust_remote_code=False)
        annotations = read_corpus(self.corpus).annotations
        encoded = [(a, encode(tokenizer, *self.prompt_and_target(a))) for a in annotations]
        long = [a.problem.id for a, example in encoded if len(example) > self.max_tokens]
        if long:
            log.warning(
                "%d of %d rows are longer than %d tokens and were left out: %s",
                len(long),
                len(encoded),
                self.max_tokens,
                ", ".join(long[:10]),
            )
        self.examples = [example for _, example in encoded if len(example) <= self.max_tokens]
        if not self.examples:
            raise ValueError(
                f"the corpus {self.corpus.path} has no row to train on ({len(encoded)} with a "
                f"rationale, {len(long)} of them longer than {self.max_tokens} tokens): annotate "
                "it, or raise max_tokens"
            )

    def train_dataloader(self) -> DataLoader[TokenBatch]:
        assert self.trainer is not None
        batches = PackedEpoch(
            self.examples,
            plan_epoch(
                len(self.examples),
                self.batch_size,
                seed=self.seed,
                epoch=self.trainer.current_epoch,
            ),
            self.trainer.accumulate_grad_batches,
            (self.trainer.global_rank, self.trainer.world_size),
        )
        return DataLoader(batches, batch_size=None)


class PackedEpoch(IterableDataset[TokenBatch]):
    """The micro-batches of one rank in one epoch.

    Args:
        examples: All sequences.
        steps: Indices of each optimizer step.
        accumulate: Micro-batches of a step on one rank.
        rank: This rank and the number of ranks.
    """

    def __init__(
        self,
        examples: list[Example],
        steps: list[list[int]],
        accumulate: int,
        rank: tuple[int, int] = (0, 1),
    ) -> None:
        self.examples = examples
        self.steps = steps
        self.accumulate = accumulate
        self.rank, self.world_size = rank

    def __len__(self) -> int:
        return len(self.steps) * self.accumulate

    def __iter__(self) -> Iterator[TokenBatch]:
        lengths = [len(example) for example in self.examples]
        parts = self.accumulate * self.world_size
        for step in self.steps:
            targets = sum(len(self.examples[index].target) for index in step)
            mine = share(step, lengths, parts)[self.rank :: self.world_size]
            for micro in mine:
                examples = [self.examples[index] for index in micro]
                # A rank with nothing to do runs a sequence without targets all the same, so that
                # the collectives of sharded weights meet on every rank.
                yield pack(examples or [_untargeted(self.examples[step[0]])], targets / parts)


def _untargeted(example: Example) -> Example:
    return Example(example.tokens, (), (0,) * len(example.segment_lengths))


class RationaleDataModule(AnnotationDataModule):
    """For q(z | c, x): concepts and problem in the prompt, the rationale as target."""

    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        prompt = self.format.rationale_prompt(annotation.problem)
        return prompt, rationale_target(annotation.rationale)


class ComposeDataModule(AnnotationDataModule):
    """For p(z, x | c): concepts in the prompt, rationale and problem as target."""

    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        target = self.format.compose_target(annotation.rationale, annotation.problem.statement)
        return self.format.compose_prompt(annotation.problem), target
