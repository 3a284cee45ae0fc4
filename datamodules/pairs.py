"""Preference pairs and the reference's log-probabilities, for DPO."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.trainer.states import TrainerFn

from datamodules.base import RowsDataModule
from datamodules.kept_logprobs import KeepsLogprobs
from datamodules.packed import TrainingBatches
from datamodules.preferences import PairEncoder
from datamodules.solutions import manifest_settings, read_solutions, was_in_chat
from promptcot.corpora import Corpus
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.pairs import Pair, pack_pairs, with_reference
from promptcot.tokens import Example

log = logging.getLogger(__name__)
FOLDER = "reference_logprobs"
ONLY_TRAINED = (
    "pairs are only trained on: measure a policy by the problems that it solves "
    "(python cli.py make evaluate)"
)


class PairDataModule(KeepsLogprobs, RowsDataModule):
    """For DPO: the rows of recipe ``SelfPlay``, or others with ``chosen`` and ``rejected``.

    The reference is the policy as it is when the rows arrive: before the first step on them the
    trainer's own forward pass gives each token its log-probability, with any adapter as it is
    then. They are kept beside the rows of a round, under the hash of weights, rows and precision,
    so that a resumed fit has the same; of rows that belong to no round in
    ``<default_root_dir>/reference_logprobs``.

    Args:
        weights: See ``RowsDataModule``.
        corpus: The rows: a problem (or a ``prompt``), ``chosen`` and ``rejected``; see
            ``PairEncoder``.
        chat: Put the prompt into the model's chat template; null for as the round's engine did,
            and for rows of no round, true.
        off_policy: Train on a round that other weights made than those the fit starts from.
        kwargs: See ``RowsDataModule``; ``batch_size`` counts pairs, and a pair is too long where
            one of its two sequences is.
    """

    examples: Sequence[Pair]
    needed = "a pair"
    cure = "make some (python cli.py make self_play)"

    def __init__(
        self,
        weights: str,
        corpus: Corpus,
        chat: bool | None = None,
        off_policy: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(weights, corpus, **kwargs)
        self.chat = chat
        self.off_policy = off_policy
        self._source = corpus

    def training_examples(self, corpus: Corpus) -> Sequence[Pair]:
        self._source = corpus
        encoder = PairEncoder(
            self.tokenizer(), self.format, was_in_chat(corpus, self.chat), corpus.domain
        )
        pairs = [
            (str(row.get("id", place)), encoder.pair(row, place))
            for place, row in read_solutions(corpus)
        ]
        return [pair for _, pair in self.fitting(pairs, corpus)]

    def setup(self, stage: str) -> None:
        if stage != TrainerFn.FITTING:
            raise ValueError(f"there is nothing to {TrainerFn(stage).value}: {ONLY_TRAINED}")
        super().setup(stage)

    def held_out_sequences(self, corpus: Corpus) -> Sequence[tuple[str, Example]]:
        raise ValueError(f"data.held_out is {corpus.path}, but {ONLY_TRAINED}")

    def train_dataloader(self) -> TrainingBatches[Any, Any]:
        self.refresh()
        trainer = self.trainer
        assert trainer is not None
        pairs = with_reference(self.examples, self._reference_logprobs(trainer))
        return self.training_batches(pairs, pack_pairs)

    def _reference_logprobs(self, trainer: Trainer) -> list[float]:
        """Of all target tokens, end to end; every rank must call this."""
        sequences = [sequence for pair in self.examples for sequence in pair.sequences]
        name = fingerprint(
            self._policy(trainer), [(sequence.prompt, sequence.target) for sequence in sequences]
        )
        is_round = bool(manifest_settings(self._source))
        root = Path(self._source.path).parent if is_round else Path(trainer.default_root_dir)
        found: list[float] = self.kept.of(
            trainer, root / FOLDER, name, self.evaluation_batches(sequences)
        ).tolist()
        return found

    def _policy(self, trainer: Trainer) -> str:
        """Names the weights that the rows are compared under: those of now.

        Raises:
            ValueError: The rows belong to a round that other weights made.
        """
        made_by = manifest_settings(self._source).get("policy")
        if made_by is not None and self._rounds() is not None:
            return str(made_by)
        given = str(trainer.lightning_module.weights)
        here = weights_fingerprint(given)
        if made_by is not None and made_by != here and not self.off_policy:
            raise ValueError(
                f"the round of {self._source.path} was made by other weights (fingerprint "
                f"{made_by}) than {given} ({here}), of which the fit starts: give those with "
                "--model.weights, make a round with these, or set data.off_policy to true"
            )
        return here
