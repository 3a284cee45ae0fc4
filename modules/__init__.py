"""The objectives as LightningModules: batches in, losses out."""

from modules.e_step import EStepModule
from modules.estimators import PolicyGradient
from modules.m_step import MStepModule

__all__ = ["EStepModule", "MStepModule", "PolicyGradient"]
