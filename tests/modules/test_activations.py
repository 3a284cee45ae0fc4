"""Recomputed and compiled layers compute what plain ones do."""

import json
from functools import partial
from itertools import product

import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import SingleDeviceStrategy
from quiet_fit import fit
from tiny import save_tiny_adapter
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import init_device_mesh
from torch.testing import assert_close
from transformers import GPT2Config, GPT2LMHeadModel

from datamodules import ComposeDataModule
from modules import MStepModule
from modules.activations import check_compiling, check_share, compile_parts, recompute
from modules.adapters import adapt
from modules.strategies import shard
from promptcot import likelihood
from promptcot.batches import pack, pad
from promptcot.corpora import Corpus
from promptcot.likelihood import TargetLogprobs, load_causal_lm
from promptcot.tokens import Example

ROWS = [Example(tuple(range(1, 4 + n)), tuple(range(40, 50 + n)), (5, 5 + n)) for n in (0, 2, 7, 3)]
BATCHES = [pack(ROWS), pad(ROWS[1:]), pack(ROWS[::-1] * 3)]
SHARES = (False, 0.5, True)
compiles = pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch looks at its own


def policy_of(weights, share=False, compiled=False):
    lm = adapt(load_causal_lm(str(weights), torch.float32), str(weights), None)
    recompute(lm, share)
    policy = TargetLogprobs(lm).train()
    if compiled:
        compile_parts(policy)
    return policy


def results(policy, batch):
    """The log-probabilities, and the gradient of their sum, weighted so that each counts."""
    policy.zero_grad()
    logprobs = policy(batch)
    (logprobs * torch.linspace(1, 2, len(logprobs))).sum().backward()
    gradients = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return logprobs.detach(), torch.cat(gradients)


def test_recomputed_layers_give_the_very_same(tiny_model):
    plain, *others = (policy_of(tiny_model, share) for share in SHARES)
    for batch, other in product(BATCHES, others):
        for mine, its in zip(results(other, batch), results(plain, batch), strict=True):
            assert torch.equal(mine, its)


@pytest.mark.parametrize(("share", "runs"), [(0, [1, 1]), (0.5, [2, 1]), (1, [2, 2])])
def test_the_first_layers_run_twice(tiny_model, share, runs):
    policy = policy_of(tiny_model, share)
    counted = []
    for number, layer in enumerate(policy.lm.get_decoder().layers):
        layer.input_layernorm.register_forward_hook(lambda *_, n=number: counted.append(n))
    results(policy, BATCHES[0])
    assert [counted.count(number) for number in (0, 1)] == runs


@pytest.fixture
def traces(monkeypatch):
    """Has torch trace graphs, forward and backward, and run them without code of their own, which
    takes a C++ compiler a minute."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@compiles
@pytest.mark.usefixtures("traces")
def test_compiled_layers_with_an_adapter_agree(tiny_model, tmp_path):
    weights = save_tiny_adapter(tiny_model, tmp_path / "adapter")
    plain, compiled = policy_of(weights), policy_of(weights, compiled=True)
    for mine, its in zip(results(compiled, BATCHES[0]), results(plain, BATCHES[0]), strict=True):
        assert_close(mine, its, atol=3e-4, rtol=1e-5)


@compiles
@pytest.mark.usefixtures("traces")
def test_compiled_layers_can_be_sharded(tiny_model, tmp_path):
    plain, compiled = policy_of(tiny_model), policy_of(tiny_model, 0.5, compiled=True)
    assert list(compiled.state_dict()) == list(plain.state_dict())
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        shard(compiled, init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",)), None)
        assert_close(compiled(BATCHES[0]), plain(BATCHES[0]), atol=2e-5, rtol=1e-5)
        compiled(BATCHES[0]).sum().backward()
        plain(BATCHES[0]).sum().backward()
        for mine, its in zip(compiled.parameters(), plain.parameters(), strict=True):
            assert_close(mine.grad.full_tensor(), its.grad, atol=3e-4, rtol=1e-5)
    finally:
        dist.destroy_process_group()


@compiles
@pytest.mark.usefixtures("traces")
def test_a_fit_is_compiled_where_it_is_asked_for(tiny_model, tmp_path):
    path = tmp_path / "rows.jsonl"
    row = {"statement": "aaa", "concepts": ["k"], "rationale": "why"}
    path.write_text(json.dumps(row) + "\n")
    stepped = []
    for torch_compile in (False, True):
        counters.clear()
        sgd = partial(torch.optim.SGD, lr=0.1)
        module = MStepModule(str(tiny_model), sgd, torch_compile=torch_compile)
        data = ComposeDataModule(str(tiny_model), Corpus(str(path)), batch_size=1)
        fit(module, data, tmp_path / str(torch_compile), max_steps=1)
        assert bool(counters["stats"]["unique_graphs"]) == torch_compile
        stepped.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert_close(*stepped, atol=1e-5, rtol=1e-5)


@compiles
@pytest.mark.usefixtures("traces")
def test_layers_share_what_is_compiled_and_rows_of_other_lengths_do(tiny_model):
    counters.clear()
    policy = policy_of(tiny_model, share=True, compiled=True)
    results(policy, BATCHES[0])
    first = counters["stats"]["unique_graphs"]
    assert 0 < first < 8  # of one layer, in parts around attention, and the head
    for length in range(9, 60, 5):
        results(policy, pack([Example(tuple(range(1, length)), (1, 2, 3), (3,)) for _ in "12345"]))
    assert counters["stats"]["unique_graphs"] <= first + 2


@compiles
@pytest.mark.usefixtures("traces")
def test_no_kind_of_batch_is_left_to_run_as_it_is(tiny_model, monkeypatch):
    monkeypatch.setattr(likelihood, "CHUNK", 16)
    monkeypatch.setattr(torch._dynamo.config, "fail_on_recompile_limit_hit", True)
    policy = policy_of(tiny_model, compiled=True)
    for length in (40, 16, 1, 17, 0, 2):
        example = Example((1, 2, 3), tuple(range(1, length + 1)), (length,))
        batch = pack([example if length else ROWS[0].untargeted()])
        results(policy, batch)
        for no_gradient in (torch.no_grad, torch.inference_mode):
            with no_gradient():
                assert len(policy.eval()(batch)) == length
        policy.train()


def test_layers_of_another_name_are_recomputed_all_or_not_at_all():
    lm = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9))
    recompute(lm, True)
    assert lm.is_gradient_checkpointing
    with pytest.raises(ValueError, match="GPT2LMHeadModel are not in a list"):
        recompute(lm, 0.5)


@pytest.mark.parametrize("share", [-0.1, 1.5, 2, None])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=rf"gradient_checkpointing={share}: .* between 0 and 1"):
        check_share(share)


def test_compiling_is_refused_where_weights_come_inside_a_layer():
    pytest.importorskip("deepspeed")
    from cpu_deepspeed import CPUDeepSpeed

    with pytest.raises(ValueError, match=r"torch_compile=true does not go with .* stage 3"):
        check_compiling(CPUDeepSpeed(stage=3), True)
    check_compiling(CPUDeepSpeed(stage=3), False)
    check_compiling(CPUDeepSpeed(stage=2), True)


def test_a_missing_compiler_is_told_with_its_cure(monkeypatch):
    strategy = SingleDeviceStrategy("cpu")
    check_compiling(strategy, True)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    check_compiling(strategy, False)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler.* install g\+\+"):
        check_compiling(strategy, True)
