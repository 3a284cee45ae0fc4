"""Sampling from a causal language model, a batch at a time, each row with its own randomness.

A plain loop over a key/value cache. Prompts are read once however many completions they get, and
rows leave the batch when they end. A row draws from its own stream of numbers, so what it gets
depends on its seed and its logits, not on its neighbours.
Legend: P prompts, R = P * n rows still running, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from promptcot.engines.kv_cache import BlockCache, fill_gaps
from promptcot.protocols import Sampling

GROUP = 128
"""Tokens whose probabilities are summed before any of them is looked at."""


@dataclass(slots=True)
class Decoded:
    """Tokens of one completion, its end token left out, and the log-probability of each."""

    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finished: bool = False


@torch.inference_mode()
def decode(
    lm: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    end: int,
) -> list[list[Decoded]]:
    """``sampling.n`` completions of each prompt."""
    width = max(map(len, prompts))
    padding = torch.tensor([width - len(prompt) for prompt in prompts], device=lm.device)
    tokens = torch.tensor(
        [[end] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=lm.device
    )
    cache = BlockCache()
    logits = _forward(lm, tokens, padding, cache)
    n = sampling.n
    if n > 1:
        cache.change(lambda block: block.repeat_interleave(n, 0))
    logits, padding = logits.repeat_interleave(n, 0), padding.repeat_interleave(n, 0)
    draws = _draws(seeds, sampling).to(lm.device)
    rows = [Decoded() for _ in range(len(prompts) * n)]
    running = torch.arange(len(rows), device=lm.device)
    for step in range(sampling.max_tokens):
        chosen, logprobs = _choose(logits, draws[running, step], sampling)
        for row, token, logprob in zip(
            running.tolist(), chosen.tolist(), logprobs.tolist(), strict=True
        ):
            rows[row].logprobs.append(logprob)
            rows[row].finished = token == end
            if token != end:
                rows[row].tokens.append(token)
        going = chosen != end
        if not going.any() or step + 1 == sampling.max_tokens:
            break
        if not going.all():
            fill = fill_gaps(going)
            cache.change(fill)
            running, padding, chosen = fill(running), fill(padding), fill(chosen)
        logits = _forward(lm, chosen[:, None], padding, cache)
    return [rows[i : i + n] for i in range(0, len(rows), n)]


def _forward(lm: PreTrainedModel, tokens: Tensor, padding: Tensor, cache: BlockCache) -> Tensor:
    """Logits after the last of ``tokens`` ([R, T], padded on the left), [R, V] float32."""
    seen = cache.get_seq_length()
    keys = torch.arange(cache.reserve(tokens.shape[1]), device=tokens.device)
    queries = keys[seen : seen + tokens.shape[1]]
    visible = (keys[None, :] <= queries[:, None])[None] & (keys >= padding[:, None])[:, None]
    # A padding query that saw nothing would be NaN and reach the others through its value.
    visible |= keys[None, :] == queries[:, None]
    hidden = lm.get_decoder()(
        input_ids=tokens,
        position_ids=(queries - padding[:, None]).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
        visible=visible[:, None],
    ).last_hidden_state[:, -1]
    logits: Tensor = lm.get_output_embeddings()(hidden).float()
    return logits


def _choose(logits: Tensor, draws: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """The next token of each row and its log-probability at temperature 1, [R] each."""
    if sampling.temperature == 0:
        chosen = logits.argmax(-1)
    else:
        probabilities = (logits / sampling.temperature).softmax(-1)
        if sampling.top_p < 1:
            probabilities = _nucleus(probabilities, sampling.top_p)
        chosen = _inverse_transform(probabilities, draws)
    logprobs = logits.gather(-1, chosen[:, None]).squeeze(-1) - logits.logsumexp(-1)
    return chosen, logprobs


def _inverse_transform(weights: Tensor, draws: Tensor) -> Tensor:
    """For each row the first index whose running sum exceeds the draw's share of the total.

    In two stages, groups and then the members of one, so that few sums are in double precision.
    """
    groups = F.pad(weights, (0, -weights.shape[-1] % GROUP)).unflatten(-1, (-1, GROUP))
    totals = groups.sum(-1)
    group, inside = _landing(totals, draws * totals.double().sum(-1))
    members = groups.take_along_dim(group[:, None, None], 1)[:, 0]
    return group * GROUP + _landing(members, inside)[0]


def _landing(weights: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the weight in which each point of a row's running sum lies, and how far inside."""
    sums = weights.double().cumsum(-1)
    # Rounding must not carry a point to either side of where the weights are.
    points = points.clamp(min=0).minimum(sums[:, -1].nextafter(sums.new_zeros(())))
    index = torch.searchsorted(sums, points[:, None], right=True)
    before = sums.gather(-1, index) - weights.gather(-1, index)
    return index[:, 0], points - before[:, 0]


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the most likely tokens that together reach ``top_p``."""
    ordered, order = probabilities.sort(-1, descending=True)
    beyond = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(beyond.scatter(-1, order, beyond), 0.0)


def _draws(seeds: Sequence[int], sampling: Sampling) -> Tensor:
    """Uniform numbers in [0, 1), [P * n, max_tokens], a stream of its own for each row."""
    streams = [
        torch.rand(sampling.n, sampling.max_tokens, dtype=torch.float64, generator=_stream(seed))
        for seed in seeds
    ]
    return torch.cat(streams)


def _stream(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed % 2**63)
