"""Runs programs that nobody trusts; see docs/sandbox.md for what it does not protect from."""

from verify.sandbox.box import LAYERS, Sandbox, is_active
from verify.sandbox.limits import Limits
from verify.sandbox.runs import Program, Ran, SandboxError

__all__ = ["LAYERS", "Limits", "Program", "Ran", "Sandbox", "SandboxError", "is_active"]
