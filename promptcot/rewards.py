"""The E-step's reward."""

from __future__ import annotations

import math
from dataclasses import dataclass

from promptcot.protocols import SegmentLogprobs


@dataclass(frozen=True, slots=True)
class Reward:
    """How well a rationale explains its problem under the prompt model, in nats."""

    log_rationale: float
    """log p(z | c), summed over the tokens of the rationale and its tags."""
    log_problem: float
    """log p(x | z, c), summed over the tokens of the problem, its tags and the end token."""
    rationale_tokens: int
    problem_tokens: int

    def value(self, *, per_token: bool = False) -> float:
        """The sum of both terms, or with ``per_token`` the sum of their means over tokens.

        Source: PromptCoT 2.0 (arXiv 2509.19894), eq. 5. It is the log-likelihood of (z, x)
        given c, so the sum is exact; the means are an ablation that forgives long rationales.
        """
        if per_token:
            return self.log_rationale / self.rationale_tokens + (
                self.log_problem / self.problem_tokens
            )
        return self.log_rationale + self.log_problem


def rationale_reward(logprobs: SegmentLogprobs) -> Reward:
    """The reward of a scored target of ``PromptFormat.compose_target``."""
    rationale, problem = logprobs
    return Reward(math.fsum(rationale), math.fsum(problem), len(rationale), len(problem))
