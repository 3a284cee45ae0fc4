"""Commands of ``cli.py`` one after another, each in a process of its own that may be killed.

    python killed_fits.py '[{"args": ["fit", ...], "kill_at": "12", "log": "FILE"}, ...]'

Each process is forked from this one, which has imported what takes ten seconds to import and has
run nothing of it. With ``"ranks": 2`` a command is run by as many processes, in an environment as
torchrun gives them. Prints the status of each command as a list: minus the signal where one ended
it; of several ranks, that of the first that did not end well.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

KILL_AT = "TESTS_KILL_AT"
"""Environment variable: the micro-batch of all epochs, or the epoch, before which to be killed."""
GRACE_S = 10
"""Seconds that the other ranks of a command have when one did not end well."""


class KillAndTell(Callback):
    """Writes down each micro-batch, with loss, rate and generator, and kills its own process.

    Args:
        file: One line of JSON for each; numbers bit for bit.
    """

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_epoch_start(self, trainer, *_):
        # the checkpoint of the last epoch's end is written, and no batch was asked for since
        if os.environ.get(KILL_AT) == f"epoch {trainer.current_epoch}":
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_start(self, trainer, *_):
        if os.environ.get(KILL_AT) == str(trainer.fit_loop.total_batch_idx):
            os.kill(os.getpid(), signal.SIGKILL)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        row = {
            "place": [trainer.current_epoch, batch_idx],
            "step": trainer.global_step,
            "loss": float(outputs["loss"]).hex(),
            "mean": float(trainer.callback_metrics.get("sft/loss", 0)).hex(),
            "rate": float(trainer.optimizers[0].param_groups[0]["lr"]).hex(),
            "generator": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
            "tokens": batch.tokens[0].tolist(),
            "targets": len(batch.targets),
            "boundaries": batch.boundaries.tolist(),
        }
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            row["mean"] = ""  # that of the step before, which a fit that goes on has not seen
        file = self.file.with_name(f"{self.file.name}.{trainer.global_rank}")
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")


def main() -> None:
    """Run the commands."""
    checkout = Path(__file__).parents[1]
    sys.path[:0] = [str(checkout), str(checkout / "tests")]
    cli = importlib.import_module("cli")
    for name in ("lightning.pytorch.cli", "callbacks", "datamodules", "modules", "peft"):
        importlib.import_module(name)
    statuses = []
    for piece in json.loads(sys.argv[1]):
        size = piece.get("ranks", 1)
        port = free_port()
        children = []
        for rank in range(size):
            child = os.fork()
            if child == 0:
                os.environ[KILL_AT] = piece["kill_at"]
                if size > 1:
                    os.environ |= of_torchrun(rank, size, port)
                log = os.open(piece["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(log, 1)
                os.dup2(log, 2)
                sys.argv = ["cli.py", *piece["args"]]
                os._exit(cli.run(piece["args"]))
            children.append(child)
        statuses.append(ended(children))
    sys.stdout.write(json.dumps(statuses))


def run(pieces: list[dict[str, Any]]) -> list[int]:
    """The status of each piece, in a process of their own; for tests."""
    checkout = Path(__file__).parents[1]
    paths = os.pathsep.join((str(checkout), str(checkout / "tests")))
    told = subprocess.run(
        [sys.executable, __file__, json.dumps(pieces)],
        cwd=checkout,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "DS_ACCELERATOR": "cpu"},
        capture_output=True,
        text=True,
        check=True,
        timeout=280,
    ).stdout
    statuses: list[int] = json.loads(told)
    return statuses


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def of_torchrun(rank: int, size: int, port: int) -> dict[str, str]:
    """The environment of a rank on one node."""
    return {
        **{"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
        **{"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "here"},
    }


def ended(children: list[int]) -> int:
    """The status of the first rank that did not end well, 0 where all did.

    The others, who would wait for it, are ended a little later, as torchrun does.
    """
    statuses = []
    while len(statuses) < len(children):
        child, status = os.wait()
        statuses.append(os.waitstatus_to_exitcode(status))
        if statuses[-1]:
            signal.alarm(GRACE_S)
        children = [other if other != child else 0 for other in children]
        signal.signal(signal.SIGALRM, partial(end, [other for other in children if other]))
    signal.alarm(0)
    return next((status for status in statuses if status), 0)


def end(children: list[int], *_: object) -> None:
    """Kill what is left of a command."""
    for child in children:
        os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    main()
