"""What a fork of the server does to be confined, and then to become the program.

It is made before the fork, where it costs nothing: a fork copies each page that it writes to, and
looking up a name writes to several.
"""

from __future__ import annotations

import json
import os
import resource
import struct
import sys
from collections.abc import Callable
from typing import Any

import namespaces
import program
from confinement import Confinement
from limiting import kernel_limits

REQUEST = struct.Struct("=10sdQQQ")
"""Kind, and of the limits cpu_s, mem_mb, fsize_kb, nproc. Reading JSON would write to more pages,
each of which is copied after a fork."""
LIBRARY_MB = 16
"""Address space of a compiled program before it has done anything."""

Step = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and what it is called with."""
Steps = list[Step]
PYTHON = ("python", "function")
BINARY: Steps = [
    (os.set_inheritable, (program.REPORT, False)),
    (os.set_inheritable, (program.TASK, False)),
    (os.execve, (program.TASK, ["solution"], {"PATH": "/usr/bin:/bin", "MALLOC_ARENA_MAX": "2"})),
]
"""How a compiled program starts."""


class Starter:
    """Makes the steps for each request.

    Args:
        config: See ``server.py``.
        confinement: What has been applied.
        names: What programs in function style need not import.
        own_mb: Address space of the server.
    """

    def __init__(
        self,
        config: dict[str, Any],
        confinement: Confinement,
        names: dict[str, Any],
        own_mb: int,
    ) -> None:
        self.filters = confinement.filters
        self.has_namespaces = confinement.has_namespaces
        self.processors: list[int] = config["processors"]
        self.folder = f"{config['build']}/1"
        """Where a compiler works."""
        self.names = names
        self.seeds: Steps = [(program.random_seed(), ())] if names else []
        """``random`` is imported before the fork with the other names alone."""
        self.own_mb = own_mb

    def steps(self, request: bytes, files: tuple[int, ...]) -> Steps:
        """The steps for a request, whose files have these numbers."""
        named, cpu_s, mem_mb, fsize_kb, nproc = REQUEST.unpack_from(request)
        kind = named.rstrip(b"\0").decode()
        mem_mb += self.own_mb if kind in PYTHON else LIBRARY_MB
        nproc = nproc if self.has_namespaces else None
        kept = files[:3] if kind == "compile" else files
        steps: Steps = [(os.setsid, ())]
        if not self.has_namespaces:  # which end with their first process
            steps.append((namespaces.prctl, namespaces.DIE_WITH_PARENT))
        if self.processors:
            steps.append((os.sched_setaffinity, (0, self.processors)))
        # received in ascending order, all above 2: no copy lands on one that is still to be copied
        steps += [(os.dup2, (file, place)) for place, file in enumerate(kept)]
        steps.append((os.closerange, (len(kept), 64)))
        limits = kernel_limits(cpu_s, mem_mb, fsize_kb, nproc)
        steps += [(resource.setrlimit, limit) for limit in limits]
        if kind == "compile":
            steps.append((os.chdir, (self.folder,)))
        if self.filters:
            steps.append(self.filters[kind].step)
        if kind == "compile":
            return [*steps, _compiler(request[REQUEST.size :], self.folder)]
        if kind == "binary":
            return [*steps, *BINARY]
        arguments = [f"/proc/self/fd/{file}" for file in range(program.TASK + 1, len(files))]
        return [
            *steps,
            (sys.argv.extend, (arguments,)),
            *self.seeds,
            (program.run_program, (kind == "function", self.names)),
        ]


def _compiler(order: bytes, folder: str) -> Step:
    """The step that starts a compiler."""
    argv = json.loads(order)["argv"]
    environment = {"TMPDIR": folder, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    return os.execve, (argv[0], argv, environment)
