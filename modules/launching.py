"""The ranks of a fit end together, also where what they wait in does not notice that one is gone.

A collective on GPUs waits half an hour for a rank that was killed, and the group of those that wait
for a round waits a day, each with its GPU's memory held.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
from collections.abc import Callable
from signal import SIGKILL
from subprocess import Popen
from typing import Any

import torch.distributed as dist
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ParallelStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from promptcot.children import PARENT

POLL_S = 0.2
GRACE_S = 5.0
"""How long a rank may take to end by itself, once another has."""
CURE = "give the same command again: a fit goes on from what it saved last"


def end_together(trainer: Trainer) -> None:
    """Let the ranks that Lightning starts for this trainer, on this machine, end with each other.

    Those that something else started, as torchrun does, are that one's to end.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, ParallelStrategy) or strategy.cluster_environment is None:
        return
    # without one, some strategies go where something else started their ranks
    if strategy.launcher is None or isinstance(strategy.launcher, _SubprocessScriptLauncher):
        processes = len(strategy.parallel_devices or [])
        strategy._launcher = Launcher(strategy.cluster_environment, processes, trainer.num_nodes)


class Launcher(_SubprocessScriptLauncher):
    """Lightning's, whose ranks do not outlive rank 0, which tells what became of them.

    Lightning's own leaves them behind when rank 0 is killed; and when another is, it kills rank 0
    without a word, also one that was about to tell of an error of all.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **kwargs)
        self._failed = threading.Event()

    def launch(
        self,
        function: Callable[..., Any],
        *args: Any,  # noqa: ANN401
        trainer: Trainer | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Start the other ranks and do this one's part.

        Raises:
            ChildProcessError: This one failed for want of another.
        """
        self.cluster_environment.validate_settings(self.num_processes, self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            os.environ[PARENT] = str(os.getpid())  # cli.py has the kernel see to it
            self._call_children_scripts()
            threading.Thread(target=self._watch, name="ranks", daemon=True).start()
            # They may not be done when this process ends, with which they end. This comes after the
            # end of NCCL, for which the ranks meet and which Lightning registers later.
            atexit.register(self._wait)
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            self._failed.set()
            if not isinstance(error, Exception):  # an interruption reaches them all
                raise
            lost = self._end() or "another rank is gone, for which this one waited"
            if isinstance(error, dist.DistError) or "gloo" in str(error):  # tells no more than that
                raise ChildProcessError(f"{lost}; {CURE}") from error
            raise

    def _wait(self) -> None:
        for child in self.procs:
            child.wait()

    def _watch(self) -> None:
        """End this process when another rank failed and this one does not get to know."""
        while any(child.poll() is None for child in self.procs):
            if any(child.returncode for child in self.procs):
                break
            time.sleep(POLL_S)
        lost = self._lost()
        if lost is None or self._failed.wait(GRACE_S):
            return
        sys.stderr.write(f"\nerror: {lost}; {CURE}\n")  # after a progress bar
        sys.stderr.flush()
        os._exit(1)  # the rest of this process may be in a collective, which nothing else ends

    def _end(self) -> str | None:
        """Let the other ranks end by themselves, then kill those that are left; who had failed."""
        deadline = time.monotonic() + GRACE_S
        while any(child.poll() is None for child in self.procs) and time.monotonic() < deadline:
            time.sleep(POLL_S)
        lost = self._lost()
        for child in self.procs:
            child.kill()
        return lost

    def _lost(self) -> str | None:
        """The rank that failed, in words; the one that was killed rather than those it upset."""
        failed = [(rank, child) for rank, child in enumerate(self.procs, 1) if child.returncode]
        if not failed:
            return None
        rank, child = min(failed, key=lambda each: each[1].returncode > 0)
        return f"rank {rank} {_how(child)}"


def _how(child: Popen[Any]) -> str:
    if child.returncode > 0:
        return f"ended with status {child.returncode}, and what it said is above"
    full = ", as the kernel does where memory is full" if child.returncode == -SIGKILL else ""
    return f"(process {child.pid}) was killed by signal {-child.returncode}{full}"
