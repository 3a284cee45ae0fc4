"""What a teacher's completions took: tokens, ends, costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from promptcot.protocols import Completion

UNTOLD = "not told"
MILLION = 1_000_000


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Prices:
    """Of a million tokens each, in any currency. Both 0: no cost is told.

    Args:
        prompt: Of prompts.
        completion: Of completions, reasoning included.
    """

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.prompt < math.inf and 0 <= self.completion < math.inf):
            raise ValueError(
                f"prices prompt={self.prompt}, completion={self.completion}: a price is 0 or more, "
                "and finite"
            )

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """In the currency of the prices."""
        prompts, completions = self.prompt * prompt_tokens, self.completion * completion_tokens
        return (prompts + completions) / MILLION


def usage_figures(completions: Iterable[Completion], kept: int, prices: Prices) -> dict[str, Any]:
    """Sums over the completions of requests that have one each; they are gone through once.

    Args:
        completions: All that came, kept or not: all are paid.
        kept: How many of them are kept.
        prices: Of tokens.
    """
    prompt_tokens, untold = 0, 0
    lengths: list[int] = []
    reasons: list[str] = []
    for completion in completions:
        prompt_tokens += completion.prompt_tokens
        reasons.append(completion.finish_reason[:40] or UNTOLD)
        if completion.completion_tokens:
            lengths.append(completion.completion_tokens)
        else:
            untold += 1
    figures: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": sum(lengths),
        "tokens_untold": untold,
        "finish_reasons": counted(reasons),
    }
    if lengths:
        figures["mean_tokens"] = fmean(lengths)
    if prices != Prices():
        cost = prices.cost(prompt_tokens, sum(lengths))
        figures["cost"] = cost
        if kept:
            figures["cost_per_trace"] = cost / kept
    return figures


def counted(names: Iterable[str]) -> Mapping[str, int]:
    """How often each came, in order of the names."""
    return dict(sorted(Counter(names).items()))
