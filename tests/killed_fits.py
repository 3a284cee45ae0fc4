"""Commands of ``cli.py`` one after another, each in a process of its own that may be killed.

    python killed_fits.py '[{"args": ["fit", ...], "kill_at": "12", "log": "FILE"}, ...]'

Each process is forked from this one, which has imported what takes ten seconds to import and has
run nothing of it. Prints the status of each as a list: minus the signal where one ended it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
from pathlib import Path

import torch
from lightning.pytorch import Callback

KILL_AT = "TESTS_KILL_AT"
"""Environment variable: the micro-batch of all epochs, or the epoch, before which to be killed."""


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
        child = os.fork()
        if child == 0:
            os.environ[KILL_AT] = piece["kill_at"]
            log = os.open(piece["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["cli.py", *piece["args"]]
            os._exit(cli.run(piece["args"]))
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sys.stdout.write(json.dumps(statuses))


if __name__ == "__main__":
    main()
