"""A model that is read slice by slice is the one that is read as a whole."""

import json

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from tiny import save_tiny_model
from torch.distributed.device_mesh import init_device_mesh

from modules.sharded_loading import fill, without_weights
from modules.strategies import shard
from promptcot.batches import pack
from promptcot.likelihood import TargetLogprobs, load_causal_lm
from promptcot.tokens import Example


@pytest.fixture
def mesh(tmp_path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",))
    dist.destroy_process_group()


@pytest.fixture
def weights(tmp_path):
    """In bfloat16, in two files."""
    folder = save_tiny_model(tmp_path / "model")
    file = folder / "model.safetensors"
    whole = {name: value.bfloat16() for name, value in load_file(file).items()}
    names = sorted(whole)
    for part in (names[:5], names[5:]):
        kind = {"format": "pt"}
        save_file({name: whole[name] for name in part}, folder / f"{part[0]}.safetensors", kind)
    index = {
        name: f"{(names[:5] if name in names[:5] else names[5:])[0]}.safetensors" for name in names
    }
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )
    file.unlink()
    return str(folder)


def test_weights_buffers_and_outputs_are_those_of_the_whole_model(weights, mesh):
    whole = TargetLogprobs(load_causal_lm(weights, torch.float32))
    lm = without_weights(weights)
    assert all(parameter.is_meta for parameter in lm.parameters())
    policy = TargetLogprobs(lm)
    shard(policy, mesh, None)
    fill(policy, lm, weights, torch.device("cpu"))
    found = dict(policy.named_parameters())
    for name, value in whole.named_parameters():
        assert value.dtype == torch.float32
        assert torch.equal(found[name].full_tensor(), value), name
    buffers = dict(policy.named_buffers())
    for name, value in whole.named_buffers():
        assert torch.equal(buffers[name], value), name
    assert lm.generation_config.to_dict() == whole.lm.generation_config.to_dict()
    assert lm.config.to_dict() == whole.lm.config.to_dict()
    batch = pack([Example((1, 2, 3), (4, 5), (2,)), Example((7,), (8, 9, 10), (3,))])
    assert torch.equal(policy(batch), whole(batch))


def test_what_cannot_be_read_by_name_is_loaded_as_ever(weights, tmp_path):
    assert without_weights("somebody/on-a-hub") is None
    config = tmp_path / "model" / "config.json"
    tied = {**json.loads(config.read_text()), "tie_word_embeddings": True}
    config.write_text(json.dumps(tied))
    for path in config.parent.glob("*.safetensors"):
        kept = {name: value for name, value in load_file(path).items() if name != "lm_head.weight"}
        save_file(kept, path)
    assert without_weights(weights) is None
