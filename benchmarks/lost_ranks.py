"""One rank of a fit is killed; what becomes of the others, and of the same command given again."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gpu_jobs import GPUS, Job, kill_group, members, show, side_by_side, wait_for
from small_fits import KINDS, refreshed


def lost(given: argparse.Namespace) -> None:
    """One rank is killed in the middle of a round, or of a save; the command is given again."""
    own = refreshed(given, "policy_gradient", "fsdp2", 2, period=1)
    recipe = own["trainer"]["callbacks"][-1]["init_args"]["recipe"]
    recipe["init_args"]["engine"] = {
        "class_path": "promptcot.engines.HFEngine",
        "init_args": {"dtype": "float32", "batch_size": 8},
    }
    own["trainer"]["precision"] = "32-true"
    root = given.folder / "lost"
    shutil.rmtree(root, ignore_errors=True)
    configs = KINDS["policy_gradient"]
    whole = Job(root / "whole", configs, own, GPUS[:2])
    cases = {
        "rank-1-in-round": (1, "rounds/round-1.partial"),
        "rank-0-in-round": (0, "rounds/round-1.partial"),
        "rank-1-in-save": (1, "progress/epoch-0-*"),
    }
    with ThreadPoolExecutor() as side:
        undisturbed = side.submit(side_by_side, {"whole": whole}, given.limit)
        found = {
            name: side.submit(
                lose, Job(root / name, configs, own, GPUS[-2:]), rank, moment, given.limit
            )
            for name, (rank, moment) in cases.items()
        }
    rows = [{"what": "lost", "case": "whole", "ended": bool(undisturbed.result())}]
    for name, result in found.items():
        row = {"what": "lost", "case": name, **result.result()}
        row["same_rounds"] = same_files(whole.folder, root / name, "rounds/*/rows.jsonl")
        row["same_weights"] = same_files(whole.folder, root / name, "weights/*.safetensors")
        rows.append(row)
    show(rows)


def lose(job: Job, rank: int, moment: str, limit_s: float) -> dict[str, Any]:
    """Kill one rank as soon as a file is there; what became of the others, and of a rerun."""
    process = job.start()
    reached = wait_for(lambda: bool(list(job.folder.glob(moment))), process, limit_s)
    os.kill(rank_of(process.pid, rank), signal.SIGKILL)
    killed = time.monotonic()
    wait_for(lambda: not members(process.pid), process, 60)
    seconds = time.monotonic() - killed
    time.sleep(1)
    left = len(members(process.pid))
    row = {"reached": reached, "seconds_to_end": round(seconds, 1), "left_behind": left}
    kill_group(process)
    row["status"] = process.wait()
    return {**row, "resumed": bool(side_by_side({f"{job.folder.name} again": job}, limit_s))}


def rank_of(group: int, rank: int) -> int:
    """The process of a rank of a fit that Lightning launched: its first is rank 0."""
    for pid in members(group):
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if rank and f"LOCAL_RANK={rank}".encode() in environment:
            return pid
    return group


def same_files(one: Path, other: Path, pattern: str) -> bool:
    """Whether two folders hold the same bytes under a pattern, and any at all."""
    names = [path.relative_to(one) for path in one.glob(pattern)]
    found = [path.relative_to(other) for path in other.glob(pattern)]
    if not names or sorted(names) != sorted(found):
        return False
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)
