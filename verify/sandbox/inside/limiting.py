"""The kernel's limits for a process."""

from __future__ import annotations

import resource

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


Limits = tuple[tuple[int, tuple[int, int]], ...]
"""What ``setrlimit`` is called with."""


def kernel_limits(cpu_s: float, space_mb: int, fsize_kb: int, nproc: int | None) -> Limits:
    """The kernel's limits for a program.

    Args:
        cpu_s: Processor time.
        space_mb: Memory that it may use, and address space that it does not account for.
        fsize_kb: Size of a file.
        nproc: Processes, None where they are not counted in a namespace of our own: all of the
            user's would count, and make a verdict depend on what else runs.
    """
    limits = [
        (resource.RLIMIT_AS, (space_mb + UNUSED_MB) * MB),
        (resource.RLIMIT_FSIZE, fsize_kb * 1024),
        # The parent's clock is the exact one; this one counts ticks, and only has to end at all.
        (resource.RLIMIT_CPU, int(-(-1.2 * cpu_s // 1)) + 1),
    ]
    if nproc is not None:
        limits.append((resource.RLIMIT_NPROC, nproc + 2))
    # soft and hard: a program that could handle a signal could end as if it were in time
    return tuple((which, (min(value, HIGHEST[which]),) * 2) for which, value in limits)
