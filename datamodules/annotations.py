"""Annotations (c, z, x) as training sequences for the two models of the method."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.packed import E, EvaluationBatches, TrainingBatches
from promptcot.adapters import tokenizer_folder
from promptcot.batches import pack
from promptcot.corpora import Corpus, read_corpus
from promptcot.fingerprints import fingerprint
from promptcot.prompts import PromptFormat, rationale_target
from promptcot.protocols import Target
from promptcot.records import Annotation
from promptcot.store import ROWS
from promptcot.tokens import Example, encode
from promptcot.weights import check_weights, context_length

log = logging.getLogger(__name__)


@runtime_checkable
class Rounds(Protocol):
    """Gives the rows of each epoch; a callback that refreshes the training set does."""

    def round_folder(self, trainer: Trainer) -> Path:
        """The round of the trainer's epoch. Every rank calls it."""
        ...


class AnnotationDataModule(LightningDataModule, ABC):
    """Packed batches of annotations; a subclass says what is the prompt and what the target.

    Args:
        weights: Folder (or hub name) whose tokenizer is used.
        corpus: The rows; those without a rationale are not trained on. Where a callback refreshes
            the training set, its rounds take their place.
        batch_size: Sequences in one optimizer step, over all devices and micro-batches.
        max_tokens: Longest sequence, though never longer than the model's context; longer ones
            are left out, counted and named.
        seed: Decides the order of the rows.
        format: The wording of prompts and the tags.
        held_out: Rows to validate, test and predict on; null for none.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- the keys of `data` in a YAML file
        self,
        weights: str,
        corpus: Corpus,
        batch_size: int = 16,
        max_tokens: int = 4096,
        seed: int = 42,
        format: PromptFormat | None = None,
        held_out: Corpus | None = None,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.corpus = corpus
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.seed = seed
        self.format = format or PromptFormat()
        self.held_out = held_out
        self.examples: Sequence[Example] = []
        self._fingerprinted: tuple[Sequence[Example], str] = ([], "")
        self.held_out_examples: list[Example] = []
        self.held_out_ids: list[str] = []

    @abstractmethod
    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        """What the model is given, and what it is to write."""

    def setup(self, stage: str) -> None:
        if stage == "fit" and not self.examples and self._rounds() is None:
            self.examples = self.training_examples(self.corpus)
        if self.held_out is not None and not self.held_out_examples:
            self.held_out_ids, self.held_out_examples = self._encode(self.held_out)

    def training_examples(self, corpus: Corpus) -> Sequence[Example]:
        """The sequences of the rows that are trained on."""
        return self._encode(corpus)[1]

    def train_dataloader(self) -> TrainingBatches[Any, Any]:
        self.refresh()
        assert self.trainer is not None
        return TrainingBatches(self.examples, self.batch_size, self.seed, self.trainer, pack)

    def refresh(self) -> None:
        """Take the rows of the epoch's round, where rounds are made in the fit."""
        assert self.trainer is not None
        rounds = self._rounds()
        if rounds is not None:
            rows = rounds.round_folder(self.trainer) / f"{ROWS}.jsonl"
            self.examples = self.training_examples(Corpus(str(rows)))

    def val_dataloader(self) -> EvaluationBatches | tuple[()]:
        return self._evaluation_batches()

    def test_dataloader(self) -> EvaluationBatches | tuple[()]:
        return self._evaluation_batches()

    def predict_dataloader(self) -> EvaluationBatches | tuple[()]:
        return self._evaluation_batches()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows_fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._rounds() is not None:  # rounds have checksums of their own
            return
        if state_dict["rows"] != self._rows_fingerprint():
            raise ValueError(
                f"the rows of {self.corpus.path} are not those that the checkpoint was trained on: "
                "restore the file, or start anew in another folder"
            )

    def _rounds(self) -> Rounds | None:
        """Who makes the rows that are trained on, where they are made in the fit."""
        callbacks = self.trainer.callbacks if self.trainer is not None else []  # type: ignore[attr-defined]
        return next((callback for callback in callbacks if isinstance(callback, Rounds)), None)

    def _rows_fingerprint(self) -> str:
        of, found = self._fingerprinted
        if of is not self.examples:  # once for all checkpoints: it reads every row
            found = fingerprint([(e.prompt, e.target) for e in self.examples], self.batch_size)
            self._fingerprinted = (self.examples, found)
        return found

    def _evaluation_batches(self) -> EvaluationBatches | tuple[()]:
        if not self.held_out_examples:
            if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
                return ()  # a fit may go without
            raise ValueError(
                "no rows to evaluate on: name them with --data.held_out.path (a .jsonl file)"
            )
        assert self.trainer is not None
        rank = (self.trainer.global_rank, self.trainer.world_size)
        return EvaluationBatches(self.held_out_examples, self.batch_size, rank)

    def _encode(self, corpus: Corpus) -> tuple[list[str], list[Example]]:
        """Problem ids and sequences of the rows that have a rationale and are not too long."""
        from transformers import AutoTokenizer

        check_weights(self.weights)
        tokenizer = AutoTokenizer.from_pretrained(
            tokenizer_folder(self.weights), trust_remote_code=False
        )
        seeds = read_corpus(corpus)
        annotations = seeds.annotations
        if bare := len(seeds.problems) - len(annotations):
            log.warning(
                "%d of %d rows of %s have no rationale and were left out",
                bare,
                len(seeds.problems),
                corpus.path,
            )
        encoded = [
            (a.problem.id, encode(tokenizer, *self.prompt_and_target(a))) for a in annotations
        ]
        fitting = self._fitting(encoded, corpus)
        return [name for name, _ in fitting], [example for _, example in fitting]

    def _fitting(self, named: Sequence[tuple[str, E]], corpus: Corpus) -> list[tuple[str, E]]:
        """Those that are not too long; how many are is said.

        Raises:
            ValueError: None is left.
        """
        limit = min(self.max_tokens, context_length(self.weights))
        long = [name for name, example in named if len(example) > limit]
        if long:
            log.warning(
                "%d of %d rows are longer than %d tokens and were left out: %s",
                len(long),
                len(named),
                limit,
                ", ".join(long[:10]),
            )
        if len(long) == len(named):
            raise ValueError(
                f"the corpus {corpus.path} has no row to train on ({len(named)} with a "
                f"rationale, {len(long)} of them longer than {limit} tokens): annotate it, "
                "or raise max_tokens as far as the model's context goes"
            )
        return [(name, example) for name, example in named if len(example) <= limit]


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
