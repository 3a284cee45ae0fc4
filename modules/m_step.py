"""M-step: the prompt model p(z, x | c) learns to write the rationale, then the problem."""

from __future__ import annotations

from torch import Tensor

from modules.base import LMModule
from promptcot.batches import TokenBatch

RATIONALE, PROBLEM = 0, 1
"""The segments of ``PromptFormat.compose_target``."""


class MStepModule(LMModule):
    """Maximum likelihood of a rationale and its problem, given the concepts.

    Logs means over target tokens, in nats: ``m_step/loss``, and its two parts
    ``m_step/rationale_nll`` (-log p(z | c)) and ``m_step/problem_nll`` (-log p(x | z, c)).
    """

    name = "m_step"

    def training_step(self, batch: TokenBatch, batch_idx: int) -> Tensor:
        nll = self.nll(batch)
        values = {
            "loss": nll,
            "rationale_nll": nll[batch.segments == RATIONALE],
            "problem_nll": nll[batch.segments == PROBLEM],
        }
        self.log_means(values, batch_idx)
        return nll.sum() / batch.denominator
