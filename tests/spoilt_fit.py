"""An objective some of whose steps have a bad loss: input that a fit must survive, or stop at.

Named in YAML as ``spoilt_fit.Spoilt``, with this folder on PYTHONPATH.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable

from modules import MStepModule


class Spoilt(MStepModule):
    """Multiplies the loss of one micro-batch of some steps, on rank 0."""

    def __init__(
        self,
        weights: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        spoilt: Sequence[int] = (),
        by: float = math.inf,
        **kwargs: Any,
    ) -> None:
        super().__init__(weights, optimizer, **kwargs)
        self.spoilt = spoilt
        self.by = by

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        first = batch_idx % self.trainer.accumulate_grad_batches == 0
        bad = first and self.trainer.is_global_zero and self.trainer.global_step in self.spoilt
        return loss * self.by if bad else loss
