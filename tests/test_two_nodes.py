"""Two nodes of one process each, as ``docs/several_gpus.md`` says to start them, are as one."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from refreshed_fit import ENVIRONMENT, arguments, fit, weights
from tiny_run import CHECKOUT

pytestmark = pytest.mark.slow
TORCHRUN = (sys.executable, "-m", "torch.distributed.run")
"""What the command torchrun is."""


def two_nodes(given: list[str], folders: list[Path]) -> list[tuple[int, str]]:
    """Run a fit on two nodes, the one after the other in rank; status and output of each."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    nodes = []
    for rank, folder in enumerate(folders):
        command = [
            *(*TORCHRUN, "--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "1"),
            *("--master-addr", "127.0.0.1", "--master-port", str(port)),
            *("cli.py", "fit", *given, "--trainer.num_nodes", "2", "--trainer.devices", "1"),
            *("--trainer.default_root_dir", str(folder)),
        ]
        nodes.append(
            subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    said = [node.communicate(timeout=200)[0] for node in nodes]
    return [(node.returncode, text) for node, text in zip(nodes, said, strict=True)]


def test_a_refreshed_fit_on_two_nodes_ends_with_the_weights_of_one_process(start, tmp_path):
    short = ("--trainer.max_epochs", "2")
    ended = fit(arguments(start, *short), tmp_path / "one")
    assert ended.returncode == 0, ended.stderr
    overlay = ("--config", "configs/strategy/fsdp2.yaml", "--trainer.accelerator", "cpu")
    shared = [tmp_path / "two"] * 2
    for status, said in two_nodes(arguments(start, *short, *overlay), shared):
        assert status == 0, said
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], value, atol=2e-5, rtol=1e-4)


def test_nodes_without_a_disk_in_common_are_refused(start, tmp_path):
    apart = [tmp_path / "first", tmp_path / "second"]
    for status, said in two_nodes(arguments(start, "--trainer.strategy", "ddp"), apart):
        assert status != 0
        assert "error: not every node sees what the first one writes to" in said
        assert 'cli.py", line' not in said  # no traceback but torchrun's own
    assert not (tmp_path / "first" / "rounds").exists()
