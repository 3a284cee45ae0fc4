"""Sampled sequences with what a policy gradient needs of each, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor

from promptcot.batches import TokenBatch, pack
from promptcot.policy_gradient import Baseline, group_advantages
from promptcot.tokens import Example


@dataclass(frozen=True, slots=True)
class Rollout(Example):
    """A prompt and a target that was sampled; log-probabilities are in nats, one a target token.

    Args:
        group: Those of one prompt, whose rewards are compared.
        reward: Of the whole sequence, in nats.
        sampler_logprobs: As the engine reported them when it sampled.
        policy_logprobs: Of the same weights, by the trainer's own forward pass.
        reference_logprobs: Under the reference model; empty for none.
        advantage: Of the sequence over its group.
    """

    group: str
    reward: float
    sampler_logprobs: tuple[float, ...]
    policy_logprobs: tuple[float, ...] = ()
    reference_logprobs: tuple[float, ...] = ()
    advantage: float = 0.0

    def untargeted(self) -> Self:
        """The same sequence with no token to train on."""
        none = (0,) * len(self.segment_lengths)
        return replace(
            self,
            prompt=self.tokens,
            target=(),
            segment_lengths=none,
            sampler_logprobs=(),
            policy_logprobs=(),
            reference_logprobs=(),
        )


class RolloutBatch(NamedTuple):
    """Rollouts, packed. N is the number of target tokens of all."""

    sequences: TokenBatch
    advantages: Tensor  # [N] float32, of the token's sequence
    policy_logprobs: Tensor  # [N] float32, under the policy that was sampled, by the trainer
    sampler_logprobs: Tensor  # [N] float32, under the same, as the sampler reported them
    reference_logprobs: Tensor  # [N] float32, or [0] where there is no reference


def with_advantages(rollouts: Sequence[Rollout], baseline: Baseline) -> list[Rollout]:
    """The rollouts, each compared with its group.

    Raises:
        ValueError: A group of one.
    """
    groups: dict[str, list[int]] = {}
    for index, rollout in enumerate(rollouts):
        groups.setdefault(rollout.group, []).append(index)
    compared = list(rollouts)
    for indices in groups.values():
        rewards = torch.tensor([rollouts[i].reward for i in indices], dtype=torch.float64)
        for index, advantage in zip(indices, group_advantages(rewards, baseline), strict=True):
            compared[index] = replace(rollouts[index], advantage=float(advantage))
    return compared


def with_policy_logprobs(rollouts: Sequence[Rollout], logprobs: Sequence[float]) -> list[Rollout]:
    """The rollouts with their policy's log-probabilities, which are given end to end."""
    ends = accumulate((len(rollout.target) for rollout in rollouts), initial=0)
    return [
        replace(rollout, policy_logprobs=tuple(logprobs[start:end]))
        for rollout, (start, end) in zip(rollouts, pairwise(ends), strict=True)
    ]


def pack_rollouts(rollouts: Sequence[Rollout], denominator: float | None = None) -> RolloutBatch:
    """Lay the rollouts end to end in one row, without padding."""
    advantages = (rollout.advantage for rollout in rollouts for _ in rollout.target)
    return RolloutBatch(
        pack(rollouts, denominator),
        _floats(advantages),
        _floats(value for rollout in rollouts for value in rollout.policy_logprobs),
        _floats(value for rollout in rollouts for value in rollout.sampler_logprobs),
        _floats(value for rollout in rollouts for value in rollout.reference_logprobs),
    )


def _floats(values: Iterable[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32)
