"""C++ programs become executables, inside the sandbox and under limits of their own.

Executables are kept in memory, the latest ones, by the hash of their source: they leave nothing
behind, and the same program is compiled once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import OrderedDict
from dataclasses import dataclass

from verify.sandbox import Limits, Program, Sandbox
from verify.sandbox.pipes import seal

STANDARDS = ("gnu++17", "gnu++20")
"""Tried in this order: most programs are written for the first, some need the second."""
FLAGS = (
    "-O2",
    "-static",
    "-pipe",
    "-w",
    "-fno-diagnostics-color",
    "-fmax-errors=3",
    "-x",
    "c++",
    "-",
)
LIMITS = Limits(cpu_s=10, wall_s=31, mem_mb=2048, output_kb=64, nproc=64, fsize_kb=65536)
_TEMPORARY = re.compile(r"/\S*/1/\S+")
"""Files that a compiler names at random."""
TRIAL = b"#include <iostream>\nint main() { std::cout << 1; }"
"""What any working compiler compiles: a fault of the machine is told from one of a program."""
CACHED = 64
"""Executables that are kept."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """An executable as an open file, or what the compiler said.

    It says nothing where the machine is overloaded.
    """

    binary: int | None
    said: str = ""


class Compiler:
    """Compiles C++ in a sandbox. Close it after use.

    Raises:
        FileNotFoundError: There is no compiler, or it cannot link statically.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        found = shutil.which("g++") or shutil.which("clang++")
        if found is None:
            raise FileNotFoundError(
                "a C++ program is to be verified, but neither g++ nor clang++ is installed: "
                "install one (apt install g++), or leave these rows out"
            )
        self.path = os.path.realpath(found)
        self.sandbox = sandbox
        self._kept: OrderedDict[bytes, Compiled] = OrderedDict()
        trial = self._compile(TRIAL)
        if trial.said:
            raise FileNotFoundError(
                f"{self.path} cannot make an executable that needs no other file ({trial.said}): "
                "install the static libraries (dnf install glibc-static libstdc++-static)"
            )
        _close(trial)

    def compile(self, source: str) -> Compiled:
        """The executable of a program. It stays open until ``CACHED`` others have followed."""
        text = source.encode(errors="replace")
        key = hashlib.sha256(text).digest()
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        compiled = self._compile(text)
        if compiled.binary is not None or compiled.said:  # else: an overload
            self._kept[key] = compiled
        if len(self._kept) > CACHED:
            _close(self._kept.popitem(last=False)[1])
        return compiled

    def close(self) -> None:
        """Forget all executables."""
        while self._kept:
            _close(self._kept.popitem()[1])

    def _compile(self, text: bytes) -> Compiled:
        said = ""
        for standard in STANDARDS:
            binary = os.memfd_create("solution", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            argv = (self.path, f"-std={standard}", *FLAGS, "-o", "a.out")
            program = Program("compile", b"", text, LIMITS, argv=argv, output="a.out")
            ran = self.sandbox.run(program, binary)
            if ran.status == 0 and ran.ended == "itself":
                return Compiled(_read_only(binary))
            os.close(binary)
            if ran.ended == "overload":
                return Compiled(None, "")
            said = said or _complaint(ran.stderr)
            if ran.ended != "itself" or ran.cpu_s > LIMITS.cpu_s or ran.status < 0:
                return Compiled(None, f"the compiler needs more than its limits: {said}")
        return Compiled(None, said or "the compiler failed without a word")


def _complaint(stderr: bytes) -> str:
    """The first error of a compiler's output."""
    lines = stderr.decode(errors="backslashreplace").splitlines()
    line = next((line for line in lines if "error" in line), lines[0] if lines else "")
    return _TEMPORARY.sub("a file", line)[:200]


def _read_only(binary: int) -> int:
    """The same file, open to be run: one that is open to be written cannot be.

    Nobody can change it any more, the program that it is least of all.
    """
    seal(binary)
    again = os.open(f"/proc/self/fd/{binary}", os.O_RDONLY | os.O_CLOEXEC)
    os.close(binary)
    return again


def _close(compiled: Compiled) -> None:
    if compiled.binary is not None:
        os.close(compiled.binary)
