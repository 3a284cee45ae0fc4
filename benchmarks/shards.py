"""Seconds in which one rank's shards are written and read back, by torch's own means and by ours.

    PYTHONPATH=. python benchmarks/shards.py --layers 5 --folder /dev/shm/shards

Weights and two moments of decoder layers of the shape of 7B in float32, on a GPU where there is
one. Lines of JSON; every arm runs twice, as a folder's first pages are dearer than later ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # before torch, as cli.py does

import torch
import torch.distributed as dist
from gpu_jobs import GIB
from torch.distributed.checkpoint import load, save
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from modules.checkpoints import fill_from_shards, write_shards

LAYER = ((3584, 3584), (3584, 512), (3584, 512), (3584, 3584), *3 * ((3584, 18944),), (3584,))
State = dict[str, DTensor]


def main() -> None:
    """Time every arm twice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm/shards"))
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dist.init_process_group(store=dist.HashStore(), rank=0, world_size=1)
    state = state_of(given.layers, device)
    gib = sum(tensor.nbytes for tensor in state.values()) / GIB

    def by_torch(threads: int) -> None:
        save(state, storage_writer=FileSystemWriter(given.folder, thread_count=threads))

    def over_host() -> None:
        host = {name: tensor.to("cpu") for name, tensor in state.items()}
        save(host, storage_writer=FileSystemWriter(given.folder, thread_count=4))

    writers: dict[str, Callable[[], None]] = {
        "torch, 1 thread": lambda: by_torch(1),
        "torch, 4 threads": lambda: by_torch(4),
        "copied to the host, torch, 4 threads": over_host,
        "ours": lambda: write_shards(state, given.folder),
    }
    for name, write in writers.items():
        for _ in range(2):
            shutil.rmtree(given.folder, ignore_errors=True)
            show("write", name, gib, seconds_of(write, device))
    found = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    readers: dict[str, Callable[[], None]] = {
        "torch": lambda: load(found, checkpoint_id=given.folder),
        "ours": lambda: fill_from_shards(found, given.folder),
    }
    for name, read in readers.items():
        for _ in range(2):
            show("read", name, gib, seconds_of(read, device))
    equal = all(torch.equal(found[n].to_local(), state[n].to_local()) for n in state)
    shutil.rmtree(given.folder)
    dist.destroy_process_group()
    if not equal:
        sys.exit("what was read differs from what was written")


def state_of(layers: int, device: str) -> State:
    """Random tensors, sharded over the one rank."""
    mesh = init_device_mesh(device, (1,))
    torch.manual_seed(0)
    return {
        f"{kind}.{layer}.{place}": distribute_tensor(
            torch.randn(shape, device=device), mesh, [Shard(0)]
        )
        for kind in ("weights", "first moment", "second moment")
        for layer in range(layers)
        for place, shape in enumerate(LAYER)
    }


def seconds_of(call: Callable[[], None], device: str) -> float:
    """By the wall clock, with what the GPU has still to do."""
    start = time.perf_counter()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def show(what: str, way: str, gib: float, seconds: float) -> None:
    """A line of JSON."""
    row = {"what": what, "by": way, "gib": round(gib, 2), "seconds": round(seconds, 2)}
    sys.stdout.write(json.dumps({**row, "gib_per_s": round(gib / seconds, 2)}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
