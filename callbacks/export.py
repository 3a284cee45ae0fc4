"""The trained policy as a Hugging Face folder: the only strategy-aware code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from modules.adapters import is_adapted
from modules.base import LMModule
from modules.merging import merged
from modules.zero import trained_parameters
from promptcot.adapters import tokenizer_folder
from promptcot.ranks import on_rank_0

PREFIX = "policy.lm."


class ExportWeights(Callback):
    """At the end of a fit writes ``<default_root_dir>/weights``, whole or not at all.

    The weights are float32, as trained: rounded to bfloat16 between two fits, the small steps
    of the method's learning rates would be lost. An engine may load them in any precision.

    An adapter is written as PEFT does, without its base. Where it is to be served by what knows no
    adapters of its kind, as vLLM no DoRA, it can be merged.

    A trial run (``trainer.fast_dev_run``) writes none: the folder may hold those of a whole fit.

    Args:
        name: Of the folder.
        merge: Write base and adapter as one whole model, that loads like any other; the adapter
            alone then lies beside it in ``<name>-adapter``. Takes four bytes a parameter of the
            host's memory. Without an adapter it changes nothing.
    """

    def __init__(self, name: str = "weights", merge: bool = False) -> None:
        self.name = name
        self.merge = merge

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        folder = Path(trainer.default_root_dir) / self.name
        lm: Any = pl_module.policy.lm  # type: ignore[union-attr]
        if self.merge and is_adapted(lm):
            adapter = folder.with_name(f"{self.name}-adapter")
            export_weights(trainer, pl_module, adapter)
            export_merged(pl_module, adapter, folder)
        else:
            export_weights(trainer, pl_module, folder)


def export_weights(trainer: Trainer, module: LightningModule, folder: Path) -> None:
    """Gather the policy on rank 0 and save it with its tokenizer. Every rank must call this.

    Of a policy that is a base model with an adapter, the adapter alone is saved, as PEFT does.
    """
    state = whole_state(trainer, module)

    def write() -> None:
        weights = {k.removeprefix(PREFIX): v for k, v in state.items() if k.startswith(PREFIX)}
        lm: Any = module.policy.lm  # type: ignore[union-attr]
        # PEFT would else look for the embeddings of a base model on the hub
        options = {"save_embedding_layers": False} if is_adapted(lm) else {}
        save = partial(lm.save_pretrained, state_dict=weights, **options)
        _write(folder, save, str(module.weights))

    on_rank_0(f"the weights were not written to {folder}", write)


def export_merged(module: LightningModule, adapter: Path, folder: Path) -> None:
    """Save base and adapter as one model with its tokenizer. Every rank must call this.

    Args:
        module: An adapter is trained in it.
        adapter: Folder that it was exported to.
        folder: Of the whole model.
    """

    def write() -> None:
        assert isinstance(module, LMModule)
        _write(folder, merged(module, adapter).save_pretrained, module.weights)

    on_rank_0(f"the merged weights were not written to {folder}", write)


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
        # at a fit's end Lightning has moved it to the CPU, and the ranks meet on their GPUs
        module.to(trainer.strategy.root_device)
        return trained_parameters(module, trainer.is_global_zero)
    return trainer.strategy.lightning_module_state_dict()


def _write(folder: Path, save: Callable[[Path], object], weights: str) -> None:
    """Write a model and the tokenizer of the weights that it began with, whole or not at all."""
    from transformers import AutoTokenizer

    part = folder.with_name(folder.name + ".partial")
    shutil.rmtree(part, ignore_errors=True)
    save(part)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder(weights), trust_remote_code=False)
    tokenizer.save_pretrained(part)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(part, folder)
