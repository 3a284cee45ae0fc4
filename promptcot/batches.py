"""Batches of tokens, packed or padded, as NamedTuples of tensors.

Both layouts carry the same list of targets, so everything after the hidden states is one code
path. Legend: B rows, T tokens a row, D documents, N target tokens of the whole batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from promptcot.tokens import TokenSequence


class TokenBatch(NamedTuple):
    """Sequences of prompt and target, and where their target tokens are."""

    tokens: Tensor  # [B, T] int64; packed: B = 1 and the documents lie end to end
    positions: Tensor  # [B, T] int64, counted from 0 in each document
    boundaries: Tensor | None  # [D + 1] int32 starts of the documents and the end; None if padded
    longest: int  # tokens of the longest document, known here so that no kernel has to ask the GPU
    predictors: Tensor  # [N] int64 index into B * T of the token that predicts the target
    targets: Tensor  # [N] int64 token ids
    segments: Tensor  # [N] int64 number of the target's segment within its document
    documents: Tensor  # [N] int64 number of the target's document
    denominator: float  # the mean loss is the sum over targets divided by this; no tensor, which
    #                     a trainer of half precision would round

    def to(self, device: torch.device) -> TokenBatch:
        """The same batch on a device."""
        return TokenBatch(*(t.to(device) if isinstance(t, Tensor) else t for t in self))  # type: ignore[arg-type]


def pack(examples: Sequence[TokenSequence], denominator: float | None = None) -> TokenBatch:
    """Lay the examples end to end in one row, without padding."""
    starts = [0, *accumulate(len(example) for example in examples)]
    tokens = [token for example in examples for token in example.tokens]
    positions = [position for example in examples for position in range(len(example))]
    boundaries = torch.tensor(starts, dtype=torch.int32)
    return _batch(examples, [tokens], [positions], starts[:-1], boundaries, denominator)


def pad(
    examples: Sequence[TokenSequence], pad_id: int = 0, denominator: float | None = None
) -> TokenBatch:
    """One row an example, padded on the right to the longest."""
    width = max(map(len, examples), default=0)
    tokens = [[*example.tokens, *[pad_id] * (width - len(example))] for example in examples]
    positions = [list(range(width)) for _ in examples]
    starts = [row * width for row in range(len(examples))]
    # Causal attention alone keeps the padding, which comes last, from reaching a real token.
    return _batch(examples, tokens, positions, starts, None, denominator)


def _batch(
    examples: Sequence[TokenSequence],
    tokens: list[list[int]],
    positions: list[list[int]],
    starts: Sequence[int],
    boundaries: Tensor | None,
    denominator: float | None,
) -> TokenBatch:
    predictors = [
        start + place - 1
        for start, example in zip(starts, examples, strict=True)
        for first, end in example.spans
        for place in range(first, end)
    ]
    targets = [token for example in examples for token in example.target]
    segments = [
        number
        for example in examples
        for number, (first, end) in enumerate(example.spans)
        for _ in range(first, end)
    ]
    documents = [number for number, example in enumerate(examples) for _ in example.target]
    count = len(targets) if denominator is None else denominator
    long = torch.long
    return TokenBatch(
        torch.tensor(tokens, dtype=long),
        torch.tensor(positions, dtype=long),
        boundaries,
        max(map(len, examples), default=0),
        torch.tensor(predictors, dtype=long),
        torch.tensor(targets, dtype=long),
        torch.tensor(segments, dtype=long),
        torch.tensor(documents, dtype=long),
        float(count),
    )
