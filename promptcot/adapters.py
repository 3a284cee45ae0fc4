"""LoRA adapters in folders as PEFT writes them: a small change to the weights of a base model.

Only JSON is read here; whoever loads a model merges the change or hands it on.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"


def is_adapter(weights: str) -> bool:
    """Whether a folder holds an adapter instead of a whole model."""
    return (Path(weights) / ADAPTER_CONFIG).is_file()


def base_of(weights: str) -> str:
    """Folder (or hub name) of the whole model: of an adapter its base, else the weights."""
    if not is_adapter(weights):
        return weights
    base = adapter_settings(weights).get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ValueError(
            f"{Path(weights) / ADAPTER_CONFIG} names no base_model_name_or_path: "
            "write there the folder of the model that the adapter was trained on"
        )
    return base


def tokenizer_folder(weights: str) -> str:
    """Where the tokenizer is: an adapter may come without one, and has its base's then."""
    if is_adapter(weights) and not (Path(weights) / "tokenizer_config.json").is_file():
        return base_of(weights)
    return weights


def adapter_rank(weights: str) -> int:
    """The largest rank of any of its matrices."""
    settings = adapter_settings(weights)
    others: dict[str, int] = settings.get("rank_pattern") or {}
    return max([int(settings["r"]), *others.values()])


def adapter_settings(weights: str) -> dict[str, Any]:
    """What the adapter's JSON file says."""
    settings: dict[str, Any] = json.loads((Path(weights) / ADAPTER_CONFIG).read_text())
    return settings
