"""Policy gradients for groups of samples: advantages, clipped ratios, corrections, penalties.

All functions are pure. Tokens of all sequences are one row, [N]; groups are [G, n], G prompts with
n samples each. Log-probabilities are natural.
"""

from __future__ import annotations

from enum import StrEnum

import torch
from torch import Tensor

MIN_DEVIATION = 1e-6
"""A group whose rewards differ by less teaches nothing, and is not divided by its deviation."""


class Baseline(StrEnum):
    """What a sample's reward is compared with."""

    RLOO = "rloo"
    """The mean of the other samples of its group (Ahmadian et al. 2024, arXiv:2402.14740)."""
    GRPO = "grpo"
    """The mean of its group, in units of its standard deviation (Shao et al. 2024, 2402.03300)."""
    MEAN = "mean"
    """The mean of its group: GRPO without the division (Liu et al. 2025, arXiv:2503.20783)."""


class KL(StrEnum):
    """Estimators of KL(policy || reference) from samples of the policy (Schulman 2020)."""

    K1 = "k1"
    K2 = "k2"
    K3 = "k3"


class Correction(StrEnum):
    """What is done about a sampler whose probabilities are not the trainer's."""

    NONE = "none"
    TRUNCATE = "truncate"
    MASK = "mask"


def group_advantages(rewards: Tensor, baseline: Baseline) -> Tensor:
    """How much better each sample is than its group, [G, n].

    Args:
        rewards: [G, n] with n of at least 2.
        baseline: What to compare with.

    Raises:
        ValueError: A group of one has nothing to be compared with.
    """
    num_samples = rewards.shape[-1]
    if num_samples < 2:  # noqa: PLR2004
        raise ValueError("a policy gradient compares samples of one prompt: sample 2 or more")
    centred = rewards - rewards.mean(-1, keepdim=True)
    if baseline is Baseline.RLOO:
        # r_i - mean of the others = n / (n - 1) * (r_i - mean of all)
        return centred * num_samples / (num_samples - 1)
    if baseline is Baseline.MEAN:
        return centred
    deviation = rewards.std(-1, keepdim=True)
    return torch.where(deviation > MIN_DEVIATION, centred / deviation, torch.zeros_like(centred))


def clipped_surrogate(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, low: float, high: float
) -> Tensor:
    r"""The loss of each token, [N].

    .. math:: -\min(r A, \operatorname{clip}(r, 1 - low, 1 + high) A), r = \exp(l - l_{old})

    Where the policy is the one that was sampled, r is 1, and the gradient is that of -A log p.

    Args:
        logprobs: Under the policy, with gradient.
        old_logprobs: Under the policy that was sampled, by the same kernels.
        advantages: Of the sequence that each token belongs to.
        low: How far below 1 a ratio still counts.
        high: How far above.

    Source:
        Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    ratio = (logprobs - old_logprobs.detach()).exp()
    clipped = ratio.clamp(1 - low, 1 + high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def kl_estimate(logprobs: Tensor, reference: Tensor, kind: KL) -> Tensor:
    """An estimate of the divergence from a reference for each token, [N], in nats.

    With d = log policy - log reference: k1 = d, unbiased, as often negative; k2 = d^2 / 2, never
    negative, of little bias; k3 = exp(-d) - 1 + d, unbiased and never negative.
    """
    difference = logprobs - reference.detach()
    if kind is KL.K1:
        return difference
    if kind is KL.K2:
        return difference.square() / 2
    return (-difference).exp() - 1 + difference


def sampler_weights(
    old_logprobs: Tensor,
    sampler_logprobs: Tensor,
    sequences: Tensor,
    correction: Correction,
    limit: float,
    per_sequence: bool = False,
) -> Tensor:
    """Importance weights that correct for a sampler whose probabilities are others, [N].

    The ratio is the trainer's probability of a token, or of its whole sequence, over the
    sampler's. TRUNCATE takes it up to ``limit``; MASK takes it within [1 / limit, limit] and
    leaves out what lies beyond.

    Args:
        old_logprobs: Under the sampled policy, by the trainer's kernels.
        sampler_logprobs: As the sampler reported them.
        sequences: Which sequence each token belongs to.
        correction: What to do.
        limit: Above 1.
        per_sequence: Use the product over the sequence's tokens for each of them.
    """
    if correction is Correction.NONE:
        return torch.ones_like(old_logprobs)
    difference = (old_logprobs - sampler_logprobs).detach()
    if per_sequence and len(difference):
        sums = difference.new_zeros(int(sequences.max()) + 1)
        difference = sums.index_add(0, sequences, difference)[sequences]
    ratio = difference.exp()
    if correction is Correction.TRUNCATE:
        return ratio.clamp(max=limit)
    is_near = (ratio >= 1 / limit) & (ratio <= limit)
    return torch.where(is_near, ratio, torch.zeros_like(ratio))
