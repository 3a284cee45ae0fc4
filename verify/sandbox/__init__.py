"""Runs programs that nobody trusts; see docs/sandbox.md for what it does not protect from."""

from verify.sandbox.box import LAYERS, Sandbox, is_active
from verify.sandbox.fork_server import LONGEST_WAIT
from verify.sandbox.limits import Limits
from verify.sandbox.runs import Program, Ran, SandboxError

__all__ = [
    "LAYERS",
    "LONGEST_WAIT",
    "Limits",
    "Program",
    "Ran",
    "Sandbox",
    "SandboxError",
    "is_active",
]
