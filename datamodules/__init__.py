"""Rows on disk in, batches of tokens out."""

from datamodules.annotations import ComposeDataModule, RationaleDataModule
from datamodules.pairs import PairDataModule
from datamodules.rollouts import RolloutDataModule
from datamodules.supervised import SolutionDataModule, Weighted

__all__ = [
    "ComposeDataModule",
    "PairDataModule",
    "RationaleDataModule",
    "RolloutDataModule",
    "SolutionDataModule",
    "Weighted",
]
