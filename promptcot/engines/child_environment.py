"""The environment of a process that generates beside a trainer: it is no rank of anything."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from promptcot.chunks import chunks

_RANK = re.compile(
    r"((LOCAL_|GLOBAL_|NODE_|GROUP_|ROLE_)?RANK|((LOCAL|GROUP|ROLE)_)?WORLD_SIZE"
    r"|MASTER_(ADDR|PORT)|TORCHELASTIC_.*)"
)


def child_environment(*, alone: bool, devices: Sequence[int] | None = None) -> dict[str, str]:
    """This process's environment for one that is no rank of anything.

    Args:
        alone: Whether that process does all the work itself, as it can on a single GPU.
        devices: Numbers of the GPUs that it sees, of this process's; None for all of them.

    Raises:
        ValueError: This process does not see so many.
    """
    environment = {
        name: value
        for name, value in os.environ.items()
        # Launchers of several ranks set one OpenMP thread, which would cripple vLLM on the CPU.
        if not _RANK.fullmatch(name) and (name, value) != ("OMP_NUM_THREADS", "1")
    }
    defaults = {
        # Threads that wait by spinning made vLLM ten times slower on a CPU that others use too.
        "OMP_WAIT_POLICY": "PASSIVE",
        "THP_MEM_ALLOC_ENABLE": "1",  # huge pages, where torch runs on the CPU
        "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
        "VLLM_USE_FLASHINFER_SAMPLER": "0",  # compiles on first use, and needs nvcc for it
    }
    checkout = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (checkout, environment.get("PYTHONPATH"))))
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = _visible(devices)
    return {
        **defaults,
        **environment,
        "PYTHONPATH": path,
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_ENABLE_V1_MULTIPROCESSING": str(int(not alone)),
    }


def device_groups(
    devices: Sequence[int] | None, num_processes: int, gpus_each: int
) -> list[Sequence[int] | None]:
    """The GPUs of each process, of those that this process sees; None for what vLLM takes.

    Args:
        devices: Numbers of those to use; None for the first ones.
        num_processes: Each with GPUs of its own (``data_parallel_size``).
        gpus_each: That share a model (``tensor_parallel_size``).

    Raises:
        ValueError: They are not as many as the processes need, or not different.
    """
    if num_processes < 1 or gpus_each < 1:
        raise ValueError(
            f"data_parallel_size={num_processes}, tensor_parallel_size={gpus_each}: "
            "both must be at least 1"
        )
    needed = num_processes * gpus_each
    wanted = f"data_parallel_size={num_processes} with {gpus_each} (tensor_parallel_size) each"
    if devices is None:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES")
        if num_processes == 1 or seen == "":
            return [None] * num_processes  # all on the CPU in the latter case
        if seen is not None and len(_names(seen)) < needed:
            raise ValueError(
                f"{wanted} needs {needed} GPUs, this process sees {len(_names(seen))} "
                f"(CUDA_VISIBLE_DEVICES={seen}): show it more, or lower data_parallel_size"
            )
        devices = range(needed)
    if len(devices) != needed or len(set(devices)) < needed or min(devices) < 0:
        fitting, rest = divmod(len(set(devices)), gpus_each)
        cure = f", or set data_parallel_size to {fitting}" if fitting and not rest else ""
        raise ValueError(
            f"devices={list(devices)}: {wanted} needs the numbers of {needed} different GPUs, "
            f"counted from 0: give as many{cure}"
        )
    return [devices[group.start : group.stop] for group in chunks(needed, gpus_each)]


def _names(seen: str) -> list[str]:
    return [name.strip() for name in seen.split(",") if name.strip()]


def _visible(devices: Sequence[int]) -> str:
    """The value of CUDA_VISIBLE_DEVICES for some of the GPUs that this process sees."""
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if seen is None:
        return ",".join(map(str, devices))
    names = _names(seen)
    if beyond := [number for number in devices if not 0 <= number < len(names)]:
        raise ValueError(
            f"devices={list(devices)}: this process sees {len(names)} GPUs "
            f"(CUDA_VISIBLE_DEVICES={seen}), counted from 0; there is no {beyond[0]}"
        )
    return ",".join(names[number] for number in devices)
