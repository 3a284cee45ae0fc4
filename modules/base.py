"""What the objectives share: a causal language model, its optimizer, a token-exact loss."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.strategies import DeepSpeedStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.utils import clip_grads_with_norm_
from torchmetrics import MeanMetric
from transformers import PreTrainedModel

from modules import activations, eight_bit, gradients, zero
from modules.adapters import LoRA, adapt, is_adapted, load_base, trained
from modules.gradients import SkippedSteps
from modules.parameter_groups import parameter_groups
from modules.schedules import Schedule, check_end, keep_peaks, progress, set_rates
from modules.sharded_loading import fill, without_weights
from modules.step_means import StepMeans
from modules.strategies import sent_dtype, shard
from modules.whole_steps import check_steps, check_whole
from promptcot.adapters import is_adapter
from promptcot.batches import TokenBatch
from promptcot.likelihood import TargetLogprobs, by_segment
from promptcot.protocols import SegmentLogprobs
from promptcot.weights import check_weights

SKIPPED = "steps_without_finite_gradient"
"""Name of their counts in a checkpoint; DeepSpeed has a ``skipped_steps`` of its own there."""


class LMModule(LightningModule):
    """A causal language model trained on the likelihood of target tokens.

    The loss of a micro-batch is its sum over target tokens divided by the batch's
    ``denominator``: the target tokens of the whole optimizer step over all micro-batches and
    ranks, divided by their number. Lightning's mean over micro-batches and the strategy's mean
    over ranks then give exactly the mean over tokens.

    Args:
        weights: Folder (or hub name) of the weights to start from.
        optimizer: Called with groups of the trainable parameters, of which matrices alone have
            its weight decay.
        gradient_checkpointing: Trade a second forward pass for activation memory: of all layers,
            or of a share of them between 0 and 1.
        torch_compile: Compile the layers: faster steps on a GPU, half a minute at the start.
        adapter: Train a LoRA instead of all weights. Where ``weights`` is the folder of one, it
            is that one which is trained, with or without this.
        schedule: Of the learning rate; null for one that stays as it is. With it
            ``<objective>/rate`` is logged.
        max_skipped: Steps in a row whose gradient is not finite, at the last of which the fit
            stops. Before, such a step is skipped: weights and optimizer stay as they are.

    Logs ``<objective>/grad_norm``, before clipping, and ``<objective>/skipped_steps``, all so far.
    """

    name: str
    """Of the objective, before the slash in what it logs."""
    policy: nn.Module

    def __init__(  # noqa: PLR0913
        self,
        weights: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        *,
        gradient_checkpointing: bool | float = False,
        torch_compile: bool = False,
        adapter: LoRA | None = None,
        schedule: Schedule | None = None,
        max_skipped: int = 3,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.optimizer = optimizer
        activations.check_share(gradient_checkpointing)
        self.gradient_checkpointing = gradient_checkpointing
        self.torch_compile = torch_compile
        self.adapter = adapter
        self.schedule = schedule
        self.skipped_steps = SkippedSteps(max_skipped)
        self.held_out_loss = MeanMetric()
        self.step_means = StepMeans()

    def setup(self, stage: str) -> None:
        check_weights(self.weights)
        if stage == "fit":
            check_steps(self.trainer)
            if self.schedule is not None:
                check_end(self.trainer)
        zero.prepare(self.trainer.strategy)
        zero.check_adapter(self.trainer.strategy, self.weights, self.adapter)
        activations.check_compiling(self.trainer.strategy, self.torch_compile)

    def configure_model(self) -> None:
        if hasattr(self, "policy"):  # Lightning calls this hook once per stage
            return
        mesh, precision = self.device_mesh, str(self.trainer.precision)
        is_whole = mesh is None or self.adapter is not None or is_adapter(self.weights)
        empty = None if is_whole else without_weights(self.weights)
        lm = self._loaded(precision) if empty is None else empty
        activations.recompute(lm, self.gradient_checkpointing)
        self.strict_loading = not is_adapted(lm)  # checkpoints go without a frozen base
        policy = TargetLogprobs(lm).train()  # transformers hands it over in eval mode
        if self.torch_compile:
            activations.compile_parts(policy)
        shard(policy, mesh, sent_dtype(precision, lm))
        if empty is not None:
            fill(policy, empty, self.weights, self.trainer.strategy.root_device)
        self.policy = policy

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.strict_loading:
            names = trained(self)
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if name in names}
        checkpoint[SKIPPED] = self.skipped_steps.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if SKIPPED in checkpoint:  # weights to be validated may come from elsewhere
            self.skipped_steps.load_state_dict(checkpoint[SKIPPED])

    def on_fit_start(self) -> None:
        zero.keep_precision(self.trainer.strategy, self, self.weights, "policy.lm.")

    def on_train_start(self) -> None:
        zero.divide_once(self.trainer.strategy)

    def on_train_epoch_start(self) -> None:
        check_whole(self.trainer)

    def on_train_batch_start(self, batch: TokenBatch, batch_idx: int) -> None:
        # dropout, where there is any, draws the same whether or not the fit was interrupted
        place = (self.trainer.current_epoch, batch_idx, self.trainer.global_rank)
        torch.manual_seed(_seed(*place))
        if self.schedule is not None and batch_idx % self.trainer.accumulate_grad_batches == 0:
            factor = self.schedule.factor(*progress(self.trainer, batch_idx))
            self.log(f"{self.name}/rate", set_rates(self.trainer.optimizers, factor))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.optimizer(parameter_groups(self.parameters()))
        eight_bit.prepare(optimizer, self, self.trainer.strategy)
        keep_peaks(optimizer)
        return optimizer

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip or skip, by the gradient of a whole step. DeepSpeed's engine does so on its own."""
        if isinstance(self.trainer.strategy, DeepSpeedStrategy):
            return
        parameters = gradients.parameters_of(optimizer)
        norm = gradients.total_norm(parameters)
        if self._is_skipped(norm):
            gradients.drop(parameters)
        elif gradient_clip_algorithm == "value" or gradients.searches_scale(self.trainer):
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val:
            clip_grads_with_norm_(parameters, gradient_clip_val, norm)

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        strategy = self.trainer.strategy
        step = partial(super().optimizer_step, *args, **kwargs)
        if not isinstance(strategy, DeepSpeedStrategy):
            step()
        elif (norm := zero.step_norm(strategy, step)) is not None:
            self._is_skipped(norm)

    def nll(self, batch: TokenBatch) -> Tensor:
        """Negative log-probability of each target token in nats, [N] float32."""
        logprobs: Tensor = self.policy(batch)
        return -logprobs

    def log_means(self, values: Mapping[str, Tensor], batch_idx: int) -> None:
        """Log the means over an optimizer step's tokens, once it is whole.

        Args:
            values: Of a micro-batch's tokens, [N] each, by quantity; ``loss`` is in the progress
                bar.
            batch_idx: Number of the micro-batch in its epoch.
        """
        self.step_means.add(values)
        if (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0:
            for quantity, mean in self.step_means.take(self.trainer).items():
                self.log(f"{self.name}/{quantity}", mean, prog_bar=quantity == "loss")

    def score(self, batch: TokenBatch) -> list[SegmentLogprobs]:
        """Each sequence's log-probabilities as of now, by segment; for use between epochs.

        Under sharded weights every rank must call it, with as many batches.
        """
        was_training = self.policy.training
        self.policy.eval()
        with torch.no_grad(), self.trainer.precision_plugin.forward_context():
            logprobs: Tensor = self.policy(batch.to(self.device))
        self.policy.train(was_training)
        if isinstance(self.policy, FSDPModule):
            self.policy.reshard()  # else the root stays gathered until the next backward pass
        return by_segment(logprobs, batch)

    def validation_step(self, batch: TokenBatch, batch_idx: int) -> None:
        self._log_held_out("val_loss", batch)

    def test_step(self, batch: TokenBatch, batch_idx: int) -> None:
        self._log_held_out("test_loss", batch)

    def predict_step(self, batch: TokenBatch, batch_idx: int) -> list[SegmentLogprobs]:
        """Log-probabilities of each sequence's target tokens in nats, by segment."""
        return by_segment(-self.nll(batch), batch)

    def _loaded(self, precision: str) -> PreTrainedModel:
        """The model with its weights and, where one is trained, an adapter."""
        strategy = self.trainer.strategy
        with zero.sliced_loading(strategy):
            lm = load_base(self.weights, self.adapter, precision)
        with zero.whole_parameters(strategy):
            return adapt(lm, self.weights, self.adapter)

    def _is_skipped(self, norm: Tensor | float) -> bool:
        """Log a gradient's norm, and whether its step is to be skipped. Waits for the device."""
        self.log(f"{self.name}/grad_norm", norm)
        if gradients.searches_scale(self.trainer):
            return False
        skipped = self.skipped_steps.count(float(norm), self.trainer.global_step)
        self.log(f"{self.name}/skipped_steps", float(self.skipped_steps.total))
        return skipped

    def _log_held_out(self, quantity: str, batch: TokenBatch) -> None:
        """The mean over all target tokens of the rows, whatever batches they came in."""
        nll = self.nll(batch)
        if len(nll):
            self.held_out_loss.update(nll.mean(), weight=len(nll))
        self.log(f"{self.name}/{quantity}", self.held_out_loss, prog_bar=True, batch_size=len(nll))


def _seed(*place: int) -> int:
    """Of one micro-batch of one rank."""
    return Random(f"{os.environ.get('PL_GLOBAL_SEED', 0)}/{place}").getrandbits(63)
