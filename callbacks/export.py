"""The trained policy as a Hugging Face folder: the only strategy-aware code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from modules.adapters import is_adapted
from modules.zero import trained_parameters
from promptcot.adapters import tokenizer_folder

PREFIX = "policy.lm."


class ExportWeights(Callback):
    """At the end of a fit writes ``<default_root_dir>/weights``, whole or not at all.

    The weights are float32, as trained: rounded to bfloat16 between two fits, the small steps
    of the method's learning rates would be lost. An engine may load them in any precision.

    Args:
        name: Of the folder.
    """

    def __init__(self, name: str = "weights") -> None:
        self.name = name

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        export_weights(trainer, pl_module, Path(trainer.default_root_dir) / self.name)


def export_weights(trainer: Trainer, module: LightningModule, folder: Path) -> None:
    """Gather the policy on rank 0 and save it with its tokenizer. Every rank must call this.

    Of a policy that is a base model with an adapter, the adapter alone is saved, as PEFT does.
    """
    state = whole_state(trainer, module)
    if trainer.is_global_zero:
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        weights = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
        _save(module, partial, weights)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(partial, folder)
    trainer.strategy.barrier(f"{folder} written")


def whole_state(trainer: Trainer, module: LightningModule) -> Mapping[str, Any]:
    """What is trained of a module, whole and on rank 0, however it is sharded.

    Every rank must call this.
    """
    if isinstance(trainer.strategy, ModelParallelStrategy):
        # the strategy's own way gives the shards where checkpoints are written as shards
        options = StateDictOptions(
            full_state_dict=True, cpu_offload=True, ignore_frozen_params=True
        )
        return get_model_state_dict(module, options=options)
    if isinstance(trainer.strategy, DeepSpeedStrategy):
        return trained_parameters(module, trainer.is_global_zero)
    return trainer.strategy.lightning_module_state_dict()


def _save(module: LightningModule, folder: Path, state: Mapping[str, Any]) -> None:
    from transformers import AutoTokenizer

    lm: Any = module.policy.lm  # type: ignore[union-attr]
    # PEFT would else look for the embeddings of a base model on the hub
    options = {"save_embedding_layers": False} if is_adapted(lm) else {}
    lm.save_pretrained(folder, state_dict=state, **options)
    tokenizer = tokenizer_folder(module.weights)  # type: ignore[arg-type]
    AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False).save_pretrained(folder)
