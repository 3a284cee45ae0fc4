"""Which trained parameters an optimizer's weight decay pulls towards zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

MATRIX = 2
"""Dimensions from which a parameter is decayed."""


def parameter_groups(parameters: Iterable[nn.Parameter]) -> list[dict[str, Any]]:
    """Groups for an optimizer: matrices with its own weight decay, all else without any.

    Norms, biases and DoRA's magnitudes have one dimension: they are scales and offsets, for which
    zero is no neutral value. A group without parameters is left out.

    Args:
        parameters: Those to be trained are taken.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    matrices = [p for p in trained if dimensions(p) >= MATRIX]
    others = [p for p in trained if dimensions(p) < MATRIX]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def dimensions(parameter: nn.Parameter) -> int:
    """Of the whole parameter. At DeepSpeed's stage 3 a rank sees it empty and flat."""
    return len(getattr(parameter, "ds_shape", parameter.shape))
