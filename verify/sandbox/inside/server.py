"""The fork server: a small process that runs each program in a fork of itself.

``python server.py CONFIG`` confines itself for good (namespaces, Landlock), says which layers are
active, and then serves requests from its socket. Of a program it knows only the limits and the
open files to connect: sources, inputs and outputs never pass through its memory, so that no
program can find another's there. Its parent holds the clock, and kills.

CONFIG, JSON: {"socket", "kind": "run" or "compile", "layers", "readable", "folders",
"build", "build_mb"}. A request, JSON: {"kind", "style", "limits"} with the files [stdin, stdout, stderr,
report, task, files of a checker...], and in kind "compile" {"argv", "output"} with [stdin, stdout, stderr, binary].
The answer is {"status", "cpu_s", "peak_mb"}. The message ``handle`` before it is answered by a
pidfd, with which the parent can kill; after it, by nothing.
"""

from __future__ import annotations

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

import landlock
import namespaces
import program
from seccomp import Filter

WARM = (
    "bisect cmath collections contextlib copy datetime functools heapq io itertools json math "
    "operator random re string sys time typing"
)
"""Modules that programs are likely to import, imported once."""
MAX_MESSAGE = 1 << 16
MAX_FILES = 8
ASK = b"handle"
"""The parent's question for a handle on the program that runs."""
MB = 1 << 20
HIGHEST = {
    which: 1 << 62 if hard == resource.RLIM_INFINITY else hard
    for which in range(16)
    for hard in resource.getrlimit(which)[1:]
}
"""What the limits may be raised to."""
LIBRARY_MB = 64
"""Address space of a compiled program's libraries, besides its limit."""


def main() -> None:
    """Confine this process, then serve until the socket closes."""
    config = json.loads(sys.argv[1])
    server = Server(config)
    server.confine()
    server.say({"layers": server.layers})
    while server.serve():
        pass


