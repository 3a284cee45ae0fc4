"""What rank 0 does for all fails for all."""

import subprocess
import sys

import pytest

from promptcot.ranks import on_rank_0

PART = """
import sys
import torch.distributed as dist
from promptcot.ranks import on_rank_0

method, rank = f"file://{sys.argv[1]}", int(sys.argv[2])
dist.init_process_group("gloo", init_method=method, rank=rank, world_size=2)
try:
    on_rank_0("nothing came of it", lambda: 1 / 0)
except RuntimeError as error:
    print(f"{type(error).__name__}: {error}")
on_rank_0("nothing came of it", lambda: print("done"))
dist.destroy_process_group()
"""


def test_a_failure_of_rank_0_is_one_of_each_and_told_by_one(tmp_path):
    parts = [
        subprocess.Popen(
            [sys.executable, "-c", PART, str(tmp_path / "meeting"), str(rank)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [part.communicate(timeout=60)[0].splitlines() for part in parts]
    reason = "nothing came of it: ZeroDivisionError: division by zero"
    assert said == [[f"RuntimeError: {reason}", "done"], [f"ToldByRank0: {reason}"]]
    assert [part.returncode for part in parts] == [0, 0]


def test_one_process_is_rank_0():
    done = []
    on_rank_0("nothing came of it", lambda: done.append(1))
    assert done
    with pytest.raises(RuntimeError, match="nothing came of it: ZeroDivisionError"):
        on_rank_0("nothing came of it", lambda: 1 / 0)
