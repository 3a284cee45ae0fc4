"""Rows come back from the disk as they were written, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest

from datamodules.rows import BATCH, RowsOnDisk, write_rows
from promptcot.turns import Turns

CHECKOUT = Path(__file__).parents[2]


def random_turns(random):
    """A sequence of up to 60 tokens with up to 4 spans, some of them empty or none at all."""
    tokens = tuple(random.randrange(200_000) for _ in range(random.randrange(1, 60)))
    edges = sorted(random.randint(1, len(tokens)) for _ in range(2 * random.randrange(5)))
    return Turns(tokens, tuple(list(pairwise(edges))[::2]))


def some_rows(count, seed=0):
    random = Random(seed)
    return [random_turns(random) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, BATCH - 1, BATCH, BATCH + 1, 5 * BATCH + 7])
def test_rows_come_back_as_they_were_written(tmp_path, count):
    rows = some_rows(count, seed=count)
    written = write_rows(tmp_path / "rows", iter(rows), {"more": 1})
    for found in (written, RowsOnDisk(tmp_path / "rows")):
        assert len(found) == count
        assert [found[row] for row in range(count)] == rows
        assert list(found.lengths) == [len(row) for row in rows]
        assert [found.terms(row) for row in range(count)] == [row.terms for row in rows]
        assert found.manifest["more"] == 1
    assert not list(tmp_path.glob("*.partial"))


def test_rows_are_indexed_as_a_list_is(tmp_path):
    rows = some_rows(BATCH + 20)
    found = write_rows(tmp_path / "rows", rows, {})
    for index in (0, -1, -len(rows), BATCH, BATCH - 1):
        assert found[index] == rows[index]
    for index in (slice(60, 70), slice(None, None, 17), slice(-3, None), slice(9, 2, -2)):
        assert found[index] == rows[index]
    assert list(found) == rows
    for index in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            found[index]


def test_the_fingerprint_is_of_the_rows_alone(tmp_path):
    rows = some_rows(100)
    first = write_rows(tmp_path / "a", rows, {"made": "here"}).fingerprint
    assert write_rows(tmp_path / "b", iter(rows), {"made": "there"}).fingerprint == first
    last = rows[-1]
    others = {
        "a row less": rows[:-1],
        "another order": rows[::-1],
        "another token": [*rows[:-1], Turns((*last.tokens[:-1], 999_999), last.spans)],
        "other targets": [*rows[:-1], last.untargeted()],
        "cut elsewhere": [Turns((1, 2), ()), Turns((3,), ())],
        "cut": [Turns((1,), ()), Turns((2, 3), ())],
    }
    found = {write_rows(tmp_path / name, these, {}).fingerprint for name, these in others.items()}
    assert len(found | {first}) == 1 + len(others)


def test_tokens_stay_on_the_disk(tmp_path):
    # 20 MB of tokens are mapped into memory, and 8 bytes a row are in it
    tokens = np.arange(10_000).tolist()
    rows = write_rows(tmp_path / "rows", (Turns(tuple(tokens), ()) for _ in range(500)), {})
    assert rows.lengths.nbytes + rows.num_targets.nbytes == 8 * 500
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "rows" / "rows.arrow") in maps
    assert rows[499].tokens[-1] == 9_999


def test_rows_that_were_not_all_written_are_not_there(tmp_path):
    def cut_off():
        yield from some_rows(3 * BATCH)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_rows(tmp_path / "rows", cut_off(), {})
    assert not (tmp_path / "rows").exists()
    rows = some_rows(5)  # what was left over is in nobody's way
    assert list(write_rows(tmp_path / "rows", rows, {})) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]


KILLED = f"""
import sys
from pathlib import Path
from datamodules.rows import write_rows
from promptcot.turns import Turns

def rows():
    for number in range({10 * BATCH}):
        if number == {5 * BATCH + 3}:
            print("half", flush=True)
            sys.stdin.read()  # until it is killed
        yield Turns((number,) * 50, ((1, 50),))

write_rows(Path(sys.argv[1]), rows(), {{}})
"""


def test_a_process_killed_while_it_writes_leaves_nothing_that_looks_whole(tmp_path):
    folder = tmp_path / "rows"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(folder)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout.readline() == b"half\n"
        os.kill(child.pid, signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.iterdir()] == ["rows.partial"]
    assert not (tmp_path / "rows.partial" / "manifest.json").exists()
    rows = some_rows(7)
    assert list(write_rows(folder, rows, {})) == rows
    assert [path.name for path in tmp_path.iterdir()] == ["rows"]
