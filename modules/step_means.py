"""What a step logs: means over all tokens of the step, whichever micro-batch and rank had them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from lightning.pytorch import Trainer
from torch import Tensor


class StepMeans:
    """Collects values of tokens until an optimizer step is whole.

    Logged batch by batch, a step of several micro-batches would show its last one, and several
    ranks the first one's.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of a micro-batch, [N] each.

        Every micro-batch of every rank must name the same ones, if need be with N = 0.
        """
        for name, value in values.items():
            value = value.detach()
            both = torch.stack([value.double().sum(), value.new_tensor(len(value)).double()])
            self._sums[name] = self._sums[name] + both if name in self._sums else both

    def take(self, trainer: Trainer) -> dict[str, Tensor]:
        """The means of the step, by name, and begin the next one. Every rank must call this.

        A name without any value in the whole step is left out.
        """
        sums, self._sums = self._sums, {}
        table = torch.stack(list(sums.values()))
        if trainer.world_size > 1:
            table = trainer.strategy.reduce(table, reduce_op="sum")
        rows = zip(sums, table.float().cpu(), strict=True)
        return {name: total / count for name, (total, count) in rows if count}
