"""A process that owns vLLM, seen from the one that asks it.

It writes to a log of its own and does not outlive this process, however this one ends.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from promptcot.engines.child_environment import child_environment
from promptcot.engines.vllm_calls import Ask, Config, Done, Result, Take

Message = Result | Ask | Done | Exception

CLOSE_S = 10.0
"""Seconds that vLLM gets to shut down by itself."""
LOG_LINES = 80
_RUN = "from promptcot.engines.vllm_worker import main; main()"


class VLLMProcess:
    """A process with one vLLM engine. Made at once; ``answers`` tells when it has loaded the model.

    Args:
        config: What the engine is opened with.
        alone: Whether that process does all the work itself, as it can on a single GPU.
        devices: Numbers of the GPUs to use, of those that this process sees; None for all.
        place: Which one it is of several, as errors name it.
    """

    def __init__(
        self,
        config: Config,
        *,
        alone: bool,
        devices: Sequence[int] | None = None,
        place: str = "",
    ) -> None:
        self.weights = config.weights
        """What it computes with, as errors name it; whoever reloads it says so here."""
        self._place = place
        self._lock = threading.Lock()
        environment = child_environment(alone=alone, devices=devices)
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        self._log = Path(self._folder.name) / "log"
        self._connection, theirs = multiprocessing.Pipe()
        # The kernel would kill that process alone, and only its own thread ends what it started.
        at_once = alone and threading.current_thread() is threading.main_thread()
        arguments = (theirs.fileno(), os.getpid(), int(at_once))
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _RUN, *map(str, arguments)],
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._group: int | None = self._process.pid
        self.send(config)

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def is_open(self) -> bool:
        """False once it was ended, or was found dead."""
        return self._group is not None

    def send(self, message: object) -> None:
        """Any thread may; to one that is dead nothing is sent, as ``answers`` will tell."""
        with self._lock, suppress(OSError):
            self._connection.send(message)

    def answers(self, give: Callable[[int], tuple[int, ...]]) -> Iterator[Result]:
        """What it answers, as it comes, until it is ready for the next call; to be read to its end.

        Args:
            give: Gives out the numbers of at most so many requests to begin.

        Raises:
            RuntimeError: It died; the message ends with its log. Or as the call says.
        """
        while not isinstance(message := self._receive(), Done):
            if isinstance(message, Exception):
                raise message
            if isinstance(message, Ask):
                self.send(Take(give(message.room)))
            else:
                yield message

    def kill(self) -> None:
        """End it and all that it started, at once; its log stays until ``end``."""
        group, self._group = self._group, None
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            self._process.wait()

    def end(self, patience_s: float) -> None:
        """Wait until it is gone and its memory is free; it is killed when that takes too long."""
        if self.is_open:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(patience_s)
            self.kill()
        self._folder.cleanup()

    def _receive(self) -> Message:
        try:
            while not self._connection.poll(1.0):
                # Gone, though something that it started holds the pipe open; its last words count.
                if self._process.poll() is not None and not self._connection.poll():
                    raise self._death()
            message: Message = self._connection.recv()
        except (EOFError, OSError):
            raise self._death() from None
        return message

    def _death(self) -> RuntimeError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self.kill()
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
        code = self._process.returncode
        killed = " (killed; by the kernel, if memory ran out)" if code == -signal.SIGKILL else ""
        return RuntimeError(
            f"the vLLM engine on {self.weights}{self._place} died with exit code {code}{killed}. "
            f"The end of its log:\n" + "\n".join(lines[-LOG_LINES:])
        )
