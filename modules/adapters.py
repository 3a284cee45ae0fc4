"""LoRA, DoRA and QLoRA: a frozen base model, and a small trained change to its weights.

PEFT and bitsandbytes are guests of this file. Every objective has them by its argument
``adapter``; what a fit exports is then a PEFT folder, and such a folder counts as weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedModel

from promptcot.adapters import adapter_settings, base_of, is_adapter
from promptcot.likelihood import load_causal_lm

FOUR_BIT: Literal["nf4"] = "nf4"


@dataclass(frozen=True)
class LoRA:
    """A low-rank change (alpha / rank) B A to each target matrix; A and B are float32.

    Args:
        rank: Rows of A and columns of B.
        alpha: Scale of the change; twice the rank is usual.
        dropout: Probability of dropping an input of A in training, in [0, 1).
        target_modules: Names of the modules to change; "all-linear" for every linear one but
            the head.
        base: What the frozen weights are kept in. "bfloat16" halves the memory of "float32";
            "nf4" (QLoRA) quarters that again, and computes in the trainer's precision.
        dora: Train the length of each row of the changed matrix apart from its direction. A step
            costs more; vLLM serves the result only merged (``callbacks.ExportWeights``).

    Source:
        Hu et al. 2021, arXiv:2106.09685, section 4.1; Dettmers et al. 2023, arXiv:2305.14314;
        DoRA: Liu et al. 2024, arXiv:2402.09353, section 4.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | Sequence[str] = "all-linear"
    base: Literal["float32", "bfloat16", "nf4"] = "float32"
    dora: bool = False

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"adapter.rank={self.rank}: a matrix has at least rank 1")
        if not 0 < self.alpha < math.inf:
            raise ValueError(
                f"adapter.alpha={self.alpha}: it must be above 0, or the adapter changes nothing, "
                "and finite"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"adapter.dropout={self.dropout}: it must lie in [0, 1)")


def load_base(weights: str, lora: LoRA | None, precision: str) -> PreTrainedModel:
    """The model that is trained, or that an adapter is trained on.

    Args:
        weights: Folder (or hub name) of a model, or folder of an adapter, whose base is loaded.
        lora: Tells what frozen weights are kept in.
        precision: Of the trainer; a four-bit base computes in it.
    """
    if lora is None or lora.base == "float32":
        # at the paper's rates an update is smaller than half a step of bfloat16 and would round
        # away; trainer.precision bf16-mixed computes in bfloat16 all the same
        return load_causal_lm(base_of(weights), torch.float32)
    if lora.base == "bfloat16":
        return load_causal_lm(base_of(weights), torch.bfloat16)
    compute = compute_dtype(precision)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=FOUR_BIT,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
    lm = load_causal_lm(base_of(weights), compute, four_bit)
    for module in lm.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # on such a CPU the first evaluation would round the scales to bfloat16, for good
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    return lm


def compute_dtype(precision: str) -> torch.dtype:
    """Of a base of four bits, under a trainer's precision."""
    return torch.bfloat16 if precision.startswith("bf16") else torch.float32


def adapt(lm: PreTrainedModel, weights: str, lora: LoRA | None) -> PreTrainedModel:
    """The model with an adapter to train and all else frozen; unchanged where there is none.

    The adapter is new, or where ``weights`` is one, that one. The result is PEFT's wrapper, which
    hands through everything that the model has.

    Raises:
        ValueError: ``lora`` and the adapter in ``weights`` differ in what cannot change.
    """
    if is_adapter(weights):
        model = _continued(lm, weights, lora)
    elif lora is not None:
        model = _new(lm, lora)
    else:
        return lm
    base = Path(base_of(weights))
    if base.is_dir():  # engines may run from another folder
        model.peft_config["default"].base_model_name_or_path = str(base.absolute())
    return model  # type: ignore[no-any-return]


def is_adapted(lm: nn.Module) -> bool:
    """Whether a model has an adapter, and only that is trained."""
    return hasattr(lm, "peft_config")


def is_dora(weights: str, lora: LoRA | None) -> bool:
    """Whether what is trained is a DoRA, new or gone on with."""
    if is_adapter(weights):
        return bool(adapter_settings(weights).get("use_dora"))
    return lora is not None and lora.dora


def trained(module: nn.Module) -> set[str]:
    """Names of the parameters that are trained."""
    return {name for name, value in module.named_parameters() if value.requires_grad}


def _new(lm: PreTrainedModel, lora: LoRA) -> Any:  # noqa: ANN401
    from peft import LoraConfig, get_peft_model

    targets = lora.target_modules
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # a whole number, says PEFT; any will do
        lora_dropout=lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        use_dora=lora.dora,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(lm, config)


def _continued(lm: PreTrainedModel, weights: str, lora: LoRA | None) -> Any:  # noqa: ANN401
    from peft import LoraConfig, PeftModel

    config = LoraConfig.from_pretrained(weights)
    if lora is not None:
        for name, there, given in (
            ("rank", config.r, lora.rank),
            ("alpha", config.lora_alpha, lora.alpha),
            ("dora", config.use_dora, lora.dora),
        ):
            if there != given:
                raise ValueError(
                    f"the adapter {weights} has {name} {there}, but adapter.{name} is {given}: "
                    f"set it to {there} to go on with that adapter"
                )
        config.lora_dropout = lora.dropout
    return PeftModel.from_pretrained(lm, weights, is_trainable=True, config=config)
