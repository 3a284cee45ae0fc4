"""What the fork server does once so that no program's process has to do it.

A fork copies each page that it writes to, and whatever the interpreter does for the first time
writes to many: it looks names up, fills caches, rewrites functions into their quick form.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from program import solve_task

EXAMPLE = b"""
import sys
n, *rest = map(int, input().split())
for i in range(n):
    values = sorted([int(x) for x in sys.stdin.readline().split()])
    counts = {value: str(value) for value in values}
    print(sum(values), f"{n} {i}", " ".join(counts.values()), max(values) - n // 2)
"""
EXAMPLE_INPUT = b"2\n1 2\n3 4\n"
REHEARSALS = 16
"""More than the 8 calls after which the interpreter rewrites a function into its quick form."""


def _random_seed() -> Callable[[], None]:
    """Import ``random``; a function that gives it another seed, as it would after a fork by itself.

    Its own way is Python code, which costs each fork a twentieth of its time.
    """
    register = os.register_at_fork
    os.register_at_fork = lambda **_: None
    import random

    os.register_at_fork = register
    return super(random.Random, random._inst).seed


reseed = _random_seed()


def rehearse(library: dict[str, Any]) -> None:
    """Run an example as programs are run.

    What the interpreter sets up on first use is then set up once, and not in each fork.
    """
    main, *streams = sys.modules["__main__"], sys.stdin, sys.stdout
    for _ in range(REHEARSALS):
        (task, to_task), (report, to_report) = os.pipe(), os.pipe()
        (here, to_here), (there, to_there) = os.pipe(), os.pipe()
        for file, data in ((to_task, EXAMPLE), (to_here, EXAMPLE_INPUT)):
            os.write(file, data)
            os.close(file)
        with open(here) as sys.stdin, open(to_there, "w") as sys.stdout:
            solve_task(task, to_report, False, library)
        os.close(report)
        os.close(there)
    sys.modules["__main__"] = main
    sys.stdin, sys.stdout = streams
