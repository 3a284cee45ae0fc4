"""The outside of the sandbox: it starts fork servers, holds the clock, reads what programs write.

A ``Sandbox`` runs one program at a time. Nothing that a program writes is executed, evaluated or
unpickled here, and nothing that it should not see is sent to its server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify.sandbox.limits import Limits

LAYERS = ("namespaces", "root", "landlock", "seccomp")
"""Layers besides the limits; all that the machine has are active unless fewer are asked for."""
INSIDE = Path(__file__).parent / "inside"
SYSTEM = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"]
"""What every program may read besides the interpreter and the installed packages."""
BUILD = "promptcot-build"
BUILD_MB = 256
START_S = 60.0
"""Longest time that a server may take to start, or to fork."""
MAX_WAIT = 20.0
"""Wall times that a program may wait for a processor before the machine is called overloaded."""
MAX_STARTS = 3
"""Servers that may die at one program before that is our own fault."""
STDERR_BYTES = 1 << 16
_CHUNK = 1 << 16
_SEALS = 0x1 | 0x2 | 0x4 | 0x8


class SandboxError(RuntimeError):
    """The sandbox failed, not the program."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program to run once.

    Args:
        kind: "python", "binary" (``task`` is the executable) or "compile" (``argv`` is run).
        task: What is run: for Python the JSON that ``inside/program.py`` reads.
        stdin: Standard input.
        limits: What it may use up.
        style: "stdin" or "function".
        argv: A compiler and its arguments, which write ``output``.
        output: Name of the file that a compiler writes.
        files: Contents of files that a Python program finds by its arguments.
    """

    kind: str
    task: bytes | int
    stdin: bytes
    limits: Limits
    style: str = "stdin"
    argv: tuple[str, ...] = ()
    output: str = ""
    files: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended.

    ``status`` is its exit status, or minus the signal that killed it; ``ended`` is "itself",
    "wall" (it was killed when its time had passed), "output" (when it had written too much) or
    "overload" (when the machine had not let it run).
    """

    status: int
    ended: str
    stdout: bytes
    stderr: bytes
    report: bytes
    cpu_s: float
    wall_s: float
    peak_mb: float


class Sandbox:
    """Runs programs, one at a time, in every layer of isolation that the machine has.

    Args:
        layers: Layers to use where they can be had; the others are left out (for tests).
        allow_unsafe: Run programs although neither system calls nor namespaces confine them.

    Raises:
        SandboxError: Neither seccomp nor namespaces can be had, or the server does not start.
    """

    def __init__(self, layers: Sequence[str] = LAYERS, allow_unsafe: bool = False) -> None:
        self.layers_wanted = tuple(layers)
        self.allow_unsafe = allow_unsafe
        self._servers: dict[str, _Server] = {}
        self.layers: Mapping[str, str] = {}
        self.layers = self._server("run").layers

    def run(self, program: Program, binary: int | None = None) -> Ran:
        """Run a program to its end.

        Args:
            program: What to run.
            binary: Open file that takes what a compiler wrote.

        Raises:
            SandboxError: The server died of it several times, or cannot fork.
        """
        for _ in range(MAX_STARTS):
            try:
                return self._server("compile" if binary is not None else "run").run(program, binary)
            except _ServerDied:
                self.close()
        raise SandboxError("the fork server died of it: is the machine out of memory?")

    def close(self) -> None:
        """End the servers and all that runs in them. Safe to call twice."""
        while self._servers:
            self._servers.popitem()[1].close()

    def _server(self, kind: str) -> _Server:
        if kind not in self._servers:
            wanted = [
                layer for layer in self.layers_wanted if is_active(self.layers.get(layer, ""))
            ]
            self._servers[kind] = _Server(kind, wanted)
            active = self._servers[kind].layers
            if not self.allow_unsafe and not any(is_active(active[n]) for n in LAYERS[::3]):
                self.close()
                raise SandboxError(
                    f"no program is run: neither namespaces ({active['namespaces']}) nor seccomp "
                    f"({active['seccomp']}) can confine it; --allow_unsafe true runs it all the "
                    "same, with your rights"
                )
        return self._servers[kind]


def is_active(layer: str) -> bool:
    """Whether the description of a layer says that it is in force."""
    return not layer.startswith("missing")


class _ServerDied(Exception):
    """A fork server ended."""


