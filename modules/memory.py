"""What can be changed where the memory of a device does not suffice."""

from __future__ import annotations

import math
import re
from typing import Any

from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.strategies import DeepSpeedStrategy
from lightning.pytorch.trainer.states import TrainerFn

from modules.strategies import FSDP2Strategy

FULL = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)
"""In what torch says, of a GPU and of the host."""
ADVICE = re.compile(r"\s*(If reserved but unallocated|Exception raised from).*", re.DOTALL)
"""Of torch: its allocator's variables, and frames of C++."""


class CuresCLI(LightningCLI):
    """Lightning's command line, which tells what settings need less memory where it is full."""

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            super()._run_subcommand(subcommand)
        except RuntimeError as error:
            if not FULL.search(str(error)):
                raise
            said = ADVICE.sub("", str(error)).rstrip(".\n")
            cures = "; ".join(cures_of(self.trainer, self.model, self.datamodule))
            raise RuntimeError(f"{said}. What needs less, cheapest first: {cures}") from error


def cures_of(
    trainer: Trainer, module: LightningModule, data: LightningDataModule | None
) -> list[str]:
    """Settings that would need less memory than these, the cheapest in time first.

    Micro-batches of evaluation are as large as those of training. Modules and data that are not of
    this project may lack some of the settings, which are then not named.
    """
    cures = _smaller_micro_batches(trainer, data)
    is_fit = trainer.state.fn == TrainerFn.FITTING
    recomputed: Any = getattr(module, "gradient_checkpointing", True)
    if is_fit and recomputed != 1:
        cures.append(f"model.gradient_checkpointing=true (now {str(recomputed).lower()})")
    if not isinstance(trainer.strategy, FSDP2Strategy | DeepSpeedStrategy):
        cures.append("trainer.strategy=fsdp2 on several GPUs, which share the weights out")
    if is_fit and module.strict_loading:  # all weights are trained
        cures.append("model.adapter, to train a LoRA instead of all weights")
    if (longest := getattr(data, "max_tokens", None)) is not None:
        cures.append(f"a lower data.max_tokens (now {longest}), which costs the longer rows")
    return cures


def _smaller_micro_batches(trainer: Trainer, data: Any) -> list[str]:  # noqa: ANN401
    now, budget = trainer.accumulate_grad_batches, getattr(data, "token_budget", None)
    if budget is not None:
        is_least = budget == data.max_tokens
        return [] if is_least else [f"data.token_budget={data.max_tokens} (now {budget})"]
    if getattr(data, "batch_size", math.inf) <= now * trainer.world_size:  # a row in each
        return []
    more = f"trainer.accumulate_grad_batches={2 * now} (now {now})"
    return [f"{more}, the same steps in smaller micro-batches"]
