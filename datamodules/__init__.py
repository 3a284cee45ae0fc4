"""Rows on disk in, batches of tokens out."""

from datamodules.annotations import ComposeDataModule, RationaleDataModule

__all__ = ["ComposeDataModule", "RationaleDataModule"]
