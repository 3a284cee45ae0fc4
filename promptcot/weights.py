"""Checks of a folder of weights before anything heavy is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from promptcot.adapters import ADAPTER_WEIGHTS, base_of, is_adapter

IRRELEVANT = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype"})
"""Of a model's config.json: what says nothing of its architecture."""


def check_weights(weights: str) -> None:
    """Refuse what can be neither a model nor an adapter of one.

    A name such as ``Qwen/Qwen2.5-7B`` that is no folder here is left to the hub.

    Raises:
        FileNotFoundError: The folder does not exist, holds no model, or an adapter whose weights or
            base model are missing.
    """
    folder = Path(weights)
    if is_adapter(weights):
        _check_adapter(folder)
    elif folder.is_dir():
        if not (folder / "config.json").exists():
            raise FileNotFoundError(
                f"the folder {weights} holds no model (no config.json): give the folder that a fit "
                "exported, or a Hugging Face model folder"
            )
    elif not re.fullmatch(r"[\w.-]+/[\w.-]+", weights) or _is_local(folder):
        raise FileNotFoundError(
            f"there is no model folder {weights}: check the path; "
            "`python -m promptcot.embedded models/smollm2-135m-instruct` writes the embedded model"
        )


def context_length(weights: str) -> int:
    """Tokens that the model has positions for."""
    from transformers import AutoConfig  # seconds to import

    config = AutoConfig.from_pretrained(base_of(weights), trust_remote_code=False)
    return int(config.max_position_embeddings)


def vocabulary_size(weights: str) -> int:
    """Tokens that the model has embeddings for; a tokenizer may have fewer."""
    from transformers import AutoConfig  # seconds to import

    config = AutoConfig.from_pretrained(base_of(weights), trust_remote_code=False)
    return int(config.get_text_config().vocab_size)


def architecture(weights: str) -> dict[str, Any]:
    """Equal for weights that fit into the same model; those of an adapter are its base's.

    Of a hub's name nothing is known but itself.
    """
    path = Path(base_of(weights)) / "config.json"
    if not path.is_file():
        return {"name": base_of(weights)}
    config: dict[str, Any] = json.loads(path.read_text())
    return {name: value for name, value in config.items() if name not in IRRELEVANT}


def _check_adapter(folder: Path) -> None:
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise FileNotFoundError(
            f"the folder {folder} holds an adapter without its weights (no {ADAPTER_WEIGHTS}): "
            "give the folder that a fit exported, or one that PEFT saved as safetensors"
        )
    base = base_of(str(folder))
    try:
        check_weights(base)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the base model of the adapter {folder}: {error}") from error


def _is_local(folder: Path) -> bool:
    """Whether a name that could be the hub's is meant for a folder of this project."""
    return folder.parent.is_dir() or folder.parts[0] in ("models", "runs")
