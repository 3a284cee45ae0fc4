"""What the fork server does once so that no program's process has to do it.

A fork copies each page that it writes to, and whatever the interpreter does for the first time
writes to many: it looks names up, fills caches, rewrites functions into their quick form.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from program import solve_task

EXAMPLE = """
import sys
n, *rest = map(int, input().split())
for i in range(n):
    values = sorted([int(x) for x in sys.stdin.readline().split()])
    counts = {value: str(value) for value in values}
    print(sum(values), f"{n} {i}", " ".join(counts.values()), max(values) - n // 2)

def solve(a, b):
    return [a, str(b)]
"""
EXAMPLE_INPUT = "2\n1 2\n3 4\n"
REHEARSALS = 16
"""More than the 8 calls after which the interpreter rewrites a function into its quick form."""


def rehearse(is_function: bool, library: dict[str, Any]) -> None:
    """Run an example as programs are run.

    What the interpreter sets up on first use is then set up once, and not in each fork.

    Args:
        is_function: Whether programs will be run in function style.
        library: See ``program.library_names``.
    """
    call = {"source": EXAMPLE, "entry": "solve", "args": [1, 2], "kwargs": {}}
    example = json.dumps(call) if is_function else EXAMPLE
    main, *streams = sys.modules["__main__"], sys.stdin, sys.stdout
    for _ in range(REHEARSALS):
        (task, to_task), (report, to_report) = os.pipe(), os.pipe()
        (here, to_here), (there, to_there) = os.pipe(), os.pipe()
        for file, text in ((to_task, example), (to_here, EXAMPLE_INPUT)):
            os.write(file, text.encode())
            os.close(file)
        with open(here) as sys.stdin, open(to_there, "w") as sys.stdout:
            solve_task(task, to_report, is_function, library)
        for file in (report, there, *([to_report] if is_function else [])):
            os.close(file)
    sys.modules["__main__"] = main
    sys.stdin, sys.stdout = streams
