"""Losses of preference pairs by hand-worked numbers, identities, limits and gradients."""

import math

import pytest
import torch
from torch import tensor
from torch.testing import assert_close

from promptcot.preference import (
    hinge_loss,
    ipo_loss,
    margins,
    robust_loss,
    sequence_sums,
    sigmoid_loss,
)

LN2 = math.log(2)


def test_sums_and_margins_by_hand():
    values = tensor([-1.0, -2.0, -0.5, -4.0])
    sums = sequence_sums(values, tensor([0, 0, 3, 1]), 4)
    assert_close(sums, tensor([-3.0, -4.0, 0.0, -0.5]))
    assert_close(margins(sums, tensor([0, 3]), tensor([1, 0])), tensor([1.0, 2.5]))


@pytest.mark.parametrize("beta", [0.01, 0.1, 2.0])
def test_a_policy_that_is_its_reference_has_ln_2_whatever_beta(beta):
    still = torch.zeros(3)
    assert_close(sigmoid_loss(still, beta), torch.full((3,), LN2))
    assert_close(sigmoid_loss(still, beta, 0.2), torch.full((3,), LN2))
    assert_close(robust_loss(still, beta, 0.2), torch.full((3,), LN2))
    assert_close(hinge_loss(still, beta), torch.ones(3))
    assert_close(ipo_loss(still, beta), torch.full((3,), 1 / (4 * beta**2)))


def test_losses_by_hand():
    # sigmoid(log 3) = 3 / 4
    margin = tensor([math.log(3) / 0.1, -math.log(3) / 0.1])
    assert_close(sigmoid_loss(margin, 0.1), tensor([-math.log(0.75), -math.log(0.25)]))
    smooth = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    assert_close(sigmoid_loss(margin, 0.1, 0.1)[0], tensor(smooth))
    robust = (-0.9 * math.log(0.75) + 0.1 * math.log(0.25)) / 0.8
    assert_close(robust_loss(margin, 0.1, 0.1)[0], tensor(robust))
    assert_close(hinge_loss(tensor([4.0, 10.0, 30.0]), 0.1), tensor([0.6, 0.0, 0.0]))
    assert_close(ipo_loss(tensor([5.0, 7.0, 2.0]), 0.1), tensor([0.0, 4.0, 9.0]))


def test_the_robust_loss_has_the_mean_of_the_clean_one_over_flipped_pairs():
    margin = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    flipped = 0.7 * robust_loss(margin, 0.3, 0.3) + 0.3 * robust_loss(-margin, 0.3, 0.3)
    assert_close(flipped, sigmoid_loss(margin, 0.3))
    assert_close(robust_loss(margin, 0.3, 0.0), sigmoid_loss(margin, 0.3))


def test_extreme_margins_stay_finite():
    margin = tensor([-1e6, 1e6])
    for loss in (sigmoid_loss(margin, 0.1), robust_loss(margin, 0.1, 0.1)):
        assert torch.isfinite(loss).all()
    assert_close(sigmoid_loss(margin, 0.1), tensor([1e5, 0.0]))


@pytest.mark.parametrize(
    "loss",
    [
        lambda margin: sigmoid_loss(margin, 0.1),
        lambda margin: sigmoid_loss(margin, 0.1, 0.1),
        lambda margin: robust_loss(margin, 0.1, 0.1),
        lambda margin: hinge_loss(margin, 0.1),
        lambda margin: ipo_loss(margin, 0.1),
    ],
)
def test_a_step_down_the_gradient_raises_the_chosen_and_lowers_the_rejected(loss):
    logprobs = tensor([-20.0, -30.0, -25.0, -22.0], requires_grad=True)
    reference = tensor([-21.0, -29.0, -25.0, -22.0])
    chosen, rejected = tensor([0, 2]), tensor([1, 3])
    loss(margins(logprobs - reference, chosen, rejected)).sum().backward()
    assert (logprobs.grad[chosen] < 0).all()
    assert_close(logprobs.grad[chosen], -logprobs.grad[rejected])


def test_the_gradient_of_dpo_is_weighed_by_how_wrong_the_pair_is():
    margin = tensor([0.0, 20.0, -20.0], requires_grad=True)
    sigmoid_loss(margin, 0.1).sum().backward()
    assert_close(margin.grad, -0.1 * torch.sigmoid(-0.1 * margin.detach()))
