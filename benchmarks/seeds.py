"""What experiments with several seeds share: a process for each, its settings and seconds."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from promptcot.children import PARENT
from promptcot.store import check_settings, read_json, write_json


def side_by_side(script: str, arguments: Sequence[str], seeds: Sequence[int], parallel: int) -> int:
    """Run a script once for every seed, which it gets as ``--seed``.

    Those that fail leave the others alone.

    Args:
        script: Its path.
        arguments: Of all.
        seeds: One a process.
        parallel: Processes that run at the same time.

    Returns:
        The worst exit status.
    """
    waiting, running, codes = list(seeds), [], []
    threads = max(1, (os.cpu_count() or 1) // min(parallel, len(waiting)))
    environment = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        **os.environ,
        PARENT: str(os.getpid()),
    }
    while waiting or running:
        while waiting and len(running) < parallel:
            command = [sys.executable, script, *arguments, "--seed", str(waiting.pop(0))]
            running.append(subprocess.Popen(command, env=environment))
        codes.append(running.pop(0).wait())
    return max(map(abs, codes))


class Clock:
    """Seconds by phase; a phase within another counts in both."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] += time.monotonic() - start

    def take(self) -> dict[str, float]:
        """The seconds since the last take."""
        seconds, self.seconds = self.seconds, defaultdict(float)
        return {phase: round(value, 1) for phase, value in sorted(seconds.items())}


def quieten() -> None:
    """Lightning's advice and transformers' bars would hide the progress."""
    import torch

    torch.set_float32_matmul_precision("high")
    warnings.simplefilter("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def keep_to(path: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a folder, or refuse others than those that it has.

    Raises:
        ValueError: They differ.
    """
    if path.exists():
        check_settings(path.parent, read_json(path), settings)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, settings)
