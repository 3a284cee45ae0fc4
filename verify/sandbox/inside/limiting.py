"""The kernel's limits for a process."""

from __future__ import annotations

import resource
from typing import Any

MB = 1 << 20
UNUSED_MB = 288
"""Address space that a program may reserve without using it, as for the stack of a thread."""
HIGHEST = {
    which: 1 << 62 if hard == resource.RLIM_INFINITY else hard
    for which in range(16)
    for hard in resource.getrlimit(which)[1:]
}
"""What the limits may be raised to."""


def set_common_limits() -> None:
    """Limits that are the same for every program, and for what starts it."""
    for which, value in (
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        value = min(value, HIGHEST[which])
        resource.setrlimit(which, (value, value))
    # The stack is bounded by the address space. Where it has no limit of its own, glibc gives
    # threads a small one each; else each would take as much as the main one may.
    highest = resource.getrlimit(resource.RLIMIT_STACK)[1]
    resource.setrlimit(resource.RLIMIT_STACK, (highest, highest))


def set_limits(limits: dict[str, Any], besides_mb: int, counts_users: bool) -> None:
    """The kernel's limits for this process.

    Args:
        limits: {"mem_mb", "cpu_s", "fsize_kb", "nproc"}.
        besides_mb: Address space that the program does not account for.
        counts_users: Whether processes are counted in a namespace of our own. Elsewhere all of the
            user's count, and a limit would make a verdict depend on what else runs.
    """
    for which, value in (
        (resource.RLIMIT_AS, (limits["mem_mb"] + besides_mb + UNUSED_MB) * MB),
        (resource.RLIMIT_FSIZE, limits["fsize_kb"] * 1024),
    ):
        value = min(value, HIGHEST[which])
        resource.setrlimit(which, (value, value))
    # The parent's clock is the exact one; this one counts ticks, and only has to end at all.
    seconds = int(-(-1.2 * limits["cpu_s"] // 1)) + 1
    # soft and hard: a program that could handle the signal could end as if it were in time
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    if counts_users:
        processes = min(limits["nproc"] + 2, HIGHEST[resource.RLIMIT_NPROC])
        resource.setrlimit(resource.RLIMIT_NPROC, (processes, processes))
