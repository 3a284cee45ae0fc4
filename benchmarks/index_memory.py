"""What the index of millions of rows takes, the plan of an epoch, and rows on the disk.

    python benchmarks/index_memory.py

Of 4.8 million rows there are lengths alone (log-normal, mean 7,000, none above 32,768). Each
part runs in a process of its own: the memory given is the most that the whole process had,
libraries included.
"""

from __future__ import annotations

import argparse
import multiprocessing
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa

from datamodules.planning import Plan, Source
from datamodules.rows import INDEX_FILE, ROWS_FILE, RowsOnDisk, write_rows
from promptcot.turns import Turns

ROWS, MEAN, SIGMA, LONGEST = 4_800_000, 7_000, 0.6, 32_768
BUDGET, PARTS, BATCH_SIZE = 32_768, 64, 1024
STORED, STORED_TOKENS, READ = 20_000, 2_000, 20_000


def write_index(path: Path) -> str:
    """Write tokens and targets of all rows, as ``RowsOnDisk`` loads them."""
    drawn = np.random.default_rng(0).lognormal(np.log(MEAN) - SIGMA**2 / 2, SIGMA, ROWS)
    lengths = np.clip(drawn, 1, LONGEST).astype(np.int32)
    np.save(path, np.stack([lengths, lengths * 9 // 10]))
    return f"{lengths.mean():,.0f} tokens a row, {lengths.sum() / 1e9:.1f} billion in all"


def load(path: Path) -> str:
    """The index alone."""
    index = np.load(path)
    return f"{index.nbytes / 2**20:.0f} MiB of index"


def plan_epoch(path: Path, budget: int | None) -> str:
    """The steps of one epoch."""
    lengths = np.load(path)[0]
    plan = Plan((Source("rows", 0, ROWS),), 42, BATCH_SIZE, budget)
    steps = plan.steps(lengths, 0, PARTS)
    if sum(map(len, steps)) != ROWS:
        raise RuntimeError(f"{sum(map(len, steps))} rows were planned, not {ROWS}")
    room = len(steps) * PARTS * BUDGET
    full = f", {lengths.sum() / room:.1%} full" if budget else ""
    return f"{len(steps)} steps{full}"


def by_size(path: Path) -> str:
    """By rows of a step."""
    return plan_epoch(path, None)


def by_tokens(path: Path) -> str:
    """By tokens of a micro-batch."""
    return plan_epoch(path, BUDGET)


def write_store(path: Path) -> str:
    """Write rows of ids of a vocabulary of 150,000."""
    start = time.perf_counter()
    write_rows(path.with_name("store"), _rows(), {})
    seconds = time.perf_counter() - start
    names = (ROWS_FILE, INDEX_FILE)
    size = sum((path.with_name("store") / name).stat().st_size for name in names)
    per_token = size / (STORED * STORED_TOKENS)
    return f"{STORED / seconds:,.0f} rows/s, {per_token:.2f} bytes a token on disk"


def read_store(path: Path) -> str:
    """Read rows at random."""
    rows = RowsOnDisk(path.with_name("store"))
    random = Random(0)
    start = time.perf_counter()
    tokens = sum(len(rows[random.randrange(STORED)]) for _ in range(READ))
    seconds = time.perf_counter() - start
    return f"{READ / seconds:,.0f} rows/s, {tokens / seconds / 1e6:.1f} million tokens/s"


def _rows() -> Iterator[Turns]:
    block = np.random.default_rng(0).integers(0, 150_000, 100_000)
    for number in range(STORED):
        tokens = tuple(np.roll(block, number)[:STORED_TOKENS].tolist())
        yield Turns(tokens, ((STORED_TOKENS // 10, STORED_TOKENS),))


def measured(part: Callable[[Path], str], path: Path) -> tuple[float, float, str]:
    """Seconds, the process's most memory in MiB, and what a part says."""
    start = time.perf_counter()
    said = part(path)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, said


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0]).parse_args()
    versions = (
        f"Python {platform.python_version()}, numpy {np.__version__}, pyarrow {pa.__version__}"
    )
    sys.stdout.write(f"{versions}, {ROWS:,} rows\n| part | s | MiB | |\n|---|---|---|---|\n")
    spawn = multiprocessing.get_context("spawn")
    parts = (write_index, load, by_size, by_tokens, write_store, read_store)
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            with spawn.Pool(1) as pool:
                row = pool.apply(measured, (part, Path(folder) / "index.npy"))
            seconds, memory, said = row
            sys.stdout.write(f"| {part.__name__} | {seconds:.1f} | {memory:,.0f} | {said} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
