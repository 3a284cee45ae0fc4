"""Self-play: the policy learns to prefer its right solutions to its wrong ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from modules.base import LMModule
from promptcot.batches import TokenBatch
from promptcot.pairs import PairBatch
from promptcot.preference import (
    hinge_loss,
    ipo_loss,
    margins,
    robust_loss,
    sequence_sums,
    sigmoid_loss,
)

Loss = Literal["sigmoid", "robust", "hinge", "ipo"]


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Preference:
    """What a pair costs.

    Args:
        loss: sigmoid (DPO), robust (DPO without bias from flipped pairs), hinge (SLiC) or ipo.
        beta: How dearly the policy pays for leaving the reference; of ipo the larger, the smaller
            the margin that it aims at.
        label_smoothing: Share of pairs that are taken to be the wrong way round, in [0, 0.5). With
            sigmoid it is conservative DPO.
        length_normalised: Compare means over tokens instead of sums. IPO as TRL has it.
        nll_weight: Of an added term, the mean of -log pi over the chosen ones' tokens.

    Source:
        PromptCoT 2.0 gives no beta; 0.1, sums and no further term are the defaults of the trainer
        whose formats its released code writes.
    """

    loss: Loss = "sigmoid"
    beta: float = 0.1
    label_smoothing: float = 0.0
    length_normalised: bool = False
    nll_weight: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta={self.beta}: it must be above 0 and finite, as 0.1 is")
        if not 0 <= self.label_smoothing < 0.5:  # noqa: PLR2004
            raise ValueError(
                f"label_smoothing={self.label_smoothing}: it is a share of pairs that are the "
                "wrong way round, at least 0 and below 0.5"
            )
        if self.label_smoothing and self.loss in ("hinge", "ipo"):
            raise ValueError(
                f"label_smoothing={self.label_smoothing} has no meaning for the loss "
                f"{self.loss}: set it to 0, or the loss to sigmoid or robust"
            )
        if not 0 <= self.nll_weight < math.inf:
            raise ValueError(
                f"nll_weight={self.nll_weight}: it must be 0 or more, and finite; a negative one "
                "would make the chosen solutions less likely"
            )

    def of_margins(self, margin: Tensor) -> Tensor:
        """The loss of each margin in nats, [P]."""
        match self.loss:
            case "sigmoid":
                return sigmoid_loss(margin, self.beta, self.label_smoothing)
            case "robust":
                return robust_loss(margin, self.beta, self.label_smoothing)
            case "hinge":
                return hinge_loss(margin, self.beta)
            case "ipo":
                return ipo_loss(margin, self.beta)

    def losses(self, logprobs: Tensor, batch: PairBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of each pair, [P], and what is worth watching, by name.

        Args:
            logprobs: Of the targets under the policy, with gradient, [N] float32.
            batch: Where they come from.
        """
        documents, count = batch.sequences.documents, len(batch.lengths)
        log_ratios = logprobs - batch.reference_logprobs
        ratios = sequence_sums(log_ratios, documents, count)
        if self.length_normalised:
            ratios = ratios / batch.lengths
        margin = margins(ratios, batch.chosen, batch.rejected)
        loss = self.of_margins(margin)
        nll = -sequence_sums(logprobs, documents, count)[batch.chosen]
        # so that a mean over the step's pairs is one over its chosen tokens
        share = batch.sequences.denominator / max(1.0, batch.chosen_denominator)
        is_chosen = documents % 2 == 0
        figures = {
            "preference": loss.detach(),
            "margin": margin.detach(),
            "accuracy": (margin > 0).float(),
            "chosen_log_ratio": log_ratios.detach()[is_chosen],
            "rejected_log_ratio": log_ratios.detach()[~is_chosen],
            "chosen_nll": -logprobs.detach()[is_chosen],
            "rejected_nll": -logprobs.detach()[~is_chosen],
        }
        return loss + self.nll_weight * share * nll, figures


class DPOModule(LMModule):
    """Direct preference optimisation, and what is near to it.

    Logs, as means over a step's pairs, ``dpo/loss``, ``dpo/preference`` (the loss without an added
    -log pi), ``dpo/margin`` (nats) and ``dpo/accuracy`` (share of margins above 0), and as means
    over its tokens, in nats, ``dpo/chosen_log_ratio`` and ``dpo/rejected_log_ratio`` (log pi - log
    reference), ``dpo/chosen_nll`` and ``dpo/rejected_nll``. Where both log-ratios fall, the
    policy moves away from what it was to learn.

    Args:
        weights: Folder (or hub name) of the weights to start from.
        optimizer: Called with the trainable parameters.
        preference: The loss of a pair.
        kwargs: See ``LMModule``.

    Source:
        Rafailov et al. 2023, arXiv:2305.18290; PromptCoT 2.0 (arXiv 2509.19894), section 3.4.2.
    """

    name = "dpo"

    def __init__(
        self,
        weights: str,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        preference: Preference = Preference(),
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(weights, optimizer, **kwargs)
        self.preference = preference

    def training_step(self, batch: PairBatch | TokenBatch, batch_idx: int) -> Tensor:
        if isinstance(batch, TokenBatch):
            raise ValueError(
                "DPO compares pairs, and the data are single sequences: set data to class_path "
                "datamodules.PairDataModule"
            )
        logprobs = -self.nll(batch.sequences)
        loss, figures = self.preference.losses(logprobs, batch)
        self.log_means({"loss": loss, **figures}, batch_idx)
        return loss.sum() / batch.sequences.denominator
