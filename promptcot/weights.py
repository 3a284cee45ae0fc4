"""Checks of a folder of weights before anything heavy is loaded."""

from __future__ import annotations

import re
from pathlib import Path


def check_weights(weights: str) -> None:
    """Refuse what cannot be a model.

    A name such as ``Qwen/Qwen2.5-7B`` that is no folder here is left to the hub.

    Raises:
        FileNotFoundError: The folder does not exist or holds no model.
    """
    folder = Path(weights)
    if folder.is_dir():
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

    config = AutoConfig.from_pretrained(weights, trust_remote_code=False)
    return int(config.max_position_embeddings)


def _is_local(folder: Path) -> bool:
    """Whether a name that could be the hub's is meant for a folder of this project."""
    return folder.parent.is_dir() or folder.parts[0] in ("models", "runs")
