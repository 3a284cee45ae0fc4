"""The gradient of a whole optimizer step: its norm, and the steps that are skipped for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer


class SkippedSteps:
    """Counts optimizer steps whose gradient was not finite, and ends a fit that has only such.

    Args:
        limit: Skipped steps in a row that end the fit.

    Raises:
        ValueError: The limit is below 1.
    """

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(
                f"max_skipped={limit}: set it to 1, so that the first gradient that is not finite "
                "stops the fit, or higher"
            )
        self.limit = limit
        self.in_row = 0
        self.total = 0

    def count(self, norm: float, step: int) -> bool:
        """Whether a step is to be skipped.

        Args:
            norm: Of its gradient, the same on every rank.
            step: Its number, from 0 as the logs count.

        Raises:
            RuntimeError: It is the last one that may be skipped in a row.
        """
        if math.isfinite(norm):
            self.in_row = 0
            return False
        self.in_row += 1
        self.total += 1
        if self.in_row >= self.limit:
            raise RuntimeError(
                f"step {step}: the gradient's norm is {norm}, not finite for {self.in_row} steps "
                f"in a row now (max_skipped={self.limit}; {self.total} of the fit's steps in all): "
                "lower the optimizer's lr, set trainer.gradient_clip_val (1.0 is usual), and look "
                "at the rows of these steps"
            )
        rank_zero_warn(
            f"step {step} is skipped: its gradient's norm is {norm}; {self.in_row} in a row, "
            f"{self.total} in all, and {self.limit} in a row stop the fit"
        )
        return True

    def state_dict(self) -> dict[str, int]:
        return {"in_row": self.in_row, "total": self.total}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.in_row, self.total = state["in_row"], state["total"]


def parameters_of(optimizer: Optimizer) -> list[nn.Parameter]:
    """All that an optimizer moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def total_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together, a scalar that is the same on every rank.

    DDP's gradients are equal on all ranks; of sharded ones every rank must call this.
    """
    norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def drop(parameters: Sequence[nn.Parameter]) -> None:
    """Leave an optimizer nothing to step by: it changes no weight, no moment and no count."""
    for parameter in parameters:
        parameter.grad = None


def searches_scale(trainer: Trainer) -> bool:
    """Whether gradients that are not finite are expected: float16 seeks its loss's scale so."""
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        return bool(trainer.strategy.deepspeed_engine.fp16_enabled())
    return getattr(trainer.precision_plugin, "scaler", None) is not None
