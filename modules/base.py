"""What the objectives share: a causal language model, its optimizer, a token-exact loss."""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import Random
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torchmetrics import MeanMetric

from modules.adapters import LoRA, adapt, is_adapted, load_base, trained
from modules.schedules import Schedule, check_end, progress
from modules.step_means import StepMeans
from modules.strategies import shard
from modules.zero import check_base, divide_once, prepare, sliced_loading, whole_parameters
from promptcot.batches import TokenBatch
from promptcot.likelihood import TargetLogprobs, by_segment
from promptcot.protocols import SegmentLogprobs
from promptcot.weights import check_weights

PEAK = "initial_lr"
"""Name, in an optimizer's groups, of the rate that a schedule multiplies."""


class LMModule(LightningModule):
    """A causal language model trained on the likelihood of target tokens.

    The loss of a micro-batch is its sum over target tokens divided by the batch's
    ``denominator``: the target tokens of the whole optimizer step over all micro-batches and
    ranks, divided by their number. Lightning's mean over micro-batches and the strategy's mean
    over ranks then give exactly the mean over tokens.

    Args:
        weights: Folder (or hub name) of the weights to start from.
        optimizer: Called with the trainable parameters.
        gradient_checkpointing: Trade a second forward pass for activation memory.
        adapter: Train a LoRA instead of all weights. Where ``weights`` is the folder of one, it
            is that one which is trained, with or without this.
        schedule: Of the learning rate; null for one that stays as it is. With it
            ``<objective>/rate`` is logged.
    """

    name: str
    """Of the objective, before the slash in what it logs."""
    policy: nn.Module

    def __init__(
        self,
        weights: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        gradient_checkpointing: bool = False,
        adapter: LoRA | None = None,
        schedule: Schedule | None = None,
    ) -> None:
        super().__init__()
        self.weights = weights
        self.optimizer = optimizer
        self.gradient_checkpointing = gradient_checkpointing
        self.adapter = adapter
        self.schedule = schedule
        self.held_out_loss = MeanMetric()
        self.step_means = StepMeans()

    def setup(self, stage: str) -> None:
        check_weights(self.weights)
        if stage == "fit" and self.schedule is not None:
            check_end(self.trainer)
        prepare(self.trainer.strategy)
        if self.adapter is not None:
            check_base(self.trainer.strategy, self.adapter.base)

    def configure_model(self) -> None:
        if hasattr(self, "policy"):  # Lightning calls this hook once per stage
            return
        strategy = self.trainer.strategy
        with sliced_loading(strategy):
            lm = load_base(self.weights, self.adapter, str(self.trainer.precision))
        with whole_parameters(strategy):
            lm = adapt(lm, self.weights, self.adapter)
        if self.gradient_checkpointing:
            lm.gradient_checkpointing_enable({"use_reentrant": False})
        self.strict_loading = not is_adapted(lm)  # checkpoints go without a frozen base
        policy = TargetLogprobs(lm).train()  # transformers hands it over in eval mode
        shard(policy, self.device_mesh)
        self.policy = policy

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if not self.strict_loading:
            names = trained(self)
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {name: state[name] for name in state if name in names}

    def on_train_start(self) -> None:
        divide_once(self.trainer.strategy)

    def on_train_batch_start(self, batch: TokenBatch, batch_idx: int) -> None:
        # dropout, where there is any, draws the same whether or not the fit was interrupted
        place = (self.trainer.current_epoch, batch_idx, self.trainer.global_rank)
        torch.manual_seed(_seed(*place))
        if self.schedule is not None and batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._set_rate(self.schedule.factor(*progress(self.trainer, batch_idx)))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        for group in optimizer.param_groups:
            group.setdefault(PEAK, group["lr"])  # a checkpoint holds it with the group
        return optimizer

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

    def _set_rate(self, factor: float) -> None:
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = factor * group[PEAK]
            self.log(f"{self.name}/rate", optimizer.param_groups[0]["lr"])

    def _log_held_out(self, quantity: str, batch: TokenBatch) -> None:
        """The mean over all target tokens of the rows, whatever batches they came in."""
        nll = self.nll(batch)
        if len(nll):
            self.held_out_loss.update(nll.mean(), weight=len(nll))
        self.log(f"{self.name}/{quantity}", self.held_out_loss, prog_bar=True, batch_size=len(nll))


def _seed(*place: int) -> int:
    """Of one micro-batch of one rank."""
    return Random(f"{os.environ.get('PL_GLOBAL_SEED', 0)}/{place}").getrandbits(63)
