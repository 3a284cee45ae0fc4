"""What a program may use up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

HIGHEST = 1e9


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one test.

    Args:
        cpu_s: Seconds of processor time, of all threads together. It is the limit that decides,
            as it does not depend on what else the machine does.
        wall_s: Seconds that may pass while the program does not wait for a processor.
        mem_mb: Memory in use at its peak; somewhat more may be reserved.
        output_kb: Standard output.
        nproc: Threads; counted where there are user namespaces.
        fsize_kb: A file that it writes, where it may write any.
    """

    cpu_s: float = 10.0
    wall_s: float = 31.0
    mem_mb: int = 1024
    output_kb: int = 16384
    nproc: int = 64
    fsize_kb: int = 1024

    def __post_init__(self) -> None:
        for name, value in self.to_row().items():
            kinds = int | float if name.endswith("_s") else int
            if isinstance(value, bool) or not isinstance(value, kinds) or not value > 0:
                raise ValueError(
                    f"limit {name} is {value!r}, but it must be a number above 0, and a whole one "
                    "but for seconds"
                )
            if value > HIGHEST:
                raise ValueError(f"limit {name} is {value!r}, but it can be at most {HIGHEST:g}")

    @staticmethod
    def of(given: Mapping[str, Any] | None) -> Limits:
        """Limits with defaults for those that are not given.

        Of ``cpu_s`` and ``wall_s`` one follows from the other: wall = 3 cpu + 1, cpu = wall.

        Raises:
            ValueError: A name is unknown or a value out of range.
        """
        if not isinstance(given, Mapping | None):
            raise ValueError(f"limits are {str(given)[:60]!r}, but they must be an object")
        chosen = {name: value for name, value in (given or {}).items() if value is not None}
        names = [field.name for field in fields(Limits)]
        for name in chosen:
            if name not in names:
                raise ValueError(f"there is no limit {name!r}: {', '.join(names)}")
        if isinstance(chosen.get("cpu_s"), int | float) and "wall_s" not in chosen:
            chosen["wall_s"] = 3 * chosen["cpu_s"] + 1
        if "wall_s" in chosen and "cpu_s" not in chosen:
            chosen["cpu_s"] = chosen["wall_s"]
        for name in names[2:]:
            value = chosen.get(name)
            if isinstance(value, float) and value == value // 1:
                chosen[name] = int(value)
        return Limits(**chosen)

    def to_row(self) -> dict[str, float]:
        """The limits by name."""
        return {
            "cpu_s": self.cpu_s,
            "wall_s": self.wall_s,
            "mem_mb": self.mem_mb,
            "output_kb": self.output_kb,
            "nproc": self.nproc,
            "fsize_kb": self.fsize_kb,
        }
