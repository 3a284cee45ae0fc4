"""The objectives as LightningModules: batches in, losses out."""

from modules.dpo import DPOModule, Preference
from modules.e_step import EStepModule
from modules.estimators import PolicyGradient
from modules.m_step import MStepModule
from modules.schedules import Schedule
from modules.sft import SFTModule

__all__ = [
    "DPOModule",
    "EStepModule",
    "MStepModule",
    "PolicyGradient",
    "Preference",
    "SFTModule",
    "Schedule",
]