class _Server:
    """One fork server, see ``inside/server.py``."""

    def __init__(self, kind: str, layers: Sequence[str]) -> None:
        self._build = _build_folder() if kind == "compile" and "root" not in layers else None
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        packages = [sysconfig.get_path(name) for name in ("purelib", "platlib")]
        config = {
            "socket": theirs.fileno(),
            "kind": kind,
            "layers": list(layers),
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
                "PYTHONDONTWRITEBYTECODE": "1",
                "PYTHONINTMAXSTRDIGITS": "0",
                "MALLOC_ARENA_MAX": "2",
                "OPENBLAS_NUM_THREADS": "1",
            },
            start_new_session=True,
        )
        theirs.close()
        self._socket.settimeout(START_S)
        self._answer: dict[str, Any] = {}
        """How the running program ended, where that came instead of a handle."""
        try:
            self.layers: dict[str, str] = self._hear()["layers"]
        except _ServerDied:
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

    def _hear(self) -> dict[str, Any]:
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise _ServerDied from None
        if not data:
            raise _ServerDied
        message: dict[str, Any] = json.loads(data)
        if "failed" in message:
            raise SandboxError(message["failed"])
        return message

    def run(self, program: Program, binary: int | None) -> Ran:
        """Run a program; see ``Sandbox.run``."""
        with contextlib.ExitStack() as files:
            outputs = _Outputs(program.limits.output_kb * 1024)
            files.callback(outputs.close)
            given = [files.enter_context(_in_memory(program.stdin)), *outputs.theirs[:2]]
            if binary is not None:
                given.append(binary)
            elif isinstance(program.task, int):
                given += [outputs.theirs[2], program.task]
            else:
                task = files.enter_context(_in_memory(program.task))
                given += [outputs.theirs[2], task]
                given += [files.enter_context(_in_memory(data)) for data in program.files]
            request = {
                "kind": program.kind,
                "style": program.style,
                "limits": program.limits.to_row(),
                "argv": program.argv,
                "output": program.output,
            }
            try:
                socket.send_fds(self._socket, [json.dumps(request).encode()], given)
            except OSError:
                raise _ServerDied from None
            outputs.close_theirs()
            return self._watch(outputs, program.limits.wall_s)

    def _watch(self, outputs: _Outputs, wall_s: float) -> Ran:
        """Read what it writes until it ends, or end it."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        for file in outputs.ours:
            poll.register(file, select.POLLIN)
        started = time.monotonic()
        deadline = started + wall_s
        ended = "itself"
        while not self._answer:
            left = max(0.0, deadline - time.monotonic()) if ended == "itself" else START_S
            ready = poll.poll(left * 1000 + 1)
            for file, _ in ready:
                if file == self._socket.fileno():
                    self._answer = self._hear()
                elif not outputs.read(file):
                    poll.unregister(file)
            if ended != "itself":
                if not ready:
                    raise _ServerDied
            elif not self._answer:
                ended, deadline = self._limit(outputs, started, wall_s, deadline)
        passed = time.monotonic() - started
        answer, self._answer = self._answer, {}
        for file in outputs.ours:
            while outputs.read(file):
                pass
        if ended == "itself" and outputs.is_too_much:
            ended = "output"
        stdout, stderr, report = (bytes(kept) for kept in outputs.kept.values())
        return Ran(
            status=answer["status"],
            ended=ended,
            stdout=stdout,
            stderr=stderr,
            report=report,
            cpu_s=answer["cpu_s"],
            wall_s=passed,
            peak_mb=answer["peak_mb"],
        )

    def _limit(
        self, outputs: _Outputs, started: float, wall_s: float, deadline: float
    ) -> tuple[str, float]:
        """End the running program if it has used up its output or its time.

        Time in which it waited for a processor does not count.

        Returns:
            How it was ended, or "itself", and its deadline.
        """
        ended = "itself"
        if outputs.is_too_much:
            ended = "output"
        elif time.monotonic() >= deadline:
            waited = self._act(_waited)
            deadline = started + wall_s + waited
            if waited > MAX_WAIT * wall_s:
                ended = "overload"
            elif time.monotonic() >= deadline:
                ended = "wall"
        if ended != "itself" and not self._answer:
            self._act(_kill)
        return ("itself" if self._answer and ended != "output" else ended), deadline

    def _act(self, act: Callable[[int], float]) -> float:
        """What ``act`` says of the running program's handle; 0 where it has ended meanwhile."""
        try:
            self._socket.send(b"handle")
            data, handles, _, _ = socket.recv_fds(self._socket, 1 << 16, 1)
        except OSError:
            raise _ServerDied from None
        if not data:
            raise _ServerDied
        if not handles:  # it has just ended, and the server leaves our question unanswered
            self._answer = json.loads(data)
            return 0.0
        try:
            return act(handles[0])
        finally:
            os.close(handles[0])


class _Outputs:
    """Pipes for standard output, standard error and the report, each kept up to a limit."""

    def __init__(self, limit: int) -> None:
        pairs = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        self.ours = [ours for ours, _ in pairs]
        self.theirs = [theirs for _, theirs in pairs]
        self.kept = {file: bytearray() for file in self.ours}
        self.limits = dict(zip(self.ours, (limit, STDERR_BYTES, limit), strict=True))
        self.is_too_much = False
        for file in self.ours:
            os.set_blocking(file, False)

    def read(self, file: int) -> bool:
        """Read some; False when there is nothing more, or nothing more now."""
        try:
            data = os.read(file, _CHUNK)
        except BlockingIOError:
            return False
        room = self.limits[file] - len(self.kept[file])
        self.kept[file] += data[:room]
        if len(data) > room and file != self.ours[1]:
            self.is_too_much = True
            return False
        return bool(data)

    def close_theirs(self) -> None:
        """Close the ends that the program has now."""
        while self.theirs:
            os.close(self.theirs.pop())

    def close(self) -> None:
        """Close all."""
        self.close_theirs()
        while self.ours:
            os.close(self.ours.pop())


@contextlib.contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """A file that holds data, which nobody can change."""
    file = os.memfd_create("input", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        os.lseek(file, 0, os.SEEK_SET)
        fcntl.fcntl(file, 1033, _SEALS)  # F_ADD_SEALS
        yield file
    finally:
        os.close(file)


def _build_folder() -> Path:
    """A new folder for a compiler on the disk, named by our process; those of dead ones go."""
    place = Path(tempfile.gettempdir())
    for old in place.glob(f"{BUILD}-*-*"):
        if not Path(f"/proc/{old.name.split('-')[-2]}").exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{BUILD}-{os.getpid()}-"))


def _kill(handle: int) -> float:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    return 0.0


def _waited(handle: int) -> float:
    """Seconds that the process of a handle has waited for a processor; 0 where unknown."""
    try:
        text = Path(f"/proc/self/fdinfo/{handle}").read_text()
        pid = next(line.split()[1] for line in text.splitlines() if line.startswith("Pid:"))
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, StopIteration, ValueError, IndexError):
        return 0.0
