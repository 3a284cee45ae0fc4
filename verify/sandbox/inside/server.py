"""The fork server: a small process that runs each program in a fork of itself.

``python server.py CONFIG`` confines itself for good, says which layers are active, and then serves
requests from its socket. Of a program it knows only the limits and the open files to connect:
sources, inputs and outputs never pass through its memory, so that no program can find another's
there. Its parent holds the clock, and kills.

CONFIG is JSON: {"socket", "kind": "run" or "compile", "layers", "readable", "folders", "build",
"build_mb"}. A request is JSON with open files:

- {"kind": "python" or "binary", "style", "limits"}: stdin, stdout, stderr, the report, the task,
  and files that a checker reads;
- {"kind": "compile", "limits", "argv", "output"}: stdin, stdout, stderr, what takes the output.

The answer is {"status", "cpu_s", "peak_mb"}. The message ``handle`` before it is answered by a
pidfd, with which the parent can kill; after it, by nothing.
"""

from __future__ import annotations

import _sitebuiltins
import builtins
import contextlib
import gc
import json
import os
import resource
import select
import socket
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import namespaces
import program
from confinement import Confinement
from limiting import MB, set_limits

WARM = (
    "bisect cmath collections contextlib copy datetime functools heapq io itertools json math "
    "operator random re string sys time typing"
)
"""Modules that programs are likely to import, imported once."""
MAX_MESSAGE = 1 << 16
MAX_FILES = 8
ASK = b"handle"
"""The parent's question for a handle on the program that runs."""
LIBRARY_MB = 16
"""Address space of a compiled program before it has done anything."""


def main() -> None:
    """Confine this process, then serve until the socket closes."""
    config = json.loads(sys.argv[1])
    own_mb = _prepare(config["folders"])
    names = program.library_names()
    control = os.dup(config["socket"])  # a low number, of those that programs close
    os.close(config["socket"])
    confinement = Confinement(config)
    confinement.apply()
    gc.collect()
    gc.freeze()
    server = Server(config, socket.socket(fileno=control), confinement, names, own_mb)
    server.say({"layers": confinement.layers})
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
    sys.setrecursionlimit(sys.getrecursionlimit() + program.FRAMES)
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
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
        config: See the module's text.
        control: The socket to the parent.
        confinement: What has been applied.
        names: What programs in function style need not import.
        own_mb: Address space of this process.
    """

    def __init__(
        self,
        config: dict[str, Any],
        control: socket.socket,
        confinement: Confinement,
        names: dict[str, Any],
        own_mb: int,
    ) -> None:
        self.folder = f"{config['build']}/1"
        """Where a compiler works."""
        self.socket = control
        self.confinement = confinement
        self.names = names
        self.own_mb = own_mb

    def say(self, message: dict[str, Any], *files: int) -> None:
        """Send a message to the parent."""
        socket.send_fds(self.socket, [json.dumps(message).encode()], files)

    def serve(self) -> bool:
        """Serve one request; False when there are no more."""
        data, files, _, _ = socket.recv_fds(self.socket, MAX_MESSAGE, MAX_FILES)
        if not data:
            return False
        if data == ASK:  # about a program that had just ended
            return True
        request = json.loads(data)
        if request["kind"] == "compile":
            self._empty_build()
        try:
            child = os.fork()
        except OSError as error:
            self._close(files)
            self.say({"failed": f"fork: {error.strerror}"})
            return True
        if not child:
            try:
                self._become(request, files)
            except BaseException as error:  # must not go on as a second server; it is reported
                os.write(program.REPORT, f"X{error!r}".encode())
            os._exit(1)
        self._await(child)
        _, status, usage = os.wait4(child, 0)
        self._end_leftovers(child)
        if request["kind"] == "compile" and status == 0:
            self._hand_over(request["output"], files[3])
        self._close(files)
        self.say(
            {
                "status": os.waitstatus_to_exitcode(status),
                "cpu_s": usage.ru_utime + usage.ru_stime,
                "peak_mb": usage.ru_maxrss / 1024,
            }
        )
        return True

    def _await(self, child: int) -> None:
        """Wait for the end of a program; hand out a handle on it when the parent asks for one."""
        handle = os.pidfd_open(child)
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.register(self.socket, select.POLLIN)
        while all(file != handle for file, _ in poll.poll()):
            if not self.socket.recv(MAX_MESSAGE):
                os.kill(child, 9)
                sys.exit(0)
            self.say({"handle": True}, handle)
        os.close(handle)

    def _become(self, request: dict[str, Any], files: list[int]) -> None:
        """Turn this fork into the program."""
        os.setsid()
        namespaces.die_with_parent()
        kind = request["kind"]
        # received in ascending order, all above 2: no copy lands on one that is still to be copied
        for place, file in enumerate(files if kind != "compile" else files[:3]):
            os.dup2(file, place, inheritable=True)
        os.closerange(len(files) if kind != "compile" else 3, 64)
        besides_mb = self.own_mb if kind == "python" else LIBRARY_MB
        set_limits(request["limits"], besides_mb, self.confinement.has_namespaces)
        if kind == "compile":
            os.chdir(self.folder)
        if self.confinement.filters:
            self.confinement.filters[kind].install()
        if kind == "python":
            sys.argv += [f"/proc/self/fd/{file}" for file in range(5, len(files))]
            program.run_program(request["style"] == "function", self.names)
        elif kind == "binary":
            os.set_inheritable(program.REPORT, False)
            os.set_inheritable(program.TASK, False)
            where = {"PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "2"}
            os.execve(program.TASK, ["solution"], where)
        else:
            where = {"TMPDIR": os.getcwd(), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
            os.execve(request["argv"][0], request["argv"], where)

    def _end_leftovers(self, child: int) -> None:
        """Kill whatever a program left running, where it could start something."""
        if not self.confinement.can_start_processes:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1 if self.confinement.has_namespaces else -child, 9)
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
