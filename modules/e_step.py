"""E-step: the rationale model q(z | c, x) learns the rationales that were chosen for it."""

from __future__ import annotations

from torch import Tensor

from modules.base import LMModule
from promptcot.batches import TokenBatch


class EStepModule(LMModule):
    """Maximum likelihood of the best of n rationales (and, in the cold start, the teacher's).

    Logs ``e_step/loss``, the mean over target tokens of -log q(z | c, x), in nats.

    Source:
        PromptCoT 2.0 (arXiv 2509.19894), section 3.3.2: best of 8 by reward, then fine-tuning.
    """

    name = "e_step"

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        nll = self.nll(batch)
        if len(nll):
            self.log("e_step/loss", nll.mean(), prog_bar=True, batch_size=len(nll))
        return nll.sum() / batch.denominator
