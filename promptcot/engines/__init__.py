"""Engines. Each imports its heavy library when it is opened, not before."""

from promptcot.engines.auto_engine import AutoEngine
from promptcot.engines.hf_engine import HFEngine
from promptcot.engines.kept_engine import EngineKeeper, KeptEngine
from promptcot.engines.scripted import ScriptedEngine
from promptcot.engines.server_engine import ServerEngine
from promptcot.engines.vllm_engine import VLLMEngine

__all__ = [
    "AutoEngine",
    "EngineKeeper",
    "HFEngine",
    "KeptEngine",
    "ScriptedEngine",
    "ServerEngine",
    "VLLMEngine",
]
