"""The outside of the sandbox: it starts fork servers, holds the clock, reads what programs write.

A ``Sandbox`` runs one program at a time. Nothing that a program writes is executed, evaluated or
unpickled here, and nothing that it should not see is sent to its server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from verify.sandbox.fork_server import ForkServer, ServerDied
from verify.sandbox.runs import Program, Ran, SandboxError

LAYERS = ("namespaces", "root", "landlock", "seccomp")
"""Layers besides the limits; all that the machine has are active unless fewer are asked for."""
MAX_STARTS = 3
"""Servers that may die at one program before that is our own fault."""


class Sandbox:
    """Runs programs, one at a time, in every layer of isolation that the machine has.

    Args:
        layers: Layers to use where they can be had; the others are left out (for tests).
        allow_unsafe: Run programs although neither system calls nor namespaces confine them.
        processors: Those that programs may run on; by default those that this process may.

    Raises:
        SandboxError: Neither seccomp nor namespaces can be had, or the server does not start.
    """

    def __init__(
        self,
        layers: Sequence[str] = LAYERS,
        allow_unsafe: bool = False,
        processors: Iterable[int] = (),
    ) -> None:
        self.layers_wanted = tuple(layers)
        self.allow_unsafe = allow_unsafe
        self.processors = sorted(processors)
        self._servers: dict[str, ForkServer] = {}
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
        kind = "function" if program.style == "function" else "run"
        kind = "compile" if binary is not None else kind
        for _ in range(MAX_STARTS):
            try:
                return self._server(kind).run(program, binary)
            except ServerDied:
                self.close()
        raise SandboxError("the fork server died of it: is the machine out of memory?")

    def close(self) -> None:
        """End the servers and all that runs in them. Safe to call twice."""
        while self._servers:
            self._servers.popitem()[1].close()

    def _server(self, kind: str) -> ForkServer:
        if kind not in self._servers:
            wanted = [
                layer for layer in self.layers_wanted if is_active(self.layers.get(layer, ""))
            ]
            self._servers[kind] = ForkServer(kind, wanted, self.processors)
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
