"""How the rationale model learns from what it sampled: the estimators of the E-step's gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from promptcot.policy_gradient import (
    KL,
    Correction,
    clipped_surrogate,
    kl_estimate,
    sampler_weights,
)
from promptcot.rollouts import RolloutBatch


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class PolicyGradient:
    """The clipped policy gradient of PPO, over groups of samples and without a critic.

    What a sample is compared with (RLOO, GRPO) is set where the data are: the ``baseline`` of
    ``RolloutDataModule``.

    Args:
        clip_low: How far below 1 the ratio to the sampled policy still counts.
        clip_high: How far above; more than ``clip_low`` lets rare tokens grow (DAPO).
        kl_coefficient: Weight of the divergence from the reference model; needs rollouts with
            ``reference_model``.
        kl: Its estimator. k2 and k3 are added to the loss; k1, which has a gradient of zero mean
            there, lowers each token's advantage.
        correction: Of a sampler whose probabilities are not quite the trainer's: importance
            weights, truncated or, beyond the limit, masked.
        correction_limit: Above 1.
        correction_per_sequence: Weigh each token by its whole sequence's ratio.
    """

    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coefficient: float = 0.0
    kl: KL = "k3"
    correction: Correction = "truncate"
    correction_limit: float = 2.0
    correction_per_sequence: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.clip_low <= 1 or not self.clip_high > 0:
            raise ValueError(
                f"clip_low={self.clip_low}, clip_high={self.clip_high}: the first must be in "
                "(0, 1], the second above 0"
            )
        if not 0 <= self.kl_coefficient < math.inf:
            raise ValueError(
                f"kl_coefficient={self.kl_coefficient} would drive the policy away from its "
                "reference, or nowhere: it must be 0 or more, and finite"
            )
        if not self.correction_limit > 1:
            raise ValueError(
                f"correction_limit={self.correction_limit}: it must be above 1, the ratio of a "
                "sampler that agrees with the trainer"
            )

    def loss(self, logprobs: Tensor, batch: RolloutBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each target token, [N], and what is worth watching, as means over them.

        Args:
            logprobs: Of the targets under the policy, with gradient, [N] float32.
            batch: Where they come from.

        Raises:
            ValueError: A divergence is asked for and the rollouts have no reference.
        """
        figures = {"entropy": -logprobs.detach(), "kl": logprobs.new_zeros(0)}
        advantages, penalty = batch.advantages, torch.zeros_like(logprobs)
        if len(batch.reference_logprobs) == len(logprobs):
            if self.kl_coefficient:  # far from the reference k3 is infinite, and 0 of it no number
                divergence = kl_estimate(logprobs, batch.reference_logprobs, self.kl)
                penalty = self.kl_coefficient * divergence
            figures["kl"] = kl_estimate(logprobs.detach(), batch.reference_logprobs, "k3")
        elif self.kl_coefficient:
            raise ValueError(
                f"kl_coefficient={self.kl_coefficient} needs the log-probabilities of a reference: "
                "set reference_model in the recipe Rollouts"
            )
        if self.kl == "k1":
            advantages, penalty = advantages - penalty.detach(), torch.zeros_like(logprobs)
        surrogate = clipped_surrogate(
            logprobs, batch.policy_logprobs, advantages, self.clip_low, self.clip_high
        )
        weights = sampler_weights(
            batch.policy_logprobs,
            batch.sampler_logprobs,
            batch.sequences.documents,
            self.correction,
            self.correction_limit,
            self.correction_per_sequence,
        )
        ratio = (logprobs.detach() - batch.policy_logprobs).exp()
        outside = (ratio < 1 - self.clip_low) | (ratio > 1 + self.clip_high)
        figures |= {
            "surrogate": surrogate.detach(),
            "kl_loss": penalty.detach(),
            "ratio": ratio,
            "outside_clip": outside.float(),
            "sampler_weight": weights,
        }
        return weights * (surrogate + penalty), figures
