"""Shards that cannot be written or read end every rank with a sentence."""

import re
import resource
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from modules.checkpoints import fill_from_shards, write_shards
from modules.shard_files import THREADS

ROOM = 1 << 16


@pytest.fixture
def state(tmp_path):
    """Sharded tensors of a megabyte, and one value of a group."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
    torch.manual_seed(0)
    tensors = {f"w{n}": distribute_tensor(torch.randn(64, 512), mesh, [Shard(0)]) for n in range(8)}
    yield {"state_dict": tensors, "optimizer_0": {"lr": 0.5}}
    dist.destroy_process_group()


def emptied(state):
    tensors = {name: torch.zeros_like(value) for name, value in state["state_dict"].items()}
    return {"state_dict": tensors, "optimizer_0": {"lr": 0.0}}


@contextmanager
def full_disk():
    """Files grow no further than ``ROOM``."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_shards_by_several_threads_come_back_as_they_were(state, tmp_path):
    write_shards(state, tmp_path / "saved")
    assert len(list((tmp_path / "saved").glob("__0_*.distcp"))) == THREADS
    found = emptied(state)
    fill_from_shards(found, tmp_path / "saved")
    assert found["optimizer_0"] == {"lr": 0.5}
    for name, value in state["state_dict"].items():
        assert torch.equal(found["state_dict"][name].full_tensor(), value.full_tensor())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("full", [range(8), [0], [5]])  # one failure is another thread's
def test_a_full_disk_is_said_with_its_cure(state, tmp_path, full):
    for number, name in enumerate(state["state_dict"]):
        if number not in full:
            state["state_dict"][name] = torch.zeros(8)
    folder = tmp_path / "saved"
    with full_disk(), pytest.raises(OSError, match=rf"^cannot write {re.escape(str(folder))} \("):
        write_shards(state, folder)


def test_a_shard_that_is_gone_is_said_with_its_cure(state, tmp_path):
    folder = tmp_path / "saved"
    write_shards(state, folder)
    sorted(folder.glob("*.distcp"))[0].unlink()
    with pytest.raises(OSError, match=rf"^cannot read {re.escape(str(folder))} \(.*start anew"):
        fill_from_shards(emptied(state), folder)
