"""The process that owns vLLM, seen from the one that asks it.

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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue

from promptcot.engines.child_environment import child_environment
from promptcot.engines.vllm_calls import Call, Close, Config, Done, Result, Stop

Message = Result | Done | Exception | None
"""None: the pipe is closed, so the process is gone."""

CLOSE_S = 10.0
"""Seconds that vLLM gets to shut down by itself."""
LOG_LINES = 80
_RUN = "from promptcot.engines.vllm_worker import main; main()"


class VLLMProcess:
    """A process with one vLLM engine; one call at a time.

    Args:
        config: What the engine is opened with.
        alone: Whether that process does all the work itself, as it can on a single GPU.
        devices: Numbers of the GPUs to use, of those that this process sees; None for all.

    Raises:
        RuntimeError: vLLM could not start; the message ends with its log.
    """

    def __init__(
        self, config: Config, *, alone: bool, devices: Sequence[int] | None = None
    ) -> None:
        self.weights = config.weights
        """What it computes with, as errors name it; whoever reloads it says so here."""
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        self._log = Path(self._folder.name) / "log"
        self._connection, theirs = multiprocessing.Pipe()
        # The kernel would kill that process alone, and only its own thread ends what it started.
        at_once = alone and threading.current_thread() is threading.main_thread()
        arguments = (theirs.fileno(), os.getpid(), int(at_once))
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _RUN, *map(str, arguments)],
                env=child_environment(alone=alone, devices=devices),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._group: int | None = self._process.pid
        self._busy = False
        with ExitStack() as failed:
            failed.callback(self._folder.cleanup)
            failed.callback(self._kill)
            self._next(self._ask(config))
            failed.pop_all()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def call(self, call: Call) -> Iterator[Result]:
        """What it answers, as it comes. Leaving the iterator early ends the call.

        Raises:
            RuntimeError: It is closed, in the middle of another call, or died; or as the call says.
        """
        inbox = self._ask(call)
        try:
            while isinstance(message := self._next(inbox), Result):
                yield message
        except GeneratorExit:
            with suppress(OSError, RuntimeError):  # closed or dead: nothing is left to stop
                self._connection.send(Stop())
                while isinstance(self._next(inbox), Result):
                    pass
            raise

    def close(self) -> None:
        """End it and wait until its memory is free. Safe to call twice."""
        if self._group is not None:
            with suppress(OSError):
                self._connection.send(Close())
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_S)
            self._kill()
        self._folder.cleanup()

    def _ask(self, message: object) -> SimpleQueue[Message]:
        """Send the message; what comes back piles up in a queue, so vLLM never waits for us."""
        if self._group is None:
            raise RuntimeError(f"the vLLM engine on {self.weights} is closed: open a new one")
        if self._busy:
            raise RuntimeError(
                f"the vLLM engine on {self.weights} is in the middle of another call: "
                "finish or close that iterator first"
            )
        inbox: SimpleQueue[Message] = SimpleQueue()
        with suppress(OSError):  # dead: the reader will see it
            self._connection.send(message)
        threading.Thread(target=_read, args=(self._connection, inbox), daemon=True).start()
        self._busy = True
        return inbox

    def _next(self, inbox: SimpleQueue[Message]) -> Result | Done:
        message = self._wait(inbox)
        self._busy = isinstance(message, Result)
        if message is None:
            raise self._death()
        if isinstance(message, Exception):
            raise message
        return message

    def _wait(self, inbox: SimpleQueue[Message]) -> Message:
        while True:
            alive = self._process.poll() is None  # before the queue: its last words still count
            try:
                return inbox.get(timeout=1.0)
            except Empty:
                if not alive:
                    return None

    def _death(self) -> RuntimeError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self._kill()
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
        code = self._process.returncode
        killed = " (killed; by the kernel, if memory ran out)" if code == -signal.SIGKILL else ""
        return RuntimeError(
            f"the vLLM engine on {self.weights} died with exit code {code}{killed}. "
            f"The end of its log:\n" + "\n".join(lines[-LOG_LINES:])
        )

    def _kill(self) -> None:
        """End it and all that it started, at once; its log stays until ``close``."""
        group, self._group = self._group, None
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            self._process.wait()


def _read(connection: Connection, inbox: SimpleQueue[Message]) -> None:
    message: Message = Result(-1, [])
    try:
        with suppress(EOFError, OSError):
            while isinstance(message, Result):
                message = connection.recv()
                inbox.put(message)
    finally:
        inbox.put(None)
