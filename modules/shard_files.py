"""How a rank's shards get into files and back: by several threads, in little memory.

Torch's own writer takes new memory of the host for each tensor and keeps a file's until it is
closed: a rank of two with 7.6e9 parameters held 42 GiB, and the pages of new memory came at
1.5 GiB/s, a tenth of what GPU and files allow. Its reader has one thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.planner import (
    LoadPlan,
    LoadPlanner,
    ReadItem,
    SavePlan,
    SavePlanner,
    WriteItem,
)
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

THREADS = 8
"""Of a rank; those that write have a file each."""


class ParallelWriter(FileSystemWriter):
    """Writes a rank's part to files of its threads, or fails.

    Torch's own leaves out without a word what a thread but the first could not write.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, thread_count=THREADS)

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        written = super().write_data(plan, planner)
        if missing := len(plan.items) - len(written.wait()):
            raise OSError(f"{missing} of {len(plan.items)} parts could not be written")
        return written


class StagingPlanner(DefaultSavePlanner):
    """Hands out each tensor in a buffer of the thread that asks, which its next one overwrites.

    A buffer is as large as the thread's largest tensor and is taken once: the writer asks for the
    largest first, and is done with one before it asks for the next.
    """

    def __init__(self) -> None:
        super().__init__()
        self._own = threading.local()

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor | BytesIO:
        found = super().resolve_data(write_item)
        return self._staged(found) if isinstance(found, torch.Tensor) else found

    def _staged(self, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.nbytes:
            return tensor.cpu()
        buffer: torch.Tensor | None = getattr(self._own, "buffer", None)
        if buffer is None or buffer.nbytes < tensor.nbytes:
            self._own.buffer = buffer = torch.empty(tensor.nbytes, dtype=torch.uint8)
        # a storage as large as the tensor: the writer would copy a view of a larger one once more
        copy = torch.frombuffer(buffer.numpy(), dtype=torch.uint8, count=tensor.nbytes)
        return copy.view(tensor.dtype).view(tensor.shape).copy_(tensor.detach())


class ParallelReader(FileSystemReader):
    """Reads what a rank needs by several threads."""

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        read = super().read_data
        shares = self._shared_out(plan.items)
        with ThreadPoolExecutor(THREADS) as pool:
            for share in [pool.submit(read, replace(plan, items=s), planner) for s in shares]:
                share.result()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _shared_out(self, items: Iterable[ReadItem]) -> list[list[ReadItem]]:
        """For each thread about as many bytes."""

        def size(item: ReadItem) -> int:
            return int(self.storage_data[item.storage_index].length)

        shares: list[list[ReadItem]] = [[] for _ in range(THREADS)]
        sizes = [0] * THREADS
        for item in sorted(items, key=size, reverse=True):
            least = sizes.index(min(sizes))
            shares[least].append(item)
            sizes[least] += size(item)
        return shares
