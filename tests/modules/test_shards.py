"""Shards that cannot be written or read end every rank with a sentence."""

import re
import resource
from contextlib import contextmanager

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from modules.checkpoints import fill_from_shards, write_shards
from modules.shard_files import THREADS, StagingPlanner

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


def test_tensors_of_every_kind_and_more_than_threads_come_back(state, tmp_path):
    mesh = state["state_dict"]["w0"].device_mesh
    sizes = [(n % 7 + 1, 3 * n + 1) for n in range(5 * THREADS)]  # of one thread's, some grow
    kinds = [torch.float32, torch.bfloat16, torch.int64, torch.float64]
    tensors = {
        f"t{n}": distribute_tensor(torch.randn(size).mul(99).to(kinds[n % 4]), mesh, [Shard(0)])
        for n, size in enumerate(sizes)
    }
    tensors |= {
        "step": torch.tensor(7.0),
        "empty": torch.empty(0, 4),
        "turned": torch.arange(12.0).view(3, 4).t(),
        "part": torch.arange(100)[10:20],
        "trained": torch.nn.Parameter(torch.ones(5)),
    }
    write_shards(tensors, tmp_path / "saved")
    found = {name: torch.zeros_like(value) for name, value in tensors.items()}
    fill_from_shards(found, tmp_path / "saved")
    for name, value in tensors.items():
        whole, back = (
            t.full_tensor() if isinstance(t, DTensor) else t for t in (value, found[name])
        )
        assert back.dtype == whole.dtype
        assert torch.equal(back, whole)


def test_a_thread_hands_out_one_tensor_after_another_in_the_same_memory():
    tensors = {"large": torch.randn(300), "small": torch.randn(20)}
    planner = StagingPlanner()
    planner.set_up_planner(tensors, is_coordinator=True)
    items = {item.index.fqn: item for item in planner.create_local_plan().items}
    places = set()
    for name, tensor in tensors.items():
        handed = planner.resolve_data(items[name])
        assert torch.equal(handed, tensor)
        assert handed.untyped_storage().nbytes() == tensor.nbytes
        places.add(handed.data_ptr())
    assert len(places) == 1
    assert places.isdisjoint(tensor.data_ptr() for tensor in tensors.values())


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
