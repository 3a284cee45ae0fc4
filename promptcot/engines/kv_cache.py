"""A key/value cache that is not copied at every step.

transformers' DynamicCache concatenates all it holds once a layer and token. Here keys and values
lie in blocks with room for tokens to come, and a row that ends gives its place to a later one.
Attention is given whole blocks, the empty room too, and must mask what is not held yet: the CPU's
bfloat16 product copies every operand that is not contiguous, so a shorter view would cost more.
Legend: R rows, H key/value heads, K tokens that there is room for, E size of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

ROOM = 64
"""Tokens that a block grows by."""


class BlockLayer(DynamicLayer):
    """Keys and values of one layer, [R, H, K, E] each."""

    held = 0
    """Tokens held."""

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor]:
        start, self.held = self.held, self.held + key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
        keys, values = self.blocks
        if start:
            keys[:, :, start : self.held] = key_states
            values[:, :, start : self.held] = value_states
        return keys, values

    @property
    def blocks(self) -> tuple[Tensor, Tensor]:
        """Keys and values with the room for more."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.held


class BlockCache(Cache):
    """The cache of a model whose layers all attend to everything before them."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=BlockLayer)

    def change(self, change: Callable[[Tensor], Tensor]) -> None:
        """Replace every block, [R, H, K, E], by what ``change`` makes of it."""
        for layer in self.layers:
            assert isinstance(layer, BlockLayer)
            layer.keys, layer.values = map(change, layer.blocks)

    def reserve(self, tokens: int) -> int:
        """Make room for more tokens; how many keys attention will be given with them."""
        if not self.layers:
            return tokens
        first = self.layers[0]
        assert isinstance(first, BlockLayer)
        missing = first.held + tokens - first.blocks[0].shape[2]
        if missing > 0:
            # Zeros: masked values are multiplied by a weight of 0, which would keep a NaN.
            self.change(lambda block: F.pad(block, (0, 0, 0, missing + ROOM)))
        return first.blocks[0].shape[2]


def fill_gaps(going: Tensor) -> Callable[[Tensor], Tensor]:
    """A change that keeps the rows that are ``going`` ([R] bool): late ones move into the gaps."""
    left = int(going.sum())
    gaps = (~going[:left]).nonzero()[:, 0]
    movers = left + going[left:].nonzero()[:, 0]
    return lambda rows: rows.index_copy_(0, gaps, rows[movers])[:left]
