"""The fork server: a small process that runs each program in a fork of itself.

``python server.py CONFIG`` confines itself for good, says which layers are active, and then serves
requests from its socket. Of a program it knows only the limits and the open files to connect:
sources, inputs and outputs never pass through its memory, so that no program can find another's
there. Its parent holds the clock, and kills.

CONFIG is JSON: {"socket", "kind": "run", "function" or "compile", "layers", "processors",
"readable", "folders", "build", "build_mb"}; what is said first is JSON too. A request is a
``REQUEST`` with open files:

- "python", "function" (Python in that style, by a server of that kind) or "binary": stdin, stdout,
  stderr, the report, the task, and files that a checker reads;
- "compile", followed by JSON, {"argv", "output"}: stdin, stdout, stderr, what takes the output.

The answer is an ``ANSWER``, or where none could be started the reason, as text. The message
``handle`` before it is answered by itself and a pidfd, with which the parent can kill; after it, by
nothing.
"""

from __future__ import annotations

import _sitebuiltins
import _socket  # socket itself is half a megabyte more for each fork to copy
import builtins
import contextlib
import gc
import json
import os
import resource
import select
import struct
import sys
from functools import lru_cache

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import program
from confinement import Confinement
from limiting import MB
from rehearsing import rehearse
from starting import REQUEST, Starter, Steps

WARM = "bisect collections copy functools heapq io itertools json math operator re sys time typing"
"""Modules that programs are likely to import, imported once; what is rare costs the others more
than it saves: each fork pays for all memory of the server."""
MAX_MESSAGE = 1 << 16
MAX_FILES = 8
ASK = b"handle"
"""The parent's question for a handle on the program that runs."""
ANSWER = struct.Struct("=xidd")
"""After a zero, which no text begins with: status, cpu_s, peak_mb."""


def main() -> None:
    """Confine this process, then serve until the socket closes."""
    config = json.loads(sys.argv[1])
    own_mb = _prepare(config["folders"])
    names = program.library_names() if config["kind"] == "function" else {}
    control = os.dup(config["socket"])  # a low number, of those that programs close
    os.close(config["socket"])
    confinement = Confinement(config)
    confinement.apply()
    if not confinement.is_compiler:
        rehearse(config["kind"] == "function", names)
    gc.collect()
    starter = Starter(config, confinement, names, own_mb)
    server = Server(_socket.socket(fileno=control), confinement, starter)
    server.socket.send(json.dumps({"layers": confinement.layers}).encode())
    while server.serve():
        pass


def _prepare(folders: list[str]) -> int:
    """Set up what every program finds; the address space that is taken by then, in MB.

    It is done here, once: every page that a fork writes to costs it 3 microseconds.
    """
    for name in WARM.split():
        __import__(name)
    sys.path[:] = [*sys.path[1:], *folders]
    sys.argv = ["solution.py"]
    sys.dont_write_bytecode = True
    sys.setrecursionlimit(sys.getrecursionlimit() + program.FRAMES)
    for name in [name for name in os.environ if name.startswith(("PYTHON", "LD_"))]:
        del os.environ[name]
    for name in ("exit", "quit"):  # which a start without site-packages leaves out
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))
    for name in ("copyright", "credits", "license"):
        setattr(builtins, name, _sitebuiltins._Printer(name, ""))
    builtins.help = _sitebuiltins._Helper()
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    own: int = pages * resource.getpagesize() // MB
    return own


class Server:
    """Serves requests in a confined process.

    Args:
        control: The socket to the parent.
        confinement: What has been applied.
        starter: Knows how a program starts.
    """

    def __init__(self, control: _socket.socket, confinement: Confinement, starter: Starter) -> None:
        self.socket = control
        self.has_namespaces = confinement.has_namespaces
        self.can_start_processes = confinement.can_start_processes
        self.folder = starter.folder
        self.steps = lru_cache(starter.steps)
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)

    def serve(self) -> bool:
        """Serve one request; False when there are no more."""
        request, told, _, _ = self.socket.recvmsg(MAX_MESSAGE, _socket.CMSG_SPACE(4 * MAX_FILES))
        if not request:
            return False
        if request != ASK:  # about a program that had just ended
            files = memoryview(told[0][2]).cast("i").tolist()
            try:
                self.socket.send(self._run(request, files))
            finally:
                self._close(files)
        return True

    def _run(self, request: bytes, files: list[int]) -> bytes:
        """Run a program to its end; the answer."""
        order = request[REQUEST.size :]
        if order:
            self._empty_build()
        try:
            child = self._start(self.steps(request, tuple(files)))
        except OSError as error:
            return f"fork: {error.strerror}".encode()
        self._await(child)
        _, status, usage = os.wait4(child, 0)
        if self.can_start_processes:
            self._end_leftovers(child)
        if order and status == 0:
            self._hand_over(json.loads(order)["output"], files[3])
        used = usage.ru_utime + usage.ru_stime
        return ANSWER.pack(os.waitstatus_to_exitcode(status), used, usage.ru_maxrss / 1024)

    @staticmethod
    def _start(steps: Steps) -> int:
        """Fork a process that takes these steps; its number."""
        gc.freeze()  # else a collection in the fork writes to all that has been made since
        child = os.fork()
        if child:
            return child
        try:
            for act, given in steps:
                act(*given)
        except BaseException as error:  # must not go on as a second server; it is reported
            os.write(program.REPORT, f"X{error!r}".encode())
        os._exit(1)

    def _await(self, child: int) -> None:
        """Wait for the end of a program; hand out a handle on it when the parent asks for one."""
        handle = os.pidfd_open(child)
        self.poll.register(handle, select.POLLIN)
        while all(file != handle for file, _ in self.poll.poll()):
            if not self.socket.recv(MAX_MESSAGE):
                os.kill(child, 9)
                sys.exit(0)
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", handle))
            self.socket.sendmsg([ASK], [rights])
        self.poll.unregister(handle)
        os.close(handle)

    def _end_leftovers(self, child: int) -> None:
        """Kill whatever a program left running."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1 if self.has_namespaces else -child, 9)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _empty_build(self) -> None:
        """A new folder for a compiler, in the place of the last one's; it holds files alone."""
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.folder):
                os.unlink(f"{self.folder}/{name}")
            os.rmdir(self.folder)
        os.mkdir(self.folder)

    def _hand_over(self, name: str, target: int) -> None:
        """Copy what the compiler wrote to the parent's file."""
        source = os.open(f"{self.folder}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        while os.sendfile(target, source, None, 1 << 24):
            pass
        os.close(source)

    @staticmethod
    def _close(files: list[int]) -> None:
        for file in files:
            os.close(file)


if __name__ == "__main__":
    main()
