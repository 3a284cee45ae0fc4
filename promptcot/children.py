"""Child processes that do a run's steps, hold its lock, and never outlive it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

PARENT = "PROMPTCOT_PARENT"
"""Environment variable of a child: the process id that it must not outlive."""
_PR_SET_PDEATHSIG = 1


class ToldByRank0(RuntimeError):
    """An error of every rank of a fit, on those that need not tell it once more."""


def run_child(command: Sequence[str], lock: int) -> None:
    """Run a command to its end; it inherits the terminal and the open file ``lock``.

    Raises:
        ChildProcessError: It failed; what went wrong it has said itself.
    """
    environment = {**os.environ, PARENT: str(os.getpid())}
    with subprocess.Popen(command, env=environment, pass_fds=(lock,)) as child:
        code = child.wait()
    if code:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        raise ChildProcessError(f"{' '.join(command[1:4])} {how}; what it said is above")


def die_with_parent() -> None:
    """Have the kernel kill this process with its parent, where a parent asked for it (Linux)."""
    parent = os.environ.get(PARENT)
    if parent is None:
        return
    # For the children of this one in turn: the ranks that a launcher starts.
    os.environ[PARENT] = str(os.getpid())
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it died before the kernel was told
        os.kill(os.getpid(), signal.SIGKILL)
