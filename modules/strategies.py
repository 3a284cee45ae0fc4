"""Sharded training by a flag: ``--trainer.strategy fsdp2``, and what a module needs for it.

Lightning's own ``fsdp`` is torch's first FSDP: it cannot clip a gradient by its norm, which every
configuration here does, and it does not run on a CPU.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy, StrategyRegistry
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.optim import Optimizer

from modules.adapters import is_adapted, trained
from modules.checkpoints import METADATA, by_name, fill_from_shards, is_sharded, write_shards
from promptcot.likelihood import TargetLogprobs
from promptcot.ranks import on_rank_0

FIRST_FSDP = ("fsdp", "fsdp_cpu_offload", "FSDPStrategy")


class FSDP2Strategy(ModelParallelStrategy):
    """Weights, gradients and optimizer states sharded over all ranks, a layer at a time.

    Args:
        save_distributed_checkpoint: Write a checkpoint as a folder of shards, each rank its own,
            instead of one file.
        process_group_backend: "nccl" or "gloo"; None chooses by device.
        timeout: Longest wait of a rank for the others.
    """

    def __init__(
        self,
        save_distributed_checkpoint: bool = True,
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(
            "auto",
            "auto",
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        whole = not self._save_distributed_checkpoint
        options = StateDictOptions(
            full_state_dict=whole, cpu_offload=whole, ignore_frozen_params=True
        )
        return get_model_state_dict(self._whole_module, options=options)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Of shards those on the device; Lightning's own copies them all to the host first."""
        if not self._save_distributed_checkpoint:
            return super().optimizer_state(optimizer)
        if isinstance(optimizer, LightningOptimizer):
            optimizer = optimizer.optimizer
        return get_optimizer_state_dict(self._whole_module, optimizer)

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | Path,
        storage_options: Any | None = None,  # noqa: ANN401
    ) -> None:
        """In shards by several threads of each rank, or in one file."""
        if not self._save_distributed_checkpoint or storage_options is not None:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(self.broadcast(filepath))
        state = {"state_dict": checkpoint.pop("state_dict")}
        for number, optimizer in enumerate(checkpoint.pop("optimizer_states", ())):
            state[f"optimizer_{number}"] = optimizer
        write_shards(state, path)
        on_rank_0(f"cannot write {path}", partial(torch.save, checkpoint, path / METADATA))

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Of any number of ranks, in shards or in one file, which may be another strategy's.

        Lightning's own wants frozen weights too, which a checkpoint does not have.
        """
        path = Path(self.broadcast(checkpoint_path))
        if not is_sharded(path):
            return self._load_file(path, weights_only)
        module = self._whole_module
        options = StateDictOptions(ignore_frozen_params=True)
        names = trained(module)
        found = get_model_state_dict(module, options=options)
        state = {"state_dict": {name: found[name] for name in found if name in names}}
        fill_from_shards(state, path)
        module.load_state_dict(state["state_dict"], strict=False)
        for number, optimizer in enumerate(self.optimizers):
            of = {f"optimizer_{number}": get_optimizer_state_dict(module, optimizer)}
            fill_from_shards(of, path)
            set_optimizer_state_dict(module, optimizer, of[f"optimizer_{number}"])
        return dict(torch.load(path / METADATA, weights_only=weights_only))

    def _load_file(self, path: Path, weights_only: bool | None) -> dict[str, Any]:
        found = torch.load(path, mmap=True, map_location="cpu", weights_only=weights_only)
        module = self._whole_module
        assert self.lightning_module is not None
        options = StateDictOptions(
            full_state_dict=True,
            broadcast_from_rank0=True,
            strict=self.lightning_module.strict_loading,
        )
        set_model_state_dict(module, found["state_dict"], options=options)
        for number, optimizer in enumerate(self.optimizers):
            state = by_name(found["optimizer_states"][number], optimizer, module)
            set_optimizer_state_dict(module, optimizer, state, options=options)
        return dict(found)

    @property
    def _whole_module(self) -> nn.Module:
        assert self.model is not None
        return self.model

    def setup_environment(self) -> None:
        # Lightning's "auto" would split every layer over the devices of a node
        self._tensor_parallel_size = 1
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def register() -> None:
    """Make ``fsdp2`` a name that ``--trainer.strategy`` knows."""
    if "fsdp2" not in StrategyRegistry:
        StrategyRegistry.register("fsdp2", FSDP2Strategy, description="torch's FSDP2")


def check_strategy(name: str) -> None:
    """Refuse what would fail later.

    Args:
        name: Of a strategy or its class, with or without its module.

    Raises:
        ValueError: It is torch's first FSDP.
        ImportError: It is DeepSpeed, which is not installed.
    """
    if "deepspeed" in name.lower() and find_spec("deepspeed") is None:
        raise ImportError(
            f"the strategy {name} needs the package deepspeed, which is not installed: "
            "`.venv/bin/python -m pip install -c constraints.txt deepspeed` installs it; "
            "--trainer.strategy fsdp2 does without"
        )
    if name.rpartition(".")[2] in FIRST_FSDP:
        raise ValueError(
            f"the strategy {name} cannot clip a gradient by its norm, which this fit does: "
            "use --trainer.strategy fsdp2"
        )


def shard(policy: TargetLogprobs, mesh: DeviceMesh | None, mixed: torch.dtype | None) -> None:
    """Shard a policy over the ranks of a mesh; None, which other strategies have, does nothing.

    The policy itself is the root: its forward pass uses the head and the embeddings. Each layer
    of the decoder is gathered when it is needed.

    Args:
        policy: With its weights.
        mesh: Of the strategy.
        mixed: Precision that the weights are rounded to before they are sent, computed with and
            forgotten; gradients are summed and kept in float32, as the weights themselves. None
            sends them as they are.
    """
    if mesh is None:
        return
    # Autocast alone would send float32, and keep a rounded copy of every layer until the forward
    # pass ends, whether or not the layer itself is gone.
    rounded = MixedPrecisionPolicy(param_dtype=mixed, reduce_dtype=mixed and torch.float32)
    over: dict[str, Any] = {"mesh": mesh["data_parallel"], "mp_policy": rounded}
    layers: nn.ModuleList = policy.lm.get_decoder().layers
    for layer in layers:
        fully_shard(layer, **over)
    fully_shard(policy, **over)


def sent_dtype(precision: str, lm: nn.Module) -> torch.dtype | None:
    """What ``shard`` is to round to, by the trainer's precision.

    None with an adapter: it is small, its base is kept as it is computed with, and DoRA measures
    float32 matrices.
    """
    return torch.bfloat16 if precision == "bf16-mixed" and not is_adapted(lm) else None
