"""All that confines the fork server and its programs for good, and what of it is active."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import landlock
import namespaces
from limiting import MB, set_common_limits
from seccomp import Filter, forbid_privileges


class Confinement:
    """The layers of isolation; see ``server.py`` for ``config``."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.is_compiler = config["kind"] == "compile"
        self.layers: dict[str, str] = {}
        """Layer and what is active of it, or "missing: " and why."""
        self.has_root = False
        self.filters: dict[str, Filter] = {}
        """By kind of program; each program installs its own. Empty where there is no seccomp."""

    def apply(self) -> None:
        """Confine this process; note what could not be done."""
        set_common_limits()
        self.layers["rlimits"] = "cpu, address space, file size, open files, no core"
        has_spaces = self._try("namespaces", self._enter_namespaces)
        self.layers["root"] = "missing: it needs namespaces"
        self.has_root = has_spaces and self._try("root", self._change_root)
        namespaces.drop_capabilities()
        has_landlock = self._try("landlock", self._restrict_files)
        self._try("seccomp", lambda: self._make_filters(self.has_root or has_landlock))
        namespaces.hide_memory()

    @property
    def has_namespaces(self) -> bool:
        """Whether this is the first process of its own namespaces."""
        return os.getpid() == 1 and not self.layers["namespaces"].startswith("missing")

    @property
    def can_start_processes(self) -> bool:
        """Whether a program can leave others running."""
        return self.is_compiler or not self.filters

    def _try(self, layer: str, apply: Callable[[], str]) -> bool:
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
        if self.has_root:
            rights.append((namespaces.EMPTY, landlock.READ))
        if self.is_compiler:
            rights = [(path, allowed | landlock.EXECUTE) for path, allowed in rights]
            rights.append((self.config["build"], (1 << 16) - 1))
        return f"version {landlock.restrict(rights)}"

    def _make_filters(self, may_write: bool) -> str:
        kinds = ["compile"] if self.is_compiler else ["python", "binary"]
        self.filters = {kind: Filter(kind, may_write) for kind in kinds}
        forbid_privileges()
        probe = os.fork()
        if not probe:  # whether the kernel takes it
            try:
                act, given = self.filters[kinds[0]].step
                act(*given)
            except OSError:
                os._exit(1)
            os._exit(0)
        if os.waitpid(probe, 0)[1]:
            self.filters = {}
            raise OSError("the kernel refuses the filter")
        if not self.is_compiler:
            self.filters["function"] = self.filters["python"]
        return "no network, processes, foreign signals, tracing"
