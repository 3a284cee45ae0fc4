"""How many floating-point operations a step of training takes at least."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

EXPERTS = 3
"""Dimensions of a parameter from which it is the matrices of several experts."""


@dataclass(frozen=True, slots=True)
class StepFlops:
    """Operations of a forward and a backward pass, by what they grow with.

    A product and its sum are two.

    Args:
        a_token: Of all matrices but the head.
        a_target: Of the head, which meets target tokens alone.
        a_pair: Of a pair of tokens of one document, each token with itself included and each pair
            counted in both orders: attention, of which causality leaves half.
    """

    a_token: float
    a_target: float
    a_pair: float

    def of(self, tokens: float, targets: float, pairs: float) -> float:
        """Of a batch.

        Args:
            tokens: Of prompts and targets.
            targets: That have a loss.
            pairs: The sum over documents of their length squared.
        """
        return self.a_token * tokens + self.a_target * targets + self.a_pair * pairs


def step_flops(lm: PreTrainedModel) -> StepFlops | None:
    """Of a decoder of dense layers; None where there are experts, of which only some are used.

    What gradient checkpointing computes twice counts once, so that time over these operations
    tells what it costs. A frozen matrix has no gradient of its own, but passes one on.

    Source:
        Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B, who count the whole square of
        attention, and the head for every token.
    """
    shapes = (getattr(value, "ds_shape", value.shape) for value in lm.parameters())
    if any(len(shape) >= EXPERTS for shape in shapes):
        return None
    head: nn.Module = lm.get_output_embeddings()
    linear = [module for module in lm.modules() if isinstance(module, nn.Linear)]
    config = lm.config.get_text_config()
    heads = config.num_attention_heads
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    return StepFlops(
        a_token=sum(_linear_flops(module) for module in linear if module is not head),
        a_target=sum(_linear_flops(module) for module in linear if module is head),
        # forward: two products of 2 operations over half the square; backward: twice that
        a_pair=3 * 2 * width * config.num_hidden_layers,
    )


def _linear_flops(module: nn.Linear) -> float:
    """Of one token."""
    passes = 3 if module.weight.requires_grad else 2
    return 2.0 * passes * module.in_features * module.out_features
