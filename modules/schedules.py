"""The learning rate over a fit, by how much of the fit is done.

A fit's steps are not known before it is over where rounds of data are made in it, so a schedule
asks for the share of epochs (or of ``max_steps``) that is done, and needs no state of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from lightning.pytorch import Trainer
from torch.optim import Optimizer

Shape = Literal["constant", "cosine", "linear", "wsd"]
PEAK = "initial_lr"
"""Name, in an optimizer's groups, of the rate that a schedule multiplies."""


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Schedule:
    """What the optimizer's learning rate is multiplied with.

    Args:
        shape: After the warm-up: constant; cosine or linear down to the floor; or constant, then
            linear down to the floor over the last ``decay`` of the fit (warm-up, stable, decay).
        warmup: Share of the fit in which the rate rises from 0.
        floor: Share of the rate that is left at the end.
        decay: Of wsd, the share of the fit that its fall takes.
    """

    shape: Shape = "cosine"
    warmup: float = 0.03
    floor: float = 0.1
    decay: float = 0.2

    def __post_init__(self) -> None:
        for name in ("warmup", "floor", "decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(
                    f"schedule {name}={getattr(self, name)}: it is a share, from 0 to 1"
                )
        if self.warmup == 1 or (self.shape == "wsd" and self.warmup + self.decay > 1):
            raise ValueError(
                f"schedule warmup={self.warmup}, decay={self.decay}: together they take more than "
                "the whole fit"
            )

    def factor(self, before: float, after: float) -> float:
        """Of one step.

        Args:
            before: Share of the fit that is done before the step, in [0, 1].
            after: Share that is done after it; so that the first step has a rate, too.
        """
        if after < self.warmup:
            return after / self.warmup
        start = 1 - self.decay if self.shape == "wsd" else self.warmup
        fallen = min(1.0, max(0.0, (before - start) / (1 - start))) if start < 1 else 0.0
        match self.shape:
            case "constant":
                return 1.0
            case "cosine":
                fallen = (1 - math.cos(math.pi * fallen)) / 2
        return 1 - (1 - self.floor) * fallen


def check_end(trainer: Trainer) -> None:
    """Refuse a fit that has no end to schedule towards.

    Raises:
        ValueError: Neither its epochs nor its steps are limited.
    """
    if trainer.max_steps < 1 and (trainer.max_epochs or 0) < 1:
        raise ValueError(
            "a learning rate's schedule needs an end of the fit: set trainer.max_epochs or "
            "trainer.max_steps"
        )


def progress(trainer: Trainer, batch_idx: int) -> tuple[float, float]:
    """Shares of the fit that are done before and after the optimizer step of a micro-batch.

    Raises:
        ValueError: The fit has no end.
    """
    check_end(trainer)
    shares: list[tuple[float, float]] = []
    if trainer.max_steps > 0:
        done = trainer.global_step / trainer.max_steps
        shares.append((done, done + 1 / trainer.max_steps))
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        accumulate = trainer.accumulate_grad_batches
        steps = -(-int(trainer.num_training_batches) // accumulate)
        epochs = trainer.current_epoch + (batch_idx // accumulate) / steps
        shares.append((epochs / trainer.max_epochs, (epochs + 1 / steps) / trainer.max_epochs))
    return max(shares)  # where both are given the fit ends at the first


def keep_peaks(optimizer: Optimizer) -> None:
    """Note in each group the rate that it was made with; a checkpoint holds it with the group."""
    for group in optimizer.param_groups:
        group.setdefault(PEAK, group["lr"])


def set_rates(optimizers: Iterable[Optimizer], factor: float) -> float:
    """Set the rate of every group to a multiple of its peak; the first group's new one."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    for group in groups:
        group["lr"] = factor * group[PEAK]
    return float(groups[0]["lr"])
