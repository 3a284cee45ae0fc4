"""How fast a fit is, where its time goes, and what memory it takes."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from lightning.fabric.utilities.throughput import get_available_flops
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.refresh import RefreshTrainingSet
from promptcot.batches import TokenBatch
from promptcot.flops import StepFlops, step_flops

GIB = 1 << 30
DENSE_16 = {"H200": 989.4e12, "H100 NVL": 835.5e12}
"""Operations a second of 16 bits, by a part of the GPU's name, from the vendor's datasheets.

Lightning's table does not know the name of the first, and has both with sparsity, which is twice.
"""


class Throughput(Callback):
    """Logs some numbers at each optimizer step that the trainer logs.

    - ``throughput/tokens_per_s``: prompt and target tokens of all ranks over the time of training
      alone, since the last such step;
    - ``throughput/mfu``: share of the GPU's peak that training without recomputation would need in
      that time, the mean over ranks (model FLOPs utilization); where the peak of the GPU and the
      operations of the model are known;
    - ``throughput/generating``: share of the fit's time so far that went into rounds of data;
    - ``throughput/peak_gib``: most memory so far, of the largest rank: the GPU's where there is
      one, else the process's.
    """

    def __init__(self) -> None:
        self._started = 0.0
        self._tokens = 0
        self._training_s = 0.0
        self._step_started: float | None = None
        """None between two optimizer steps."""
        self._flops: StepFlops | None = None
        self._peak_flops: float | None = None
        self._done_flops = torch.zeros((), dtype=torch.float64)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.perf_counter()
        self._tokens, self._training_s, self._step_started = 0, 0.0, None
        if pl_module.device.type == "cuda":
            self._flops = step_flops(pl_module.policy.lm)  # type: ignore[union-attr, arg-type]
            self._peak_flops = peak_flops(pl_module.device, str(trainer.precision))
            self._done_flops = self._done_flops.to(pl_module.device)

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        if self._step_started is None:
            self._step_started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        logs = trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        ends_step = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if ends_step:
            if logs and pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)  # else the time is that of queueing
            # the whole step: where the device is behind, handing over a batch waits for the last
            self._training_s += time.perf_counter() - (self._step_started or 0.0)
            self._step_started = None
        sequences = batch if isinstance(batch, TokenBatch) else batch.sequences
        self._tokens += sequences.tokens.numel()
        if self._flops is not None:  # summed on the device, which is not waited for
            squares = _squares(sequences).to(self._done_flops)
            count, targets = sequences.tokens.numel(), len(sequences.targets)
            self._done_flops += self._flops.of(count, targets, 0) + self._flops.a_pair * squares
        if logs and ends_step:
            self._log(trainer, pl_module)

    def _log(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        refreshing = [
            callback for callback in callbacks if isinstance(callback, RefreshTrainingSet)
        ]
        generating = sum(callback.seconds for callback in refreshing)
        share = generating / (time.perf_counter() - self._started)
        rate = self._tokens / self._training_s
        distributed = trainer.world_size > 1
        pl_module.log("throughput/tokens_per_s", rate, sync_dist=distributed, reduce_fx="sum")
        pl_module.log("throughput/generating", share)
        if self._flops is not None and self._peak_flops:
            mfu = float(self._done_flops) / self._training_s / self._peak_flops
            pl_module.log("throughput/mfu", mfu, sync_dist=distributed)
            self._done_flops.zero_()
        peak = peak_gib(pl_module.device)
        pl_module.log("throughput/peak_gib", peak, sync_dist=distributed, reduce_fx="max")
        self._tokens, self._training_s = 0, 0.0


def _squares(batch: TokenBatch) -> torch.Tensor:
    """The sum over documents of their length squared."""
    if batch.boundaries is None:
        rows, width = batch.tokens.shape
        return torch.tensor(rows * width**2)
    return batch.boundaries.diff().double().square().sum()


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Dense operations a second that the GPU can do at most; None where that is not known.

    Args:
        device: A GPU.
        precision: Of the trainer, such as "bf16-mixed".
    """
    if "16" not in precision:
        return get_available_flops(device, torch.float32)
    name = torch.cuda.get_device_name(device)
    for chip, peak in DENSE_16.items():
        if chip in name:
            return peak
    return get_available_flops(device, torch.bfloat16 if "bf" in precision else torch.float16)


def peak_gib(device: torch.device) -> float:
    """Most memory that this process has held on a device, in GiB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / GIB
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
