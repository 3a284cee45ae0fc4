"""The objectives as LightningModules: batches in, losses out."""

from modules.e_step import EStepModule
from modules.m_step import MStepModule

__all__ = ["EStepModule", "MStepModule"]
