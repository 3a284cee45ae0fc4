"""The outside of a fork server: starts it, holds the clock, reads what programs write."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from verify.sandbox.clock import MAX_WAIT, Clock
from verify.sandbox.pipes import Outputs, in_memory
from verify.sandbox.runs import Program, Ran, SandboxError

INSIDE = Path(__file__).parent / "inside"
SYSTEM = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/ld.so.cache",
    "/etc/alternatives",
    "/etc/localtime",
]
"""What every program may read besides the interpreter and the installed packages."""
BUILD = "promptcot-build"
BUILD_MB = 256
START_S = 60.0
"""Longest time that a server may take to start, or to fork."""
LONGEST_WAIT = MAX_WAIT + 1
"""Wall times after which a program has ended, whatever the machine does."""
SOON_S = 0.005
"""In which most programs end."""
MESSAGE_BYTES = 1 << 16
REQUEST = struct.Struct("=10sdQQQ")
ANSWER = struct.Struct("=xidd")
"""As in ``inside/server.py``."""


class ServerDied(Exception):
    """A fork server ended."""


class ForkServer:
    """One fork server, see ``inside/server.py``."""

    def __init__(self, kind: str, layers: Sequence[str], processors: Sequence[int] = ()) -> None:
        self._build = _build_folder() if kind == "compile" and "root" not in layers else None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packages = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
        config = {
            "socket": theirs.fileno(),
            "kind": kind,
            "layers": list(layers),
            "processors": list(processors),
            "readable": [*SYSTEM, sys.base_prefix, *packages, str(INSIDE)],
            "folders": list(dict.fromkeys(packages)),
            "build": str(self._build or "/build"),
            "build_mb": BUILD_MB,
        }
        self.process = subprocess.Popen(
            [
                os.path.realpath(sys.executable),
                "-sSP",
                str(INSIDE / "server.py"),
                json.dumps(config),
            ],
            stdin=subprocess.DEVNULL,
            # pipes, as programs will have: they inherit Python's streams, made for these files
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            cwd="/",
            env={
                "HOME": "/",
                "PATH": "/usr/bin:/bin",
                "PYTHONHASHSEED": "0",  # a program's order of a set must not change
                "PYTHONUTF8": "1",
                # what it compiles itself leaves memory behind that each fork would copy
                "PYTHONDONTWRITEBYTECODE": "1" if sys.dont_write_bytecode else "",
                "PYTHONINTMAXSTRDIGITS": "0",
                "MALLOC_ARENA_MAX": "2",
                "LD_BIND_NOW": "1",  # else each fork looks functions up anew
                "OPENBLAS_NUM_THREADS": "1",
            },
            start_new_session=True,
        )
        theirs.close()
        self._socket.settimeout(START_S)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._answer = b""
        """How the running program ended, where that came instead of a handle."""
        try:
            self.layers: dict[str, str] = json.loads(self._hear())["layers"]
        except ServerDied:
            assert self.process.stdout is not None
            said = self.process.stdout.read(4000).decode(errors="replace").strip()
            self.close()
            raise SandboxError(f"the fork server did not start: {said[-300:]}") from None

    def close(self) -> None:
        """End it and all that runs in it."""
        self._socket.close()
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        if self._build is not None:
            shutil.rmtree(self._build, ignore_errors=True)
            self._build = None

    def _hear(self) -> bytes:
        try:
            data = self._socket.recv(MESSAGE_BYTES)
        except TimeoutError:
            raise ServerDied from None
        if not data:
            raise ServerDied
        return data

    def run(self, program: Program, binary: int | None) -> Ran:
        """Run a program; see ``Sandbox.run``."""
        outputs = Outputs(program.limits.output_kb * 1024, program.report_bytes)
        made = [in_memory(program.stdin)]
        try:
            given = [made[0], *outputs.theirs[:2]]
            if binary is not None:
                given.append(binary)
            elif isinstance(program.task, int):
                given += [outputs.theirs[2], program.task]
            else:
                for data in (program.task, *program.files):
                    made.append(in_memory(data))
                given += [outputs.theirs[2], *made[1:]]
            try:
                socket.send_fds(self._socket, [_request(program)], given)
            except OSError:
                raise ServerDied from None
            outputs.close_theirs()
            clock = Clock(program.limits)
            ended = self._wait(clock) or self._watch(outputs, clock)
            return self._ran(outputs, ended, clock.passed)
        finally:
            outputs.close()
            for file in made:
                os.close(file)

    def _wait(self, clock: Clock) -> str:
        """Wait for a program to end soon by itself, as most do; "itself", or "" if it has not.

        What it writes is read then at its end, in the place of being woken up for each part.
        """
        seconds = min(SOON_S, clock.next_look - clock.started)
        if not self._poll.poll(seconds * 1000):
            return ""
        self._answer = self._hear()
        return "itself"

    def _watch(self, outputs: Outputs, clock: Clock) -> str:
        """Read what it writes until it ends, or end it; why it ended."""
        poll = select.poll()
        for file in (self._socket.fileno(), *outputs.ours):
            poll.register(file, select.POLLIN)
        ended = ""
        while not self._answer:
            left = START_S if ended else max(0.0, clock.next_look - time.monotonic())
            ready = [file for file, _ in poll.poll(left * 1000 + 1)]
            if self._socket.fileno() in ready:
                self._answer = self._hear()
            for file in outputs.read_all(ready):
                poll.unregister(file)
            if ended and not ready:
                raise ServerDied
            if not ended and not self._answer:
                ended = self._end_if_over(outputs, clock)
        return ended or "itself"

    def _ran(self, outputs: Outputs, ended: str, passed: float) -> Ran:
        """How the program ended, after the rest of what it wrote."""
        answer, self._answer = self._answer, b""
        if answer[0]:
            raise SandboxError(answer.decode())
        status, cpu_s, peak_mb = ANSWER.unpack(answer)
        outputs.drain()
        if ended == "itself" and outputs.is_too_much:
            ended = "output"
        stdout, stderr, report = (bytes(kept) for kept in outputs.kept.values())
        return Ran(
            status=status,
            ended=ended,
            stdout=stdout,
            stderr=stderr,
            report=report,
            cpu_s=cpu_s,
            wall_s=passed,
            peak_mb=peak_mb,
        )

    def _end_if_over(self, outputs: Outputs, clock: Clock) -> str:
        """Kill the running program if it has used up its output or its time; why, or ""."""
        ended = ""
        if outputs.is_too_much:
            ended = "output"
        elif clock.is_due():
            ended = self._ask(clock.look)
        if ended:
            self._ask(_kill)
        return ended

    def _ask(self, act: Callable[[int], str]) -> str:
        """What ``act`` says of the running program's handle; "" where it has ended meanwhile."""
        if self._answer:
            return ""
        try:
            self._socket.send(b"handle")
            data, handles, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES, 1)
        except OSError:
            raise ServerDied from None
        if not data:
            raise ServerDied
        if not handles:  # it has just ended, and the server leaves our question unanswered
            self._answer = data
            return ""
        try:
            return act(handles[0])
        finally:
            os.close(handles[0])


def _request(program: Program) -> bytes:
    """What the server is told of a program."""
    limits = program.limits
    kind = "function" if program.style == "function" else program.kind
    said = REQUEST.pack(kind.encode(), limits.cpu_s, limits.mem_mb, limits.fsize_kb, limits.nproc)
    if kind == "compile":
        said += json.dumps({"argv": program.argv, "output": program.output}).encode()
    return said


def _build_folder() -> Path:
    """A new folder for a compiler on the disk, named by our process; those of dead ones go."""
    place = Path(tempfile.gettempdir())
    for old in place.glob(f"{BUILD}-*-*"):
        if not Path(f"/proc/{old.name.split('-')[-2]}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{BUILD}-{os.getpid()}-"))


def _kill(handle: int) -> str:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    return ""
