"""bitsandbytes' 8-bit AdamW: moments of a byte each, a quarter of the optimizer's memory.

Named in YAML as ``bitsandbytes.optim.AdamW8bit`` (``configs/optimizer/adamw_8bit.yaml``). Its
states are saved and resumed bit for bit as they are; what it needs besides is here.
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import Strategy
from torch import nn
from torch.optim import Optimizer

from modules.strategies import FSDP2Strategy

BITS = "optim_bits"
"""bitsandbytes' name of how many a state has, here a key of a group as well."""


def prepare(optimizer: Optimizer, module: nn.Module, strategy: Strategy) -> None:
    """Keep the moments of embeddings in 32 bits, as bitsandbytes advises; else training drifts.

    Embeddings become a group of their own: DeepSpeed makes one vector of each group, in which they
    could not be told from other parameters. Optimizers of other libraries are left alone.

    Args:
        optimizer: New, without states.
        module: Holds what it trains.
        strategy: Of the trainer.

    Raises:
        ValueError: The strategy shards parameters as bitsandbytes cannot read them.

    Source:
        Dettmers et al. 2021, arXiv:2110.02861, section 2.3.
    """
    if not is_bitsandbytes(optimizer):
        return
    if isinstance(strategy, FSDP2Strategy):
        raise ValueError(
            f"the optimizer {type(optimizer).__name__} of bitsandbytes cannot step parameters that "
            "fsdp2 shards: use --trainer.strategy deepspeed_stage_2 or _3, which shard its states "
            "too, or --model.optimizer torch.optim.AdamW"
        )
    tables = [part for part in module.modules() if isinstance(part, nn.Embedding)]
    embeddings = {id(parameter) for table in tables for parameter in table.parameters()}
    for group in list(optimizer.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in embeddings]
        if own:
            group["params"] = [p for p in group["params"] if id(p) not in embeddings]
            optimizer.add_param_group({**group, "params": own, BITS: 32})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    _read_bits_of_groups(optimizer)


def is_bitsandbytes(optimizer: Optimizer) -> bool:
    """Without importing it, which takes long, where another optimizer is used."""
    bases = type(optimizer).__mro__
    return any(base.__module__.partition(".")[0] == "bitsandbytes" for base in bases)


def _read_bits_of_groups(optimizer: Any) -> None:  # noqa: ANN401
    """Let a group say how many bits its states have.

    bitsandbytes itself knows but a global list of parameters, by address or number: it would reach
    into other optimizers, and DeepSpeed steps neither those parameters nor by these numbers.
    """
    of_all = optimizer.get_config

    def get_config(number: int, place: int, group: dict[str, Any]) -> dict[str, Any]:
        return {**of_all(number, place, group), **{k: group[k] for k in (BITS,) if k in group}}

    optimizer.get_config = get_config
