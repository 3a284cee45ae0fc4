"""For supervised fine-tuning: conversations and solutions, encoded once, read from the disk."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.trainer.states import TrainerFn

from datamodules.base import RowsDataModule, check_ids
from datamodules.conversations import ConversationEncoder
from datamodules.encoding import encode_rows
from datamodules.planning import Source
from datamodules.rows import MANIFEST_FILE, RowsOnDisk, write_rows
from datamodules.solutions import read_solutions, was_in_chat
from datamodules.tally import Tally
from promptcot.chats import UnusableRow
from promptcot.corpora import Corpus, corpus_identity
from promptcot.fingerprints import fingerprint, tokenizer_fingerprint
from promptcot.locks import folder_lock
from promptcot.turns import Turns
from promptcot.weights import context_length, vocabulary_size

log = logging.getLogger(__name__)
ENCODING = 3
"""Counts the ways in which rows were made sequences: what an earlier one left is not read."""
FOLDER = "encoded"
PATIENCE_S = 24 * 3600.0
"""How long a process waits for another that encodes the same rows."""
TooLong = Literal["drop", "keep_start", "keep_end"]


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Weighted:
    """One source of a mixture.

    Args:
        corpus: Its rows.
        weight: Times that an epoch takes each row. 2 takes each twice; of 0.5 every epoch takes
            half of the rows, in turns.
    """

    corpus: Corpus
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"weight={self.weight} of {self.corpus.path}: it must be above 0 and finite"
            )


class SolutionDataModule(RowsDataModule):
    """For supervised fine-tuning: conversations, or problems with their solutions.

    What rows may look like, ``ConversationEncoder`` says. The targets are what the assistant says
    and the token that ends its turn. The rows are encoded once, into
    ``<default_root_dir>/encoded``, and read from there; in memory are eight bytes a row.

    Args:
        weights: See ``RowsDataModule``.
        corpus: The rows.
        chat: Put the prompt into the model's chat template; null for as the round's engine did,
            and for rows of no round, true.
        mixture: Several sources by name, in place of ``corpus``.
        too_long: What becomes of a sequence that is longer than ``max_tokens``: it is dropped, or
            only its start or its end is kept. Counted in any case.
        max_unusable: Share of a source's rows that may be left out because nothing can be learned
            from them (an empty message, a role out of order, an answer cut off, ...). They are
            counted by reason; where they are more, the fit is refused.
        num_workers: Processes that encode the rows; what comes of it is the same.
        kwargs: See ``RowsDataModule``.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- the keys of `data` in a YAML file
        self,
        weights: str,
        corpus: Corpus | None = None,
        chat: bool | None = None,
        mixture: dict[str, Weighted] | None = None,
        too_long: TooLong = "drop",
        max_unusable: float = 0.01,
        num_workers: int = 1,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        if (corpus is None) == (not mixture):
            raise ValueError("give the rows as data.corpus or as data.mixture, one of the two")
        if not 0 <= max_unusable <= 1:
            raise ValueError(f"data.max_unusable={max_unusable}: it is a share, from 0 to 1")
        self.mixture = mixture or {"rows": Weighted(corpus or Corpus())}
        super().__init__(weights, next(iter(self.mixture.values())).corpus, **kwargs)
        self.chat = chat
        self.too_long: TooLong = too_long
        self.max_unusable = max_unusable
        if num_workers < 1:
            raise ValueError(f"data.num_workers={num_workers}: at least one process encodes")
        self.num_workers = num_workers

    def prepare_data(self) -> None:
        """Encode the rows, in one process of each machine, while the others wait without end."""
        assert self.trainer is not None
        if self._rounds() is None and self.trainer.state.fn == TrainerFn.FITTING:
            self._encoded(self.mixture)

    def training_examples(self, corpus: Corpus) -> RowsOnDisk:
        rows = self._encoded(self.mixture if self._rounds() is None else {"rows": Weighted(corpus)})
        self.counts = {
            name if len(rows.manifest["sources"]) == 1 else f"{source}/{name}": count
            for source, found in rows.manifest["sources"].items()
            for name, count in found["counts"].items()
        }
        for source in rows.manifest["sources"].values():
            for sentence in source["said"]:
                log.warning(sentence)
        return rows

    def sources(self, examples: Sequence[Any]) -> tuple[Source, ...]:
        if not isinstance(examples, RowsOnDisk):
            return super().sources(examples)
        found: list[Source] = []
        start = 0
        for name, source in examples.manifest["sources"].items():
            weight = self.mixture[name].weight if name in self.mixture else 1.0
            found.append(Source(name, start, source["counts"]["sequences"], weight))
            start += source["counts"]["sequences"]
        return tuple(found)

    def held_out_sequences(self, corpus: Corpus) -> Sequence[tuple[str, Turns]]:
        tally = Tally(corpus.path, self._limit())
        found = list(self._sequences(corpus, tally))
        for sentence in tally.conclude(self.max_unusable):
            log.warning(sentence)
        return found

    def _encoded(self, mixture: dict[str, Weighted]) -> RowsOnDisk:
        """The rows of all sources, encoded now or before; those of other settings are removed."""
        assert self.trainer is not None
        root = Path(self.trainer.default_root_dir) / FOLDER
        folder = root / self._name(mixture)
        with folder_lock(root, PATIENCE_S):
            if (folder / MANIFEST_FILE).is_file():
                return RowsOnDisk(folder)
            manifest: dict[str, Any] = {"sources": {}}
            rows = write_rows(folder, self._all(mixture, manifest["sources"]), manifest)
            for other in root.iterdir():
                if other.is_dir() and other != folder:
                    shutil.rmtree(other)
            return rows

    def _name(self, mixture: dict[str, Weighted]) -> str:
        """Of the encoding: rows, tokenizer, settings and this code decide it."""
        return fingerprint(
            ENCODING,
            [(name, corpus_identity(source.corpus)) for name, source in mixture.items()],
            tokenizer_fingerprint(self.weights),
            [self._limit(), self.too_long, self.max_unusable, self.chat],
            self.format.to_row(),
        )

    def _limit(self) -> int:
        return min(self.max_tokens, context_length(self.weights))

    def _all(self, mixture: dict[str, Weighted], sources: dict[str, Any]) -> Iterator[Turns]:
        """Sequences of all sources; notes of each what became of its rows."""
        for name, source in mixture.items():
            tally = Tally(source.corpus.path, self._limit())
            for _, turns in self._sequences(source.corpus, tally):
                yield turns
            said = tally.conclude(self.max_unusable)
            sources[name] = {"counts": tally.counts(), "said": said}

    def _sequences(self, corpus: Corpus, tally: Tally) -> Iterator[tuple[str, Turns]]:
        """Names and sequences of the rows that can be used.

        Raises:
            ValueError: A token is none of the model's, or the rows' file cannot be read.
        """
        chat = was_in_chat(corpus, self.chat)
        encoder = ConversationEncoder(self.tokenizer(), self.format, chat, corpus.domain)
        size = vocabulary_size(self.weights)
        for encoded in encode_rows(encoder, read_solutions(corpus), self.num_workers):
            tally.rows += 1
            try:
                if encoded.error is not None:
                    raise encoded.error
                for name, turns in encoded.named():
                    check_ids(turns, size, encoded.place, self.weights)
                    if (fitted := self._fitted(turns, encoded.place, tally)) is not None:
                        tally.sequences += 1
                        yield name, fitted
            except UnusableRow as error:
                tally.note_unusable(error)

    def _fitted(self, turns: Turns, place: str, tally: Tally) -> Turns | None:
        """What is left of a sequence; None where it is too long and dropped.

        Raises:
            UnusableRow: No target is left.
        """
        limit = tally.limit
        if len(turns) <= limit:
            return turns
        tally.note_long(place, is_cut=self.too_long != "drop")
        if self.too_long == "drop":
            return None
        cut = turns.first(limit) if self.too_long == "keep_start" else turns.last(limit)
        if not cut.target:
            raise UnusableRow(
                "no target left", f"{place}: {len(turns)} tokens, cut to {limit} without a target"
            )
        return cut
