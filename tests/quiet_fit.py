"""Fits in the test's own process, on the CPU and without a word; plain log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from transformers import PreTrainedModel


def quiet_trainer(folder: Path, **settings: Any) -> Trainer:
    """A trainer without logger, bar and summary, unless the settings say otherwise."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"accelerator": "cpu", "default_root_dir": folder, **quiet, **settings})


def fit(
    module: LightningModule,
    data: LightningDataModule,
    folder: Path,
    accumulate: int = 1,
    epochs: int = 1,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> Trainer:
    """A fit without checkpoints, unless the settings say otherwise, and the trainer that did it."""
    trainer = quiet_trainer(
        folder,
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        **{"enable_checkpointing": False, **settings},
    )
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return trainer


def plain_logprobs(
    lm: PreTrainedModel, prompt: Sequence[int], target: Sequence[int]
) -> torch.Tensor:
    """Of each target token in nats, with gradient, by transformers and one sequence alone."""
    logits = lm(torch.tensor([[*prompt, *target]])).logits[0].log_softmax(-1)
    return torch.stack([logits[len(prompt) - 1 + i, token] for i, token in enumerate(target)])
