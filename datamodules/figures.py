"""Numbers of a whole round, for the loggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Trainer


def log_figures(trainer: Trainer, group: str, figures: Mapping[str, Any]) -> None:
    """Write those that are numbers as ``group/name`` at the trainer's step, on rank 0."""
    numbers = {
        f"{group}/{name}": float(value)
        for name, value in figures.items()
        if isinstance(value, int | float)
    }
    for logger in trainer.loggers:
        logger.log_metrics(numbers, step=trainer.global_step)
