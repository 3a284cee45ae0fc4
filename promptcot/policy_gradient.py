"""Policy gradients for groups of samples: advantages, clipped ratios, corrections, penalties.

All functions are pure. Tokens of all sequences are one row, [N]; groups are [G, n], G prompts with
n samples each. Log-probabilities are natural.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

MIN_DEVIATION = 1e-6
"""A group whose rewards differ by less teaches nothing, and is not divided by its deviation."""

Baseline = Literal["rloo", "grpo", "mean"]
"""What a sample's reward is compared with.

- rloo: the mean of the other samples of its group (Ahmadian et al. 2024, arXiv:2402.14740);
- grpo: the mean of its group, in units of its standard deviation (Shao et al. 2024, 2402.03300);
- mean: the mean of its group: GRPO without the division (Liu et al. 2025, arXiv:2503.20783).
"""
KL = Literal["k1", "k2", "k3"]
"""Estimators of KL(policy || reference) from samples of the policy (Schulman 2020)."""
Correction = Literal["none", "truncate", "mask"]
"""What is done about a sampler whose probabilities are not the trainer's."""


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
    exact = rewards.double()  # the rounding of a mean of float32 is no difference of rewards
    centred = exact - exact.mean(-1, keepdim=True)
    if baseline == "rloo":
        # r_i - mean of the others = n / (n - 1) * (r_i - mean of all)
        centred = centred * num_samples / (num_samples - 1)
    elif baseline == "grpo":
        deviation = exact.std(-1, keepdim=True)
        is_spread = deviation > MIN_DEVIATION
        centred = torch.where(is_spread, centred / deviation, torch.zeros_like(centred))
    return centred.to(rewards.dtype)


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
    if kind == "k1":
        return difference
    if kind == "k2":
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
    sampler's. ``truncate`` takes it up to ``limit``; ``mask`` takes it within [1 / limit, limit]
    and leaves out what lies beyond.

    Args:
        old_logprobs: Under the sampled policy, by the trainer's kernels.
        sampler_logprobs: As the sampler reported them.
        sequences: Which sequence each token belongs to.
        correction: What to do.
        limit: Above 1.
        per_sequence: Use the product over the sequence's tokens for each of them.
    """
    if correction == "none":
        return torch.ones_like(old_logprobs)
    difference = (old_logprobs - sampler_logprobs).detach()
    if per_sequence and len(difference):
        sums = difference.new_zeros(int(sequences.max()) + 1)
        difference = sums.index_add(0, sequences, difference)[sequences]
    ratio = difference.exp()
    if correction == "truncate":
        return ratio.clamp(max=limit)
    is_near = (ratio >= 1 / limit) & (ratio <= limit)
    return torch.where(is_near, ratio, torch.zeros_like(ratio))


class Mismatch(NamedTuple):
    """How far a sampler's probabilities are from the trainer's, over the tokens that it sampled."""

    mean_abs_difference: float
    """Of the log-probabilities, in nats."""
    ratio_p01: float
    """The ratio trainer / sampler that 1 % of the tokens are below."""
    ratio_p99: float
    ratio_min: float
    ratio_max: float
    sequence_ratio_p99: float
    """The same of whole sequences: the product over their tokens."""


def sampler_mismatch(
    policy_logprobs: Tensor, sampler_logprobs: Tensor, sequences: Tensor
) -> Mismatch:
    """The mismatch over the tokens of many sequences, [N] each, N of at least 1."""
    difference = (policy_logprobs - sampler_logprobs).double()
    sums = difference.new_zeros(int(sequences.max()) + 1).index_add(0, sequences, difference)
    low, high = _quantile(difference, 0.01), _quantile(difference, 0.99)
    found = (
        difference.abs().mean(),
        low.exp(),
        high.exp(),
        difference.min().exp(),
        difference.max().exp(),
        _quantile(sums, 0.99).exp(),
    )
    return Mismatch(*(float(value) for value in found))


def _quantile(values: Tensor, share: float) -> Tensor:
    # torch.quantile refuses more than 16 million values
    place = round(share * (len(values) - 1))
    return values.kthvalue(place + 1).values
