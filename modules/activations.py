"""What the layers of a policy keep for the backward pass, and how their operations are run."""

from __future__ import annotations

import os
import shutil

import torch
from lightning.pytorch.strategies import Strategy
from torch import nn
from transformers import PreTrainedModel

from modules import zero
from promptcot.likelihood import TargetLogprobs

COMPILERS = ("g++", "c++", "clang++", "gcc", "cc", "clang")
MOST_GRAPHS = 64
"""That torch may compile of one function."""


def check_share(share: bool | float) -> None:
    """Refuse a share of layers that is none.

    Raises:
        ValueError: A number outside [0, 1].
    """
    if share is None or not 0 <= share <= 1:  # YAML lets null by
        raise ValueError(
            f"gradient_checkpointing={share}: give true, false, or the share of the layers that "
            "are to be recomputed, between 0 and 1"
        )


def recompute(lm: PreTrainedModel, share: bool | float) -> None:
    """Have layers keep only their input, and run a second time in the backward pass.

    They are the first ones: a layer's recomputed activations last until its own backward pass is
    over, by which time those of all later layers are gone.

    Args:
        lm: With or without an adapter.
        share: Of the layers, in [0, 1]; True for all.

    Raises:
        ValueError: This model's layers cannot be told apart.
    """
    if not share:
        return
    lm.gradient_checkpointing_enable({"use_reentrant": False})
    if share == 1:
        return
    layers = _layers(lm)
    for layer in layers[round(share * len(layers)) :]:
        if not hasattr(layer, "gradient_checkpointing"):
            raise ValueError(
                f"gradient_checkpointing={share}: the layers of a {type(lm).__name__} are "
                "recomputed all or not at all: give true or false"
            )
        layer.gradient_checkpointing = False  # type: ignore[assignment]


def check_compiling(strategy: Strategy, is_asked: bool) -> None:
    """Refuse what would be slower than without, or fail.

    Raises:
        ValueError: DeepSpeed's stage 3, whose hooks inside a layer gather its weights; or there is
            no compiler.
    """
    if not is_asked:
        return
    if not any(map(shutil.which, (os.environ.get("CXX", ""), *COMPILERS))):
        raise ValueError(
            "torch_compile=true needs a C++ compiler, and there is none: install g++, or name one "
            "in the environment variable CXX, or leave torch_compile out"
        )
    if zero.slices(strategy):
        raise ValueError(
            "torch_compile=true does not go with DeepSpeed's stage 3, which gathers weights in "
            "the middle of a layer: use --trainer.strategy fsdp2, or leave torch_compile out"
        )


def compile_parts(policy: TargetLogprobs) -> None:
    """Compile decoder layers and head at their first call.

    A layer at a time, and not the model: all share what was compiled for the first, and the hooks
    of FSDP2 and of recomputation stay between them. Called before sharding. The policy must not be
    copied afterwards: a copy's layers would be the original's.
    """
    # one or no target, a part of a row, no gradient, inference: each is compiled apart, and beyond
    # the limit whatever is new would run as it is
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MOST_GRAPHS)
    for layer in _layers(policy.lm):
        # not ``layer.compile()``, which would take those hooks into what is compiled
        layer.forward = torch.compile(layer.forward, dynamic=True)
    policy.chunk = torch.compile(policy.chunk, dynamic=True)  # type: ignore[method-assign]


def _layers(lm: PreTrainedModel) -> nn.ModuleList:
    layers = getattr(lm.get_decoder(), "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(
            f"the layers of a {type(lm).__name__} are not in a list that is called so: leave "
            "torch_compile out, and give gradient_checkpointing true or false"
        )
    return layers