class Server:
    """The state of a fork server; see the module's text for ``config``."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.is_compiler = config["kind"] == "compile"
        self.socket = socket.socket(fileno=config["socket"])
        self.layers: dict[str, str] = {}
        """Layer and what is active of it, or "missing: " and why."""
        self.filters: dict[str, Filter] = {}
        self.names: dict[str, Any] = {}
        self.own_mb = 0

    def confine(self) -> None:
        """Apply what holds for the server and all its programs; note what could not be."""
        for name in WARM.split():
            __import__(name)
        # What every program finds. Done here, once: a page that a fork writes to costs it 3 us.
        sys.path[:] = [*sys.path[1:], *self.config["folders"]]
        sys.argv = ["solution.py"]
        sys.setrecursionlimit(sys.getrecursionlimit() + program.FRAMES)
        for name in [name for name in os.environ if name.startswith("PYTHON")]:
            del os.environ[name]
        self.names = program.library_names()
        with open("/proc/self/statm") as file:
            self.own_mb = int(file.read().split()[0]) * resource.getpagesize() // MB
        for which, value in (
            (resource.RLIMIT_NOFILE, 64),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
        ):
            resource.setrlimit(which, (min(value, HIGHEST[which]),) * 2)
        self.layers["rlimits"] = "cpu, address space, file size, open files, no core"
        has_spaces = self._try("namespaces", self._enter_namespaces)
        has_root = has_spaces and self._try("root", self._change_root)
        if has_spaces:
            namespaces.drop_capabilities()
        has_landlock = self._try("landlock", self._restrict_files)
        self._try("seccomp", lambda: self._make_filters(has_root or has_landlock))
        namespaces.hide_memory()
        gc.collect()
        gc.freeze()

    def _try(self, layer: str, apply: Any) -> bool:  # noqa: ANN401
        if layer not in self.config["layers"]:
            self.layers[layer] = "missing: not asked for"
            return False
        try:
            self.layers[layer] = apply()
        except OSError as error:
            self.layers[layer] = f"missing: {error.strerror or error}"
            return False
        return True

    def _enter_namespaces(self) -> str:
        namespaces.enter()
        return "user, pid, network, ipc, mount, uts"

    def _change_root(self) -> str:
        build = self.config["build"] if self.is_compiler else None
        namespaces.change_root(self.config["readable"], build, self.config["build_mb"] * MB)
        return "read-only view of the interpreter and the libraries"

    def _restrict_files(self) -> str:
        rights = [(path, landlock.READ) for path in self.config["readable"]]
        rights += [("/dev/null", landlock.DEVICE)]
        rights += [(path, landlock.READ_FILE) for path in ("/dev/urandom", "/dev/random")]
        if self.is_compiler:
            rights.append((self.config["build"], (1 << 16) - 1))
        return f"version {landlock.restrict(rights)}"

    def _make_filters(self, may_write: bool) -> str:
        kinds = ["compile"] if self.is_compiler else ["python", "binary"]
        self.filters = {kind: Filter(kind, may_write) for kind in kinds}
        probe = os.fork()
        if not probe:  # whether the kernel takes it
            try:
                self.filters[kinds[0]].install()
            except OSError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(probe, 0)[1]:
            self.filters = {}
            raise OSError("the kernel refuses the filter")
        return "no network, processes, foreign signals, tracing"

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
            except BaseException as error:
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
        counts_users = not self.layers["namespaces"].startswith("missing")
        besides_mb = self.own_mb if kind == "python" else LIBRARY_MB
        set_limits(request["limits"], besides_mb, counts_users)
        if kind == "compile":
            os.chdir(f"{self.config['build']}/1")
        if self.filters:
            self.filters[kind].install()
        if kind == "python":
            sys.argv += [f"/proc/self/fd/{file}" for file in range(5, len(files))]
            program.run_program(self.names if request["style"] == "function" else None)
        elif kind == "binary":
            os.set_inheritable(program.REPORT, False)
            os.set_inheritable(program.TASK, False)
            os.execve(program.TASK, ["solution"], {"PATH": "/usr/bin:/bin"})
        else:
            where = {"TMPDIR": os.getcwd(), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
            os.execve(request["argv"][0], request["argv"], where)

    def _end_leftovers(self, child: int) -> None:
        """Kill whatever a program left running, where it could start something."""
        if not self.layers["namespaces"].startswith("missing"):
            if self.filters and not self.is_compiler:
                return
            _kill(-1)
        elif self.is_compiler or not self.filters:
            _kill(-child)
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            return

    def _empty_build(self) -> None:
        """A new folder for a compiler, in the place of the last one's; it holds files alone."""
        folder = f"{self.config['build']}/1"
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")
            os.rmdir(folder)
        os.mkdir(folder)

    def _hand_over(self, name: str, target: int) -> None:
        """Copy what the compiler wrote to the parent's file."""
        path = f"{self.config['build']}/1/{name}"
        source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        while os.sendfile(target, source, None, 1 << 24):
            pass
        os.close(source)

    @staticmethod
    def _close(files: list[int]) -> None:
        for file in files:
            os.close(file)


def set_limits(limits: dict[str, Any], besides_mb: int, counts_users: bool) -> None:
    """The kernel's limits for this process.

    Args:
        limits: {"mem_mb", "cpu_s", "fsize_kb", "nproc"}.
        besides_mb: Address space that the program does not account for.
        counts_users: Whether processes are counted in a namespace of our own. Elsewhere all of the
            user's count, and a limit would make a verdict depend on what else runs.
    """
    for which, value in (
        (resource.RLIMIT_AS, (limits["mem_mb"] + besides_mb) * MB),
        (resource.RLIMIT_STACK, limits["mem_mb"] * MB),
        (resource.RLIMIT_FSIZE, limits["fsize_kb"] * 1024),
    ):
        value = min(value, HIGHEST[which])
        resource.setrlimit(which, (value, value))
    seconds = int(-(-limits["cpu_s"] // 1))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    if counts_users:
        processes = min(limits["nproc"] + 2, HIGHEST[resource.RLIMIT_NPROC])
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))


def _kill(who: int) -> None:
    try:
        os.kill(who, 9)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    main()
