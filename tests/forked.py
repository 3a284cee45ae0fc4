"""Commands of ``cli.py`` in processes of their own, forked from one that has imported everything.

To import it takes each command eight seconds. The one that they are forked from has run nothing of
it. What ranks Lightning's launcher starts are ``python cli.py`` all the same.
"""

from __future__ import annotations

import atexit
import importlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
GRACE_S = 10
"""Seconds that the other ranks of a command have when one did not end well."""
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["heavy"])


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout: float = 200,
    ranks: int = 1,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in the checkout, and keep what it says.

    Args:
        arguments: After ``cli.py``.
        environment: All variables; None for those of this process.
        timeout: Seconds after which it is killed.
        ranks: Processes of a fit, started as torchrun does; with 1 Lightning's launcher starts
            what others it needs, each as ``python cli.py``.

    Returns:
        With the status of the first rank that failed, and 0 where none did.

    Raises:
        subprocess.TimeoutExpired: It was.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder) / "out", Path(folder) / "err")
        with _started(arguments, environment, files, ranks) as processes:
            code = _status(processes, time.monotonic() + timeout)
        out, err = (file.read_text(errors="replace") for file in files)
    if code is None:
        raise subprocess.TimeoutExpired(list(arguments), timeout, out, err)
    return subprocess.CompletedProcess(list(arguments), code, out, err)


def killed_when(
    moment: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    ranks: int = 1,
) -> None:
    """Start a command and kill it, with what it started, as soon as a file is there.

    Args:
        moment: A pattern, in its last part.
        arguments: After ``cli.py``.
        environment: As of ``run``.
        ranks: As of ``run``.
    """
    nowhere = (Path(os.devnull), Path(os.devnull))
    with _started(arguments, environment, nowhere, ranks) as processes:
        while not list(moment.parent.glob(moment.name)):
            assert all(process.exitcode is None for process in processes)
            time.sleep(0.002)


@contextmanager
def _started(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None,
    files: tuple[Path, Path],
    ranks: int,
) -> Iterator[list[BaseProcess]]:
    """The ranks; what is left of them and of their groups at the end is killed."""
    _ensure_heavy()
    port = free_port()
    processes = []
    for rank in range(ranks):
        given = dict(os.environ if environment is None else environment)
        if ranks > 1:
            given |= of_torchrun(rank, ranks, port)
        processes.append(_forks.Process(target=_command, args=(list(arguments), given, files)))
        processes[-1].start()
    try:
        yield processes
    finally:
        for process in processes:
            while process.exitcode is None:  # it may not have a group of its own yet
                _kill(process.pid)
                process.join(0.01)
            _kill(process.pid)


def _status(processes: Sequence[BaseProcess], deadline: float) -> int | None:
    """Of a command; None where the deadline came first.

    A rank that failed leaves the others a little time, as torchrun does.
    """
    failed = None
    while time.monotonic() < deadline:
        codes = [process.exitcode for process in processes]
        if None not in codes:
            return next((code for code in (failed, *codes) if code), 0)
        if failed is None and any(codes):
            failed = next(code for code in codes if code)
            deadline = min(deadline, time.monotonic() + GRACE_S)
        wait([process.sentinel for process in processes if process.exitcode is None], 0.2)
    return failed


def _ensure_heavy() -> None:
    """Start what is forked from, the first time: it looks for ``heavy`` in its own path alone."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(CHECKOUT / "tests"), before)))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


def _kill(group: int | None) -> None:
    if group is not None:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


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


def _command(arguments: list[str], environment: dict[str, str], files: tuple[Path, Path]) -> None:
    """What the process does. Its status is the command's."""
    os.setsid()
    for number, file in enumerate(files, 1):
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(CHECKOUT)
    sys.path[:0] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.argv = [str(CHECKOUT / "cli.py"), *arguments]
    if "OMP_NUM_THREADS" in environment:
        importlib.import_module("torch").set_num_threads(int(environment["OMP_NUM_THREADS"]))
    try:
        code = importlib.import_module("cli").run(arguments)
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        sys.stderr.write(code + "\n")
        code = 1
    atexit._run_exitfuncs()  # a forked process leaves them out
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code or 0)
