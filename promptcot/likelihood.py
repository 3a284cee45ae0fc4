"""Log-probabilities of target tokens under a causal language model.

Training and scoring share this one forward pass. Only the target tokens meet the vocabulary,
a chunk at a time, so that no [tokens, vocabulary] tensor is ever whole in memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.quantization_config import QuantizationConfigMixin

from promptcot import attention
from promptcot.adapters import base_of, is_adapter
from promptcot.batches import TokenBatch

CHUNK = 1024
"""Target tokens whose logits are in memory at once."""


def load_causal_lm(
    weights: str,
    dtype: torch.dtype | str,
    quantization: QuantizationConfigMixin | None = None,
) -> PreTrainedModel:
    """The model in a folder (or of a hub name), with packed attention. Runs no code of theirs.

    An adapter's folder gives its base with the adapter merged into the weights.
    """
    logging.disable_progress_bar()  # a second's bar among those that matter
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        base_of(weights),
        dtype=dtype,
        quantization_config=quantization,
        attn_implementation=attention.NAME,
        trust_remote_code=False,
    )
    if is_adapter(weights):
        from peft import PeftModel  # seconds to import

        model = PeftModel.from_pretrained(model, weights).merge_and_unload()
    check_logits(model.config, weights)
    return model


def check_logits(config: PretrainedConfig, weights: str) -> None:
    """Refuse a model whose logits are not the head's alone.

    Raises:
        ValueError: They are scaled or capped.
    """
    for name in ("logits_scaling", "logit_scale", "final_logit_softcapping"):
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(
                f"{weights}: its config transforms the logits ({name}={getattr(config, name)}), "
                "which is not supported: choose another model"
            )


class TargetLogprobs(nn.Module):
    """A causal language model whose output is the log-probability of each target token.

    Under sharding this module, not ``lm``, is the root: the head runs inside its forward.
    """

    def __init__(self, lm: PreTrainedModel) -> None:
        super().__init__()
        self.lm = lm

    def forward(self, batch: TokenBatch) -> Tensor:
        """Natural-log probabilities, [N] float32, in the order of ``batch.targets``."""
        hidden = self.lm.get_decoder()(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            boundaries=batch.boundaries,
            longest=batch.longest,
            use_cache=False,
        ).last_hidden_state
        hidden = hidden.reshape(-1, hidden.shape[-1])[batch.predictors]
        chunks = zip(hidden.split(CHUNK), batch.targets.split(CHUNK), strict=True)
        return torch.cat([self._recomputed(h, t) for h, t in chunks])

    def _recomputed(self, hidden: Tensor, targets: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return self.chunk(hidden, targets)
        logprobs: Tensor = checkpoint(self.chunk, hidden, targets, use_reentrant=False)
        return logprobs

    def chunk(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Log-probabilities of targets, [n] float32, by the states [n, E] that predict them."""
        # float() before the softmax: in bfloat16 its error is 0.01 nats a token (autocast keeps
        # bfloat16 on the CPU), which adds up over a rationale.
        logits: Tensor = self.lm.get_output_embeddings()(hidden).float()
        # One fused pass each way: gather and logsumexp apart cost half as much again with gradient.
        return -F.cross_entropy(logits, targets, reduction="none")


def by_segment(logprobs: Tensor, batch: TokenBatch) -> list[tuple[tuple[float, ...], ...]]:
    """Split a batch's log-probabilities into documents and their segments."""
    documents: list[list[list[float]]] = []
    for value, document, segment in zip(
        logprobs.tolist(), batch.documents.tolist(), batch.segments.tolist(), strict=True
    ):
        while len(documents) <= document:
            documents.append([])
        while len(documents[document]) <= segment:
            documents[document].append([])
        documents[document][segment].append(value)
    return [tuple(map(tuple, segments)) for segments in documents]
