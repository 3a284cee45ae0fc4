"""Operations of a step, against those that torch counts as it takes it."""

from random import Random

import pytest
import torch
from tiny import save_tiny_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from modules.adapters import LoRA, adapt
from promptcot.batches import pack
from promptcot.flops import StepFlops, step_flops
from promptcot.likelihood import TargetLogprobs, load_causal_lm
from promptcot.tokens import Example


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_tiny_model(folder)
    return str(folder)


def matrix_operations(policy, batch):
    """Of products of matrices outside of attention, forward and backward."""
    counter = FlopCounterMode(display=False)
    with counter:
        policy(batch).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    return sum(
        count for op, count in counts.items() if str(op) in {"aten.mm", "aten.addmm", "aten.bmm"}
    )


@pytest.mark.parametrize("adapter", [None, LoRA(rank=4)])
def test_matrices_are_counted_as_torch_counts_them(weights, adapter):
    lm = load_causal_lm(weights, torch.float32)
    lm = adapt(lm, weights, adapter)
    draw = Random(0).randrange
    rows = [
        Example(tuple(draw(20) for _ in range(p)), tuple(draw(20) for _ in range(n)), (n,))
        for p, n in ((6, 6), (3, 4), (9, 21))
    ]
    batch = pack(rows)
    flops = step_flops(lm)
    expected = flops.of(batch.tokens.numel(), len(batch.targets), 0)
    head = 2 * lm.get_output_embeddings().weight.numel() * len(batch.targets)  # computed twice
    if adapter is not None:
        # nothing is passed on to the embeddings, which are frozen: q, k and v of the first layer
        layer = lm.get_decoder().layers[0].self_attn
        for module in (layer.q_proj, layer.k_proj, layer.v_proj):
            weight = module.base_layer.weight
            expected -= 2 * weight.numel() * batch.tokens.numel()
            expected -= 2 * 4 * weight.shape[1] * batch.tokens.numel()  # through A
    assert matrix_operations(TargetLogprobs(lm), batch) == expected + head


def test_attention_has_half_of_the_square_three_times():
    # one head of width 2 and one layer: 2 products x 2 operations x 2 wide x 9 pairs / 2, x 3
    assert StepFlops(0, 0, a_pair=3 * 2 * 2).of(0, 0, 9) == 3 * (2 * 2 * 2 * 9) / 2


def test_a_layer_of_experts_is_not_counted(weights):
    lm = load_causal_lm(weights, torch.float32)
    lm.experts = nn.Parameter(torch.zeros(2, 3, 4))
    assert step_flops(lm) is None
