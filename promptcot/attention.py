"""Causal attention over documents that lie end to end in one row, for any transformers model.

Registered with transformers under the name ``packed``. A document never sees its neighbours:
their boundaries come with the batch, not from guesses about positions or masks. On a GPU the
variable-length kernel that ships with torch does the work, elsewhere one fused call a document.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

NAME = "packed"
HALVES = (torch.bfloat16, torch.float16)
"""What the variable-length kernel computes in."""
_GROUPED: dict[str, Any] = (
    {"enable_gqa": True} if "enable_gqa" in signature(varlen_attn).parameters else {}
)
"""Tells the kernel that query heads share keys. Older versions of torch take them without."""


def packed_attention(  # noqa: PLR0913, PLR0917 -- the signature is transformers'
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    boundaries: Tensor | None = None,
    longest: int = 0,
    visible: Tensor | None = None,
    **kwargs: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Attention as transformers calls it.

    Args:
        module: The attention layer.
        query: [B, H, T, E].
        key: [B, H / groups, T, E].
        value: [B, H / groups, T, E].
        attention_mask: Always None here: the boundaries say it all.
        scaling: Factor of the scores; None for 1 / sqrt(E).
        dropout: Probability of dropping an attention weight.
        boundaries: [D + 1] int32 document starts and the end, with B = 1; None: a row a document.
        longest: Tokens of the longest document, where there are boundaries.
        visible: [B, 1, T, K] bool, what each query may see of the K keys; for decoding alone.
        **kwargs: What else the model passes; a sliding window or a soft cap is refused.

    Returns:
        The mixed values, [B, T, H, E], and no weights.
    """
    _refuse_unsupported(kwargs, key.shape[2])
    if visible is not None:
        mixed = _decode(query, key, value, visible, scaling)
    elif boundaries is None:
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
        )
    elif query.is_cuda and (dtype := _compute_dtype(query)) in HALVES and not dropout:
        q, k, v = (tensor.to(dtype) for tensor in (query, key, value))
        mixed = _varlen(q, k, v, boundaries, longest, scaling)
    else:
        mixed = _one_by_one(query, key, value, boundaries, scaling, dropout)
    return mixed.transpose(1, 2).contiguous(), None


def _compute_dtype(query: Tensor) -> torch.dtype:
    # Rotary positions come in the weights' float32 and lift the query to it, whatever autocast is.
    if torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return query.dtype


def _refuse_unsupported(kwargs: dict[str, Any], length: int) -> None:
    window = kwargs.get("sliding_window")
    if kwargs.get("softcap") is not None or (window is not None and window < length):
        raise ValueError(
            "this model limits its attention by a sliding window or a soft cap "
            f"(sliding_window={window}, softcap={kwargs.get('softcap')}), which packed attention "
            "does not have: choose sequences shorter than the window, or another model"
        )


def _decode(
    query: Tensor, key: Tensor, value: Tensor, visible: Tensor, scaling: float | None
) -> Tensor:
    if query.shape[2] > 1 or query.is_cuda:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=visible, scale=scaling, enable_gqa=True
        )
    # One query a row: the fused CPU kernel is ten times slower here than two small products.
    grouped = query.unflatten(1, (key.shape[1], -1)).squeeze(3) * (
        scaling or query.shape[-1] ** -0.5
    )
    scores = (grouped @ key.transpose(2, 3)).masked_fill(~visible, float("-inf"))
    mixed: Tensor = scores.float().softmax(-1).to(value.dtype) @ value
    return mixed.flatten(1, 2)[:, :, None]


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    boundaries: Tensor,
    longest: int,
    scaling: float | None,
) -> Tensor:
    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    ends = (boundaries, boundaries, longest, longest)
    mixed: Tensor = varlen_attn(  # type: ignore[assignment]  # no statistics asked for
        q, k, v, *ends, scale=scaling, window_size=(-1, 0), **_GROUPED
    )
    return mixed.transpose(0, 1)[None]


@torch.compiler.disable  # type: ignore[untyped-decorator]  # its calls depend on the data
def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    boundaries: Tensor,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    sizes = (boundaries[1:] - boundaries[:-1]).tolist()
    return torch.cat(
        [
            F.scaled_dot_product_attention(
                q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=True
            )
            for q, k, v in zip(
                query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True
            )
        ],
        dim=2,
    )


AttentionInterface.register(NAME, packed_attention)
