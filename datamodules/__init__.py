"""Rows on disk in, batches of tokens out."""

from datamodules.annotations import ComposeDataModule, RationaleDataModule
from datamodules.rollouts import RolloutDataModule

__all__ = ["ComposeDataModule", "RationaleDataModule", "RolloutDataModule"]
