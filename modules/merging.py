"""An adapter and the base that it is trained on, as one model for whoever knows no adapters.

All is built in the memory of the host: the trainer's own model stays where it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from modules.adapters import FOUR_BIT, compute_dtype, load_base
from modules.base import LMModule
from promptcot.adapters import base_of
from promptcot.likelihood import load_causal_lm


def plain_base(module: LMModule) -> PreTrainedModel:
    """The frozen model under a module's adapter, from its folder and in plain numbers.

    One of four bits holds what the trainer computes with: rounded, and in its precision.
    """
    precision = str(module.trainer.precision)
    if module.adapter is None or module.adapter.base != "nf4":
        return load_base(module.weights, module.adapter, precision)
    lm = load_causal_lm(base_of(module.weights), compute_dtype(precision))
    for name in _four_bit_matrices(module.policy.lm):
        matrix: Any = lm.get_submodule(name)
        matrix.weight.data = _rounded(matrix.weight.data, module.device)
    return lm


def merged(module: LMModule, adapter: Path) -> PreTrainedModel:
    """Base and adapter of a module as one model, in float32.

    Args:
        module: Whose base is taken.
        adapter: Folder of what it has trained.
    """
    from peft import PeftModel

    lm: Any = PeftModel.from_pretrained(plain_base(module).float(), adapter)
    whole: PreTrainedModel = lm.merge_and_unload()
    return whole


def _four_bit_matrices(lm: Any) -> list[str]:  # noqa: ANN401
    """Names, in the plain model, of what bitsandbytes has rounded in PEFT's wrapper of it."""
    from bitsandbytes.nn.modules import Linear4bit

    found = [name for name, part in lm.named_modules() if isinstance(part, Linear4bit)]
    return [name.removeprefix("base_model.model.").removesuffix(".base_layer") for name in found]


def _rounded(matrix: Tensor, device: torch.device) -> Tensor:
    """What four bits keep of a matrix, by the same arithmetic and on the same kind of device."""
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn.modules import Params4bit

    four: Any = Params4bit(matrix, quant_type=FOUR_BIT, compress_statistics=True)
    four = four.to(device)  # rounds
    plain: Tensor = dequantize_4bit(four.data, four.quant_state)
    return plain.to(matrix.device, matrix.dtype)
