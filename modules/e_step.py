"""E-step: the rationale model q(z | c, x) learns from the rationales that it sampled."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from modules.base import LMModule
from modules.estimators import PolicyGradient
from promptcot.batches import TokenBatch
from promptcot.rollouts import RolloutBatch


class EStepModule(LMModule):
    """Maximum likelihood of the best of n rationales, or a policy gradient on all of them.

    Logs ``e_step/loss``, the mean over target tokens in nats: of -log q(z | c, x), or of the
    policy gradient's loss, and then also ``e_step/ratio`` to the sampled policy,
    ``e_step/outside_clip`` (share of ratios), ``e_step/kl`` (k3, where there is a reference),
    ``e_step/entropy`` (estimated by -log q of the sampled tokens) and ``e_step/sampler_weight``.

    Args:
        weights: Folder (or hub name) of the weights to start from.
        optimizer: Called with the trainable parameters.
        estimator: Null for maximum likelihood of the rows, which with recipe ``Rationales`` is
            best-of-n, and in the cold start imitation of the teacher. A policy gradient needs
            ``RolloutDataModule`` and recipe ``Rollouts``.
        kwargs: See ``LMModule``.

    Source:
        PromptCoT 2.0 (arXiv 2509.19894), section 3.3.2: best of 8 by reward, then fine-tuning.
    """

    name = "e_step"

    def __init__(
        self,
        weights: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        estimator: PolicyGradient | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(weights, optimizer, **kwargs)
        self.estimator = estimator

    def training_step(self, batch: TokenBatch | RolloutBatch, batch_idx: int) -> Tensor:
        if isinstance(batch, RolloutBatch):
            return self._policy_gradient(batch, batch_idx)
        if self.estimator is not None:
            raise ValueError(
                "the estimator is a policy gradient, which learns from rollouts: set data to "
                "class_path datamodules.RolloutDataModule (and the recipe to Rollouts)"
            )
        nll = self.nll(batch)
        self.log_means({"loss": nll}, batch_idx)
        return nll.sum() / batch.denominator

    def _policy_gradient(self, batch: RolloutBatch, batch_idx: int) -> Tensor:
        if self.estimator is None:
            raise ValueError(
                "the data are rollouts, good and bad ones, and the estimator is null, which would "
                "imitate them all: set model.init_args.estimator, or data to class_path "
                "datamodules.RationaleDataModule"
            )
        logprobs = -self.nll(batch.sequences)
        loss, figures = self.estimator.loss(logprobs, batch)
        self.log_means({"loss": loss, **figures}, batch_idx)
        return loss.sum() / batch.sequences.denominator
