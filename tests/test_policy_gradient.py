"""Policy gradients by hand-worked numbers, identities and limits."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from promptcot.policy_gradient import (
    clipped_surrogate,
    group_advantages,
    kl_estimate,
    sampler_weights,
)


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        # of 1, 2, 6: the others' means are 4, 3.5, 1.5; the mean is 3, the deviation sqrt(7)
        ("rloo", [-3.0, -1.5, 4.5]),
        ("mean", [-2.0, -1.0, 3.0]),
        ("grpo", [-2 / 7**0.5, -1 / 7**0.5, 3 / 7**0.5]),
    ],
)
def test_advantages_by_hand(baseline, expected):
    assert_close(group_advantages(tensor([[1.0, 2.0, 6.0]]), baseline), tensor([expected]))


@pytest.mark.parametrize("baseline", ["rloo", "grpo", "mean"])
def test_advantages_sum_to_zero_and_do_not_see_a_shift_of_the_rewards(baseline):
    rewards = torch.randn(5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    advantages = group_advantages(rewards, baseline)
    assert_close(advantages.sum(-1), torch.zeros(5, dtype=torch.float64))
    assert_close(group_advantages(rewards + 100, baseline), advantages)
    assert_close(group_advantages(torch.full((1, 4), 0.3), baseline), torch.zeros(1, 4))


@pytest.mark.parametrize("reward", [-1856.81, -3300.92, -3728.48, -4414.91])
@pytest.mark.parametrize("num_samples", [3, 7, 8, 12, 16])
def test_equal_rewards_of_any_size_teach_nothing(reward, num_samples):
    # in float32 the mean of equal numbers may be another, by more than MIN_DEVIATION
    rewards = torch.full((1, num_samples), reward)
    assert not group_advantages(rewards, "grpo").any()


def test_a_group_of_one_is_refused():
    with pytest.raises(ValueError, match="sample 2 or more"):
        group_advantages(torch.ones(3, 1), "rloo")


def test_an_unchanged_policy_has_the_gradient_of_reinforce():
    logprobs = tensor([-1.0, -2.0, -0.5], requires_grad=True)
    advantages = tensor([2.0, -1.0, 0.5])
    loss = clipped_surrogate(logprobs, logprobs, advantages, 0.2, 0.2)
    assert_close(loss.detach(), -advantages)
    loss.sum().backward()
    assert_close(logprobs.grad, -advantages)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "slope"),
    [
        (1.1, 1.0, -1.1, -1.1),
        (1.5, 1.0, -1.2, 0.0),  # it has gained enough
        (0.5, 1.0, -0.5, -0.5),  # it has lost: pulled back
        (0.5, -1.0, 0.8, 0.0),
        (1.5, -1.0, 1.5, 1.5),
    ],
)
def test_ratios_are_clipped_on_the_side_of_the_gain(ratio, advantage, loss, slope):
    logprobs = tensor([math.log(ratio)], requires_grad=True)
    found = clipped_surrogate(logprobs, tensor([0.0]), tensor([advantage]), 0.2, 0.2)
    assert_close(found.detach(), tensor([loss]))
    found.sum().backward()
    assert_close(logprobs.grad, tensor([slope]))


def test_divergences_by_hand_and_in_the_mean():
    policy, reference = tensor([0.5, 0.3, 0.2]), tensor([0.2, 0.3, 0.5])
    exact = (policy * (policy / reference).log()).sum()
    found = {kind: kl_estimate(policy.log(), reference.log(), kind) for kind in ("k1", "k2", "k3")}
    assert_close((policy * found["k1"]).sum(), exact)
    assert_close((policy * found["k3"]).sum(), exact)
    d = math.log(2.5)
    assert_close(found["k2"], tensor([d * d / 2, 0.0, d * d / 2]))
    assert_close(found["k3"], tensor([0.4 - 1 + d, 0.0, 2.5 - 1 - d]))
    assert min(found["k3"]) >= 0


def test_weights_of_a_sampler_that_differs():
    trainer, sampler = tensor([0.4, 0.1, 0.6]).log(), tensor([0.2, 0.4, 0.5]).log()
    sequences = tensor([0, 0, 1])

    def weights(correction, per_sequence=False):
        return sampler_weights(trainer, sampler, sequences, correction, 1.5, per_sequence)

    assert_close(weights("none"), torch.ones(3))
    assert_close(weights("truncate"), tensor([1.5, 0.25, 1.2]))
    assert_close(weights("mask"), tensor([0.0, 0.0, 1.2]))
    assert_close(weights("truncate", True), tensor([0.5, 0.5, 1.2]))
    assert_close(weights("mask", True), tensor([0.0, 0.0, 1.2]))
    same = sampler_weights(trainer, trainer, sequences, "mask", 1.5)
    assert_close(same, torch.ones(3))
    none = torch.zeros(0)
    assert sampler_weights(none, none, none.long(), "mask", 1.5, True).shape == (0,)
