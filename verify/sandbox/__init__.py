"""Runs programs that nobody trusts; see docs/sandbox.md for what it does not protect from."""

from verify.sandbox.box import LAYERS, Program, Ran, Sandbox, SandboxError, is_active
from verify.sandbox.limits import Limits

__all__ = ["LAYERS", "Limits", "Program", "Ran", "Sandbox", "SandboxError", "is_active"]
