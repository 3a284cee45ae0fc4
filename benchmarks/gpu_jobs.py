"""Fits as processes, several side by side on the GPUs of one host, and what they logged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

Config = dict[str, Any]
GIB = 1 << 30
GPUS = tuple(range(torch.cuda.device_count() or 4))
"""Of the host; four in a rehearsal without any."""


@dataclass(frozen=True)
class Job:
    """One call of ``cli.py fit``.

    Args:
        folder: Of all that it makes; its log is ``log`` there.
        configs: Of the project, in order.
        own: What differs, written to ``own.yaml``.
        after: Configurations of the project that come after it.
        gpus: Numbers of the GPUs that it sees; none for a CPU.
        launch: Command that runs ``cli.py`` or what takes its place.
        environment: Further variables.
    """

    folder: Path
    configs: tuple[str, ...]
    own: Config
    gpus: tuple[int, ...] = ()
    launch: tuple[str, ...] = (sys.executable, "cli.py")
    environment: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Its command line; writes its configuration."""
        self.folder.mkdir(parents=True, exist_ok=True)
        own = self.folder / "own.yaml"
        trainer = {**self.own.get("trainer", {}), "default_root_dir": str(self.folder)}
        own.write_text(yaml.safe_dump({**self.own, "trainer": trainer}))
        named = [
            part
            for config in (*self.configs, own, *self.after)
            for part in ("--config", str(config))
        ]
        return [*self.launch, "fit", *named]

    def start(self) -> subprocess.Popen[bytes]:
        """The process, in a group of its own."""
        with open(self.folder.parent / f"{self.folder.name}.log", "ab") as log:
            seen = ",".join(map(str, self.gpus))
            return subprocess.Popen(
                self.command(),
                env={**os.environ, "CUDA_VISIBLE_DEVICES": seen, **self.environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


def side_by_side(jobs: Mapping[str, Job], limit_s: float) -> dict[str, float]:
    """Run them all at once; the seconds of each that ended well, and a line on each.

    What takes longer than ``limit_s`` is killed.
    """
    for job in jobs.values():
        job.folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    running = {name: job.start() for name, job in jobs.items()}
    seconds: dict[str, float] = {}
    while running:
        for name, process in list(running.items()):
            over = time.monotonic() - started
            if process.poll() is None and over < limit_s:
                continue
            if process.returncode is None:
                kill_group(process)
            del running[name]
            if process.returncode == 0:
                seconds[name] = round(over, 1)
            say(f"{name}: status {process.returncode} after {over:.0f} s")
        time.sleep(0.2)
    return seconds


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a job and what it started in its group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(
    is_there: Callable[[], bool], process: subprocess.Popen[bytes], limit_s: float
) -> bool:
    """Whether something came to be before the process ended or time was over."""
    end = time.monotonic() + limit_s
    while not (found := is_there()) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    return found


def scalars(folder: Path, tag: str) -> list[float]:
    """What the last run in a folder logged under a tag, by step; nothing where it did not."""
    return [value for _, value in timed_scalars(folder, tag)]


def timed_scalars(folder: Path, tag: str) -> list[tuple[float, float]]:
    """The same with the time of each, in seconds."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    versions = sorted((folder / "lightning_logs").glob("version_*"), key=os.path.getmtime)
    if not versions:
        return []
    events = EventAccumulator(str(versions[-1]))
    events.Reload()
    if tag not in events.Tags()["scalars"]:
        return []
    return [(event.wall_time, event.value) for event in events.Scalars(tag)]


def say(text: str) -> None:
    """A line on the way."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """A line of JSON for each."""
    for row in rows:
        sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()


def members(group: int) -> list[int]:
    """Processes of a group."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,pgid,stat"], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    return [int(pid) for pid, pgid, stat in rows if int(pgid) == group and stat[0] != "Z"]


def adamw(lr: float, *, fused: bool = False) -> Config:
    """The optimizer."""
    arguments: Config = {"lr": lr, "weight_decay": 0.0}
    if fused:
        arguments["fused"] = True
    return {"class_path": "torch.optim.AdamW", "init_args": arguments}
