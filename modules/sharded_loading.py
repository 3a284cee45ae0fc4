"""Weights read slice by slice: no rank ever holds a whole model, in any memory.

Otherwise each rank of a machine loads the whole model in float32 before it keeps its share: for
32 billion parameters on eight GPUs a terabyte of the machine's memory.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.state_dict_loader import load
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from promptcot import attention
from promptcot.likelihood import check_logits


def without_weights(weights: str) -> PreTrainedModel | None:
    """The model of a folder, float32, its parameters without memory until ``fill``.

    None where they cannot be read by name: there is no such folder, some are called otherwise in
    the files, or embeddings and head are one.
    """
    folder = Path(weights)
    names = {name for path in folder.glob("*.safetensors") for name in _names(path)}
    if not names:
        return None
    from accelerate import init_empty_weights  # seconds to import

    config = AutoConfig.from_pretrained(weights, trust_remote_code=False)
    with init_empty_weights(include_buffers=False):
        lm: PreTrainedModel = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            attn_implementation=attention.NAME,
            trust_remote_code=False,
        )
    if {name for name, _ in lm.named_parameters(remove_duplicate=False)} != names:
        return None
    if (folder / "generation_config.json").exists():  # an export has it, too
        lm.generation_config = GenerationConfig.from_pretrained(weights)
    check_logits(lm.config, weights)
    return lm


def fill(root: nn.Module, lm: PreTrainedModel, weights: str, device: torch.device) -> None:
    """Read what this rank keeps of each parameter. Every rank must call this.

    Args:
        root: That is sharded, with the model somewhere in it.
        lm: From ``without_weights``.
        weights: The same folder.
        device: Of the rank.
    """
    buffers = dict(root.named_buffers())  # such as rotary frequencies, which no file holds
    root.to_empty(device=device)
    for name, buffer in root.named_buffers():
        buffer.copy_(buffers[name])
    state = {name: parameter.detach() for name, parameter in lm.named_parameters()}
    load(state, storage_reader=HuggingFaceStorageReader(weights))


def _names(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())
