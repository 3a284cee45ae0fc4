"""Supervised fine-tuning: the policy learns to write given solutions."""

from __future__ import annotations

from torch import Tensor

from modules.base import LMModule
from promptcot.batches import TokenBatch


class SFTModule(LMModule):
    """Maximum likelihood of solutions, given their problems.

    Logs ``sft/loss``, the mean of -log pi over target tokens, in nats.
    """

    name = "sft"

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        nll = self.nll(batch)
        self.log_means({"loss": nll}, batch_idx)
        return nll.sum() / batch.denominator
