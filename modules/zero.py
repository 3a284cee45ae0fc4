"""DeepSpeed's ZeRO, by Lightning's own names: ``--trainer.strategy deepspeed_stage_2`` or ``_3``.

Lightning runs it; here is what a module and its export need besides. At stage 3 every rank has a
slice of each parameter, from the moment on at which the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeGuard

import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, Strategy
from safetensors import safe_open
from torch import Tensor, nn

from modules.adapters import LoRA, is_dora


def prepare(strategy: Strategy) -> None:
    """Settings that Lightning's configuration leaves open. Called before the model is built.

    Raises:
        ValueError: Of DeepSpeed's stage 0.
    """
    if not isinstance(strategy, DeepSpeedStrategy):
        return
    assert isinstance(strategy.config, dict)
    if not strategy.config.get("zero_optimization", {}).get("stage"):
        raise ValueError(
            "DeepSpeed's stage 0 shares nothing out, and does not look at its gradients: use "
            "--trainer.strategy ddp, or deepspeed_stage_2"
        )
    strategy.exclude_frozen_parameters = True  # from checkpoints
    # Else Lightning asks for the training data to learn it, before there is a policy to make them.
    strategy.config.setdefault("train_micro_batch_size_per_gpu", 1)
    # The optimizer is the YAML's, also where its states live in the memory of the host.
    strategy.config.setdefault("zero_force_ds_cpu_optimizer", False)


def check_adapter(strategy: Strategy, weights: str, lora: LoRA | None) -> None:
    """Refuse what would train on noise without a word, or fail with a tensor's shape.

    Args:
        strategy: Of the trainer.
        weights: Of a model, or an adapter that is trained on.
        lora: How an adapter is trained.

    Raises:
        ValueError: Four-bit weights would be sliced, which leaves their scales behind; or DoRA
            would look at weights that are sliced.
    """
    if not slices(strategy):
        return
    if lora is not None and lora.base == "nf4":
        raise ValueError(
            "DeepSpeed's stage 3 cannot slice a base model of four bits (adapter.base=nf4): "
            "use --trainer.strategy fsdp2 or deepspeed_stage_2, or --model.adapter.base bfloat16"
        )
    if is_dora(weights, lora):
        raise ValueError(
            "DoRA measures whole matrices, and DeepSpeed's stage 3 has slices of them "
            "(adapter.dora=true): use --trainer.strategy fsdp2 or deepspeed_stage_2, or a LoRA"
        )


def divide_once(strategy: Strategy) -> None:
    """Let only Lightning divide a loss by the micro-batches of a step. Called before training.

    DeepSpeed's engine would divide it once more, which a clipped gradient hides.
    """
    if isinstance(strategy, DeepSpeedStrategy):
        engine = strategy.deepspeed_engine
        engine.backward = partial(engine.backward, scale_wrt_gas=False)


def keep_precision(strategy: Strategy, module: nn.Module, weights: str, prefix: str) -> None:
    """Have the optimizer start from the weights as they are on disk. Called before a checkpoint is.

    DeepSpeed makes its float32 copy from weights that it has rounded to bfloat16. What an earlier
    fit had learned in steps smaller than that would be lost, and the first steps of this one would
    all round back to where it began.

    Args:
        strategy: Of the trainer, after it has set up its engine.
        module: That is trained.
        weights: Folder of a model or an adapter; other weights, such as a hub's, are left rounded.
        prefix: Of the names of its parameters in the module.
    """
    if not isinstance(strategy, DeepSpeedStrategy):
        return
    from deepspeed.utils import safe_set_full_fp32_param

    trained = {
        name.replace(".default.", "."): parameter  # PEFT's name of an adapter, not in its files
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and parameter.dtype != torch.float32
    }
    for path in sorted(Path(weights).glob("*.safetensors")) if trained else ():
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 -- it is no mapping
                parameter = trained.get(prefix + name)
                if parameter is not None and file.get_slice(name).get_dtype() != "BF16":
                    value = file.get_tensor(name).to(strategy.root_device, torch.float32)
                    safe_set_full_fp32_param(parameter, value)


def step_norm(strategy: DeepSpeedStrategy, step: Callable[[], None]) -> Tensor | float | None:
    """Let the engine have a micro-batch; the gradient's norm if this ended an optimizer step.

    The engine clips by it, and leaves out a step whose gradient is not finite: at stages 1 to 3,
    in float32 and bfloat16, weights, moments and counts stay as they were. It says then that the
    norm is infinite, also where it is not a number, and the same on every rank.

    Args:
        strategy: Whose engine it is.
        step: Lightning's hook, that calls the engine.
    """
    engine = strategy.deepspeed_engine
    before = engine.global_steps
    step()
    norm: Tensor | float | None = engine.get_global_grad_norm()
    return norm if engine.global_steps > before else None


@contextmanager
def sliced_loading(strategy: Strategy) -> Iterator[None]:
    """Within it transformers loads a model slice by slice at stage 3.

    Only within it: a model that one rank opens alone, as an engine, must stay whole.
    """
    if not slices(strategy):
        yield
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig, unset_hf_deepspeed_config

    kept = HfDeepSpeedConfig(strategy.config)  # transformers holds no more than a weak reference
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        del kept


@contextmanager
def whole_parameters(strategy: Strategy) -> Iterator[None]:
    """Within it new parameters are made whole at stage 3, so that they can be initialized.

    DeepSpeed slices them when training starts, and gives every rank those of rank 0.
    """
    if not slices(strategy):
        yield
        return
    from deepspeed.runtime.zero.partition_parameters import (
        restore_init_context,
        shutdown_init_context,
    )

    shutdown_init_context()
    try:
        yield
    finally:
        restore_init_context()


def trained_parameters(module: nn.Module, keep: bool) -> dict[str, Tensor]:
    """What the optimizer trains, whole and in its own float32. Every rank must call this.

    The module itself may hold it rounded to the precision it computes in.

    Args:
        module: Trained by DeepSpeed at any stage.
        keep: Return it, on the CPU; the other ranks only take part.
    """
    from deepspeed.utils import safe_get_full_fp32_param

    state: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            value = safe_get_full_fp32_param(parameter)
            if keep:
                state[name] = value.to("cpu", torch.float32, copy=True)
    return state


def slices(strategy: Strategy) -> TypeGuard[DeepSpeedStrategy]:
    """Whether each rank has a slice of every parameter: stage 3."""
    return isinstance(strategy, DeepSpeedStrategy) and strategy.zero_stage_3
