"""What is asked of a fork server, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from verify.sandbox.limits import Limits


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
        report_bytes: Most that it may report, a returned value included.
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
    report_bytes: int = 1 << 16


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended.

    ``status`` is its exit status, or minus the signal that killed it; ``ended`` is "itself",
    or why it was killed: "cpu" or "wall" (its time was over), "output" (it had written too much),
    "overload" (the machine had not let it run).
    """

    status: int
    ended: str
    stdout: bytes
    stderr: bytes
    report: bytes
    cpu_s: float
    wall_s: float
    peak_mb: float
