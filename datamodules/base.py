"""Rows on disk as training sequences: what all data modules share."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.figures import log_figures
from datamodules.packed import Collate, E, EvaluationBatches, TrainingBatches
from datamodules.planning import Plan, Source
from datamodules.rows import RowsInMemory, RowsOnDisk
from promptcot.adapters import tokenizer_folder
from promptcot.batches import pack
from promptcot.corpora import Corpus
from promptcot.fingerprints import fingerprint
from promptcot.prompts import PromptFormat
from promptcot.store import ROWS
from promptcot.tokens import TokenSequence, Trainable
from promptcot.weights import check_weights, context_length, vocabulary_size

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
SHORTEST = 2
"""Tokens of a row: the first of all is predicted by nothing."""


@runtime_checkable
class Rounds(Protocol):
    """Gives the rows of each epoch; a callback that refreshes the training set does."""

    def round_folder(self, trainer: Trainer) -> Path:
        """The round of the trainer's epoch. Every rank calls it."""
        ...


class RowsDataModule(LightningDataModule, ABC):
    """Packed batches of the rows of a file; a subclass says what sequences they make.

    Args:
        weights: Folder (or hub name) whose tokenizer is used.
        corpus: The rows. Where a callback refreshes the training set, its rounds take their place.
        batch_size: Sequences in one optimizer step, over all devices and micro-batches.
        token_budget: Most tokens of one micro-batch. A step then takes as many rows as its
            micro-batches can hold, nearly full, whatever ``batch_size``.
        max_tokens: Longest sequence, though never longer than the model's context; longer ones
            are left out, counted and named.
        seed: Decides the order of the rows.
        format: The wording of prompts and the tags.
        held_out: Rows to validate, test and predict on; null for none.
    """

    needed: str
    """What a row must have to be trained on, as the error of ``fitting`` names it."""
    cure: str
    """What to do where no row has it."""

    def __init__(  # noqa: PLR0913, PLR0917 -- the keys of `data` in a YAML file
        self,
        weights: str,
        corpus: Corpus,
        batch_size: int = 16,
        max_tokens: int = 4096,
        seed: int = 42,
        format: PromptFormat | None = None,
        held_out: Corpus | None = None,
        token_budget: int | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"data.batch_size={batch_size}: a step has at least 1 row")
        if max_tokens < SHORTEST:
            raise ValueError(
                f"data.max_tokens={max_tokens}: a row has at least {SHORTEST}, one of them a target"
            )
        if token_budget is not None and token_budget < max_tokens:
            raise ValueError(
                f"data.token_budget={token_budget} holds no row of data.max_tokens={max_tokens}: "
                "raise the one or lower the other"
            )
        self.weights = weights
        self.corpus = corpus
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self.seed = seed
        self.format = format or PromptFormat()
        self.held_out = held_out
        self.token_budget = token_budget
        self.examples: Sequence[Trainable] = []
        self._fingerprinted: tuple[Sequence[Trainable], str] = ([], "")
        self.counts: dict[str, int] = {}
        """Of the rows that are trained on: all, and those left out."""
        self.held_out_examples: list[TokenSequence] = []
        self.held_out_ids: list[str] = []

    @abstractmethod
    def training_examples(self, corpus: Corpus) -> Sequence[Trainable]:
        """What the rows that are trained on make."""

    @abstractmethod
    def held_out_sequences(self, corpus: Corpus) -> Sequence[tuple[str, TokenSequence]]:
        """Names and sequences of the rows that are validated, tested and predicted on."""

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.token_budget is not None:
            # epochs of other rows in other steps may differ in their number
            self.trainer.reload_dataloaders_every_n_epochs = 1  # type: ignore[union-attr]
        if stage == "fit" and not self.examples and self._rounds() is None:
            self.examples = self.training_examples(self.corpus)
        if self.held_out is not None and not self.held_out_examples:
            named = self.held_out_sequences(self.held_out)
            self.held_out_ids = [name for name, _ in named]
            self.held_out_examples = [example for _, example in named]

    def train_dataloader(self) -> TrainingBatches[Any, Any]:
        self.refresh()
        return self.training_batches(self.examples, pack)

    def training_batches(
        self, examples: Sequence[Any], collate: Collate[Any]
    ) -> TrainingBatches[Any, Any]:
        """Batches of examples, planned by the arguments of this data module."""
        assert self.trainer is not None
        rows = examples if isinstance(examples, RowsOnDisk) else RowsInMemory(examples)
        return TrainingBatches(rows, self._plan(self.sources(examples)), self.trainer, collate)

    def evaluation_batches(self, examples: Sequence[TokenSequence]) -> EvaluationBatches:
        """Batches of examples in their order, none of them larger than those of training."""
        assert self.trainer is not None
        return EvaluationBatches(examples, self._plan(()), self.trainer)

    def sources(self, examples: Sequence[Any]) -> tuple[Source, ...]:
        """Where the examples come from; a mixture has several."""
        return (Source("rows", 0, len(examples)),)

    def refresh(self) -> None:
        """Take the rows of the epoch's round, where rounds are made in the fit; log the counts."""
        assert self.trainer is not None
        rounds = self._rounds()
        if rounds is not None:
            rows = rounds.round_folder(self.trainer) / f"{ROWS}.jsonl"
            self.examples = self.training_examples(Corpus(str(rows)))
        log_figures(self.trainer, "data", self.counts)

    def val_dataloader(self) -> EvaluationBatches | tuple[()]:
        return self._evaluation_batches()

    def test_dataloader(self) -> EvaluationBatches | tuple[()]:
        return self._evaluation_batches()

    def predict_dataloader(self) -> EvaluationBatches | tuple[()]:
        return self._evaluation_batches()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows_fingerprint(), "parts": self._parts()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.token_budget is not None and state_dict["parts"] != self._parts():
            raise ValueError(
                f"with data.token_budget the fit had {state_dict['parts']} micro-batches in a "
                f"step, over all devices, and would now have {self._parts()}, of other rows: "
                "go on with as many, set by trainer.devices and trainer.accumulate_grad_batches"
            )
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

    def _parts(self) -> int:
        """Micro-batches of a step over all ranks."""
        trainer = self.trainer
        assert trainer is not None
        return int(trainer.accumulate_grad_batches) * int(trainer.world_size)

    def _rows_fingerprint(self) -> str:
        if isinstance(self.examples, RowsOnDisk):
            return fingerprint(self.examples.fingerprint, self.batch_size)
        of, found = self._fingerprinted
        if of is not self.examples:  # once for all checkpoints: it reads every row
            found = fingerprint(
                [(s.tokens, s.spans) for e in self.examples for s in e.sequences], self.batch_size
            )
            self._fingerprinted = (self.examples, found)
        return found

    def _evaluation_batches(self) -> EvaluationBatches | tuple[()]:
        if not self.held_out_examples:
            if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
                return ()  # a fit may go without
            raise ValueError(
                "no rows to evaluate on: name them with --data.held_out.path (a .jsonl file)"
            )
        return self.evaluation_batches(self.held_out_examples)

    def _plan(self, sources: tuple[Source, ...]) -> Plan:
        return Plan(sources, self.seed, self.batch_size, self.token_budget)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own."""
        from transformers import AutoTokenizer  # seconds to import

        check_weights(self.weights)
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            tokenizer_folder(self.weights), trust_remote_code=False
        )
        return found

    def fitting(self, named: Sequence[tuple[str, E]], corpus: Corpus) -> list[tuple[str, E]]:
        """Those that are not too long; how many are is said.

        Raises:
            ValueError: None is left, or a token is none of the model's.
        """
        self._check_tokens(named, corpus)
        limit = min(self.max_tokens, context_length(self.weights))
        is_long = [max(map(len, example.sequences)) > limit for _, example in named]
        long = [name for (name, _), too in zip(named, is_long, strict=True) if too]
        if corpus is not self.held_out:
            self.counts = {"rows": len(named), "rows_too_long": len(long)}
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
                f"the corpus {corpus.path} has no row to train on ({len(named)} with "
                f"{self.needed}, {len(long)} of them longer than {limit} tokens): {self.cure}, "
                "or raise max_tokens as far as the model's context goes"
            )
        return [row for row, too in zip(named, is_long, strict=True) if not too]

    def _check_tokens(self, named: Sequence[tuple[str, E]], corpus: Corpus) -> None:
        size = vocabulary_size(self.weights)
        for name, example in named:
            for sequence in example.sequences:
                check_ids(sequence, size, f"row {name} of {corpus.path}", self.weights)


def check_ids(sequence: TokenSequence, size: int, place: str, weights: str) -> None:
    """Refuse token ids that the model has no embedding for.

    Args:
        sequence: Of a row.
        size: Of the model's vocabulary.
        place: Of the row, in words.
        weights: The model.

    Raises:
        ValueError: One is.
    """
    if (largest := max(sequence.tokens)) >= size:
        raise ValueError(
            f"{place} has the token id {largest}, but the model {weights} has {size} tokens: the "
            "rows were made with another tokenizer"
        )
