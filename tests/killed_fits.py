"""Commands of ``cli.py`` one after another, each of which may kill itself at a given moment."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import forked
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


def run(pieces: list[dict[str, Any]]) -> list[int]:
    """Run commands; the status of each: minus the signal where one ended it.

    Args:
        pieces: Of each command the arguments ``args``, ``kill_at``, the file ``log`` to which what
            it says is added, and ``ranks``, with which as many processes run it as torchrun does.
    """
    statuses = []
    for piece in pieces:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(forked.CHECKOUT / "tests"),
            "DS_ACCELERATOR": "cpu",
            KILL_AT: piece["kill_at"],
        }
        ended = forked.run(piece["args"], environment, ranks=piece.get("ranks", 1))
        with open(piece["log"], "a", encoding="utf-8") as log:
            log.write(ended.stdout + ended.stderr)
        statuses.append(ended.returncode)
    return statuses
