"""Checkpoints that another number of processes, or another strategy, goes on from.

What is whole or in FSDP2's shards can be read by every strategy but DeepSpeed, on any number of
devices. DeepSpeed's are bound to the number that wrote them, and to how it slices the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, Strategy
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict, load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.optim import Optimizer

from modules.shard_files import ParallelReader, ParallelWriter, StagingPlanner
from promptcot.ranks import on_rank_0

METADATA = "meta.pt"
"""Lightning's name of what is no tensor in a checkpoint of shards."""
ZERO = "checkpoint"
"""Lightning's name of the folder that DeepSpeed's own files lie in."""
STAGE_3 = "deepspeed_stage_3"
CURE = "or start anew with another --trainer.default_root_dir"


def is_sharded(path: Path) -> bool:
    """Whether a checkpoint is a folder of FSDP2's shards."""
    return (path / METADATA).is_file()


def write_shards(state: dict[str, Any], path: Path) -> None:
    """Write this rank's part of tensors that are sharded over all. Every rank must call this.

    Raises:
        RuntimeError: Of every rank, where the first cannot make the folder.
        OSError: Of every rank, where one cannot write.
    """
    on_rank_0(f"cannot write {path}", partial(path.mkdir, parents=True, exist_ok=True))
    cure = "free some space and give the same command again; what was saved before is safe"
    with _as_sentence(f"cannot write {path}", cure):
        save(state, storage_writer=ParallelWriter(path), planner=StagingPlanner())


def fill_from_shards(state: dict[str, Any], path: Path) -> None:
    """Fill tensors with what ranks of any number wrote. Every rank must call this.

    Raises:
        OSError: Of every rank, where one cannot read.
    """
    with _as_sentence(f"cannot read {path}", f"bring back what is missing, {CURE}"):
        load(state, storage_reader=ParallelReader(path))


@contextmanager
def _as_sentence(failure: str, cure: str) -> Iterator[None]:
    try:
        yield
    except CheckpointException as error:  # with a traceback of each rank, and no Exception
        reasons = "; ".join(sorted({str(reason) for reason, _ in error.failures.values()}))
        raise OSError(f"{failure} ({reasons}): {cure}") from error


def read_shards(path: Path, weights_only: bool | None = None) -> dict[str, Any]:
    """A checkpoint of shards as it would be in one file, in this process's memory."""
    found: dict[str, Any] = {}
    _load_state_dict(
        found,
        storage_reader=ParallelReader(path),
        planner=_EmptyStateDictLoadPlanner(),
        no_dist=True,
    )
    names = sorted(name for name in found if name.startswith("optimizer_"))
    others = torch.load(path / METADATA, weights_only=weights_only)
    states = [by_number(found[name]) for name in names]
    return {**others, "state_dict": found["state_dict"], "optimizer_states": states}


def by_number(state: Mapping[str, Any]) -> dict[str, Any]:
    """An optimizer's state by parameters' names as its own: by their place in the groups."""
    groups = state["param_groups"]
    names = chain.from_iterable(group["params"] for group in groups)
    number = {name: place for place, name in enumerate(names)}
    return {
        "state": {number[name]: values for name, values in state.get("state", {}).items()},
        "param_groups": [{**g, "params": [number[name] for name in g["params"]]} for g in groups],
    }


def by_name(state: Mapping[str, Any], optimizer: Optimizer, module: nn.Module) -> dict[str, Any]:
    """An optimizer's own state, that numbers parameters by groups, by the module's names.

    Lightning's own takes the numbers for places in the module, where matrices and norms are mixed.
    """
    name_of = {id(parameter): name for name, parameter in module.named_parameters()}
    name: dict[int, str] = {}
    for old, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        for number, parameter in zip(old["params"], group["params"], strict=True):
            name[number] = name_of[id(parameter)]
    return {
        "state": {name[number]: values for number, values in state["state"].items()},
        "param_groups": [
            {**group, "params": [name[number] for number in group["params"]]}
            for group in state["param_groups"]
        ],
    }


def check_checkpoint(path: Path, strategy: Strategy, world_size: int) -> None:
    """Refuse a checkpoint that the strategy cannot go on from.

    Args:
        path: Of the checkpoint.
        strategy: Of the trainer.
        world_size: Devices of the trainer, on all nodes.

    Raises:
        ValueError: It is DeepSpeed's and the strategy is not, or the other way round; or there
            were other slices or another number of them.
    """
    found = sorted(path.glob(f"{ZERO}/*zero_pp_rank_*_optim_states.pt"))
    if not isinstance(strategy, DeepSpeedStrategy):
        if found:
            raise ValueError(
                f"{path} was written by DeepSpeed, and no other strategy can read it: give "
                f"--trainer.strategy {_stage(path)} and {len(found)} devices as before, {CURE}"
            )
        return
    if not found:
        if not path.exists():  # a name of Lightning's, such as "last"
            return
        raise ValueError(
            f"{path} was not written by DeepSpeed, which reads its own checkpoints alone: give "
            f"--trainer.strategy auto, ddp or fsdp2, whichever it was, {CURE}"
        )
    if strategy.zero_stage_3 != (_stage(path) == STAGE_3):
        raise ValueError(
            f"{path} was written by {_stage(path)}, and another stage cannot read it: give "
            f"--trainer.strategy {_stage(path)}, {CURE}"
        )
    if len(found) != world_size:
        raise ValueError(
            f"{path} was written by DeepSpeed on {len(found)} devices, and no other number can "
            f"read it, but this fit has {world_size}: give --trainer.devices so that there are "
            f"{len(found)} again, on all nodes together, {CURE}"
        )


def _stage(path: Path) -> str:
    """The strategy that a checkpoint of DeepSpeed's was written by; 1 and 2 write the same."""
    sliced = any(path.glob(f"{ZERO}/*zero_pp_rank_*_model_states.pt"))
    return STAGE_3 if sliced else "deepspeed_stage_2"
