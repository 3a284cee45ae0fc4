"""Preference pairs as token ids, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor

from promptcot.batches import TokenBatch, pack
from promptcot.tokens import Example


@dataclass(frozen=True, slots=True)
class Pair:
    """A chosen and a rejected completion, as a rule of one prompt.

    Args:
        chosen: Prompt and what is to become more likely after it.
        rejected: The same of what is to become less likely.
        reference_logprobs: Under the reference, in nats: of the chosen one's target tokens, then
            of the rejected one's.
    """

    chosen: Example
    rejected: Example
    reference_logprobs: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.chosen) + len(self.rejected)

    @property
    def sequences(self) -> tuple[Example, Example]:
        return (self.chosen, self.rejected)

    @property
    def terms(self) -> tuple[int, ...]:
        """One mean is over pairs, another over the chosen ones' target tokens."""
        return (1, len(self.chosen.target))

    def untargeted(self) -> Self:
        """The same sequences, that are compared with nothing."""
        return replace(
            self,
            chosen=self.chosen.untargeted(),
            rejected=self.rejected.untargeted(),
            reference_logprobs=(),
        )


class PairBatch(NamedTuple):
    """Pairs, packed: P of them, of 2 P sequences with N target tokens in all."""

    sequences: TokenBatch  # its denominator counts pairs
    chosen_denominator: float  # of a mean over the chosen ones' target tokens
    chosen: Tensor  # [P] int64 number of the chosen sequence of each pair
    rejected: Tensor  # [P] int64 of the rejected one
    lengths: Tensor  # [number of sequences] float32, target tokens of each, 1 at least
    reference_logprobs: Tensor  # [N] float32


def pack_pairs(
    pairs: Sequence[Pair],
    denominator: float | None = None,
    chosen_denominator: float | None = None,
) -> PairBatch:
    """Lay the sequences of all pairs end to end in one row, without padding.

    Args:
        pairs: A pair without targets is no pair of the batch, but its tokens are there.
        denominator: A mean over pairs is their sum divided by this; None for their number.
        chosen_denominator: A mean over the chosen ones' target tokens likewise.
    """
    sequences = [sequence for pair in pairs for sequence in pair.sequences]
    real = [2 * number for number, pair in enumerate(pairs) if pair.chosen.target]
    count = float(len(real)) if denominator is None else denominator
    if chosen_denominator is None:
        chosen_denominator = float(sum(len(pair.chosen.target) for pair in pairs))
    chosen = torch.tensor(real, dtype=torch.long)
    lengths = [max(1, len(sequence.target)) for sequence in sequences]
    reference = [value for pair in pairs for value in pair.reference_logprobs]
    return PairBatch(
        pack(sequences, count),
        chosen_denominator,
        chosen,
        chosen + 1,
        torch.tensor(lengths, dtype=torch.float32),
        torch.tensor(reference, dtype=torch.float32),
    )


def with_reference(pairs: Sequence[Pair], logprobs: Sequence[float]) -> list[Pair]:
    """The pairs with their reference's log-probabilities, which are given end to end."""
    lengths = (sum(len(sequence.target) for sequence in pair.sequences) for pair in pairs)
    ends = accumulate(lengths, initial=0)
    return [
        replace(pair, reference_logprobs=tuple(logprobs[start:end]))
        for pair, (start, end) in zip(pairs, pairwise(ends), strict=True)
    ]
