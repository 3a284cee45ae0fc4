"""A fit of several processes that loses one: all end soon, and the same command goes on."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from refreshed_fit import ENVIRONMENT, SHARDED, arguments, command, fit, weights
from tiny_run import CHECKOUT

from promptcot.locks import folder_lock

pytestmark = pytest.mark.slow

EPOCHS = 2
SHORT = ("--trainer.max_epochs", str(EPOCHS))
ENGINE = "slow_engine.StuckEngine"
LAUNCHERS = {
    "lightning": (sys.executable,),
    "torchrun": (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
    ),
}
MARK = "TESTS_OF_LOST_RANKS"
"""Environment variable by which the processes of a fit are known, and all that they started."""
SOON_S = 20.0
"""Five of them are granted to a rank that may end by itself; the tests' machine may be busy."""


def generating(folder):
    """Rank 0 is in an engine, the other waits for it."""
    return (folder / "stuck").exists()


def saving(folder):
    """A checkpoint is begun, and the one before is pointed to."""
    pointer = folder / "progress" / "latest.json"
    if not pointer.exists():
        return False
    begun = [path.name.removesuffix(".part") for path in pointer.parent.glob("*.ckpt*")]
    newest = max(begun, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return newest not in pointer.read_text()


def exporting(folder):
    """The trained weights are begun."""
    return (folder / "weights.partial").exists()


def living(folder):
    """Processes of a fit: number and environment."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parts = (path / "environ").read_bytes().split(b"\0")
        except OSError:  # it is gone
            continue
        environment = dict(part.split(b"=", 1) for part in parts if b"=" in part)
        if environment.get(MARK.encode()) == str(folder).encode():
            found[int(path.name)] = environment
    return found


def ranks(folder):
    """Process of each rank that has begun to train."""
    found = {}
    for pid, environment in living(folder).items():
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0", 2)[1]
        if program != b"-m":  # which is torchrun
            found[int(environment.get(b"LOCAL_RANK", 0))] = pid
    return found


@contextmanager
def stopped(folder, moment, child):
    """The ranks, all of them stopped at a moment of the fit."""
    while True:
        assert child.poll() is None, "the fit ended before the moment came"
        if moment(folder):
            pids = ranks(folder)
            for pid in pids.values():
                os.kill(pid, signal.SIGSTOP)
            if moment(folder):  # still
                yield pids
                return
            for pid in pids.values():
                os.kill(pid, signal.SIGCONT)
        time.sleep(0.002)


def lose(given, folder, launcher, moment, rank, unaware=()):
    """Kill one process at a moment; the command's status, what it said, and what was left of it.

    Args:
        given: Arguments of the fit.
        folder: Of the fit.
        launcher: What stands before ``cli.py``.
        moment: Asked whether it has come.
        rank: To be killed; None kills the launcher.
        unaware: Ranks that stay stopped: like one that waits on a GPU, they do not notice.
    """
    environment = {**ENVIRONMENT, MARK: str(folder)}
    if moment is generating:
        environment["TESTS_STUCK"] = str(folder / "stuck")
    with (
        (folder / "said").open("w+") as said,
        subprocess.Popen(
            [*launcher, *command(given, folder)[1:]],
            cwd=CHECKOUT,
            env=environment,
            stdout=said,
            stderr=said,
        ) as child,
    ):
        with stopped(folder, moment, child) as pids:
            os.kill(child.pid if rank is None else pids[rank], signal.SIGKILL)
            for other in pids.keys() - {rank, *unaware}:
                os.kill(pids[other], signal.SIGCONT)
        deadline = time.monotonic() + SOON_S
        while (left := living(folder)) and time.monotonic() < deadline:
            child.poll()
            time.sleep(0.05)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        child.wait()
        said.seek(0)
        return child.returncode, said.read(), list(left)


def rows(folder):
    """Bytes of the rows of each round."""
    named = [folder / "rounds" / f"round-{number}" / "rows.jsonl" for number in range(EPOCHS)]
    return [path.read_bytes() for path in named]


@pytest.fixture(scope="module")
def given(start):
    return arguments(start, *SHARDED, *SHORT, engine=ENGINE)


@pytest.fixture(scope="module")
def whole(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    ended = fit(given, folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_a_fit_that_loses_rank_0_and_then_another_ends_as_if_undisturbed(given, whole, tmp_path):
    status, _, left = lose(given, tmp_path, LAUNCHERS["lightning"], saving, 0, unaware=(1,))
    assert status == -signal.SIGKILL
    assert not left
    assert saving(tmp_path)  # the folder of shards lies there, and is not pointed to
    with folder_lock(tmp_path, patience_s=0):
        pass

    status, said, left = lose(given, tmp_path, LAUNCHERS["lightning"], generating, 1)
    assert "going on with the interrupted fit" in said
    assert status == 1
    assert not left
    assert re.search(r"error: rank 1 \(process \d+\) was killed by signal 9", said)
    assert "give the same command again" in said

    resumed = fit(given, tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on with the interrupted fit" in resumed.stderr
    assert rows(tmp_path) == rows(whole)
    found = weights(tmp_path)
    for name, value in weights(whole).items():
        assert torch.equal(found[name], value), name
    assert not (tmp_path / "progress").exists()


def test_ranks_that_torchrun_started_end_with_it(given, tmp_path):
    *_, left = lose(given, tmp_path, LAUNCHERS["torchrun"], saving, None, unaware=(0, 1))
    assert not left


def test_weights_that_cannot_be_written_are_one_error_of_every_rank(given, tmp_path):
    (tmp_path / "weights").write_text("in the way of a folder")
    line = command([*given, "--trainer.max_epochs", "1"], tmp_path)
    ended = subprocess.run(
        line,
        cwd=CHECKOUT,
        env={**ENVIRONMENT, MARK: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert not list(living(tmp_path))
    assert ended.returncode == 2
    told = f"error: the weights were not written to {tmp_path / 'weights'}: NotADirectoryError"
    assert ended.stderr.count("error:") == ended.stderr.count(told) == 1
    assert "Traceback" not in ended.stderr
