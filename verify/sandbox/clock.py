"""The time of a running program: what it has used of the processor, and what it has waited for it.

The kernel's own limit of processor time counts ticks, which need not agree with the time that it
reports in the end. It is set higher, for programs that outrun this clock.
"""

from __future__ import annotations

import time
from pathlib import Path

from verify.sandbox.limits import Limits

MAX_WAIT = 20.0
"""Wall times that a program may wait for a processor before the machine is called overloaded."""
SOON_S = 0.002
"""Shortest time between two looks at a program."""


class Clock:
    """Decides when a program's time is over.

    Args:
        limits: Its limits.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.started = time.monotonic()
        self.next_look = self.started + min(limits.cpu_s, limits.wall_s)
        """When it may be over at the earliest, unless several threads run at once."""

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def is_due(self) -> bool:
        """Whether it is time to look at the program."""
        return time.monotonic() >= self.next_look

    def look(self, handle: int) -> str:
        """Why the program must end now: "cpu", "wall" or "overload"; "" where it may go on.

        Time in which it waited for a processor does not count.

        Args:
            handle: A pidfd of the program.
        """
        used, waited = times(handle)
        left_cpu = self.limits.cpu_s - used
        left_wall = self.limits.wall_s - (self.passed - waited)
        self.next_look = time.monotonic() + max(SOON_S, min(left_cpu, left_wall))
        if left_cpu <= 0:
            return "cpu"
        if left_wall <= 0:
            return "wall"
        return "overload" if waited > MAX_WAIT * self.limits.wall_s else ""


def times(handle: int) -> tuple[float, float]:
    """Seconds that a process has used the processor, all its threads together, and waited for it.

    Zero where unknown, or where it has ended.
    """
    try:
        text = Path(f"/proc/self/fdinfo/{handle}").read_text()
        pid = next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pid:"))
        used = time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3)
        waited = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, StopIteration, ValueError, IndexError):
        return 0.0, 0.0
    return used, waited
