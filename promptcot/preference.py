"""Losses of preference pairs, by how much more the policy prefers the chosen one than a reference.

All functions are pure. P is the number of pairs. A margin is
(log pi - log ref)(chosen) - (log pi - log ref)(rejected), in nats: 0 where the policy is the
reference.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sequence_sums(values: Tensor, sequences: Tensor, count: int) -> Tensor:
    """Sums over the tokens of each sequence, [count].

    Args:
        values: One a token, [N].
        sequences: Number of the token's sequence, [N] int64.
        count: Of sequences; one without tokens has the sum 0.
    """
    return values.new_zeros(count).index_add(0, sequences, values)


def margins(log_ratios: Tensor, chosen: Tensor, rejected: Tensor) -> Tensor:
    """How much more the policy prefers each chosen sequence than the reference does, [P].

    Args:
        log_ratios: log pi - log ref of each sequence; of its sum, or for a length-normalised loss
            of its mean over tokens.
        chosen: Number of the chosen sequence of each pair, [P] int64.
        rejected: Of the rejected one.
    """
    return log_ratios[chosen] - log_ratios[rejected]


def sigmoid_loss(margin: Tensor, beta: float, label_smoothing: float = 0.0) -> Tensor:
    r"""DPO, [P]: :math:`-(1 - \epsilon) \log \sigma(\beta m) - \epsilon \log \sigma(-\beta m)`.

    Args:
        margin: [P].
        beta: Above 0; how dearly the policy pays for leaving the reference.
        label_smoothing: Share of pairs that are taken to be the wrong way round, in [0, 0.5): above
            0 it is conservative DPO, whose margin stays finite.

    Source:
        Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
    """
    right, wrong = F.logsigmoid(beta * margin), F.logsigmoid(-beta * margin)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def robust_loss(margin: Tensor, beta: float, label_smoothing: float) -> Tensor:
    r"""DPO without bias from flipped pairs, [P].

    .. math:: \frac{-(1 - \epsilon) \log \sigma(\beta m) + \epsilon \log \sigma(-\beta m)}
        {1 - 2 \epsilon}

    Over pairs of which a share epsilon is the wrong way round its mean is that of DPO on the right
    ones.

    Args:
        margin: [P].
        beta: As in ``sigmoid_loss``.
        label_smoothing: The share epsilon, in [0, 0.5).

    Source:
        Ray Chowdhury et al. 2024, arXiv:2403.00409.
    """
    right, wrong = F.logsigmoid(beta * margin), F.logsigmoid(-beta * margin)
    smooth = -(1 - label_smoothing) * right + label_smoothing * wrong
    return smooth / (1 - 2 * label_smoothing)


def hinge_loss(margin: Tensor, beta: float) -> Tensor:
    r"""SLiC's loss on DPO's margin, [P]: :math:`\max(0, 1 - \beta m)`.

    Source:
        Zhao et al. 2023, arXiv:2305.10425; Liu et al. 2023, arXiv:2309.06657.
    """
    return torch.relu(1 - beta * margin)


def ipo_loss(margin: Tensor, beta: float) -> Tensor:
    r"""IPO, [P]: :math:`(m - 1 / (2 \beta))^2`, which draws the margin to a finite value.

    Args:
        margin: [P]; of sums it is as many times larger as the sequences are long.
        beta: Above 0; the larger, the nearer to the reference.

    Source:
        Azar et al. 2023, arXiv:2310.12036, eq. 17.
    """
    return (margin - 1 / (2 * beta)).square()
