"""Conversations as token ids, of which some turns are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True, slots=True)
class Turns:
    """A sequence of tokens and the spans of it that are targets.

    Args:
        tokens: Of the whole conversation.
        spans: Start and end (behind the last) of each turn that is trained on, ascending and
            apart. The first token of all has nothing that predicts it and is never a target.
    """

    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        edges = [edge for span in self.spans for edge in span]
        if edges and (edges[0] < 1 or edges[-1] > len(self.tokens) or edges != sorted(edges)):
            raise ValueError(
                f"spans {self.spans} of {len(self.tokens)} tokens: they must ascend, from 1 on"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def target(self) -> tuple[int, ...]:
        """The targets of all spans, end to end."""
        return tuple(token for start, end in self.spans for token in self.tokens[start:end])

    @property
    def sequences(self) -> tuple[Self]:
        return (self,)

    @property
    def terms(self) -> tuple[int, ...]:
        """The one mean is over target tokens."""
        return (sum(end - start for start, end in self.spans),)

    def untargeted(self) -> Self:
        """The same sequence with no token to train on."""
        return replace(self, spans=())

    def first(self, count: int) -> Self:
        """No more than so many tokens of the beginning; what is cut off is no target."""
        clipped = tuple((start, min(end, count)) for start, end in self.spans if start < count)
        return replace(self, tokens=self.tokens[:count], spans=clipped)

    def last(self, count: int) -> Self:
        """No more than so many tokens of the end; the first that is left is no target."""
        cut = max(0, len(self) - count)
        moved = ((max(1, start - cut), end - cut) for start, end in self.spans)
        spans = tuple((start, end) for start, end in moved if start < end)
        return replace(self, tokens=self.tokens[cut:], spans=spans)


def joined(parts: Sequence[tuple[Sequence[int], bool]]) -> Turns:
    """Parts end to end; those that are marked are the targets."""
    tokens: list[int] = []
    spans: list[tuple[int, int]] = []
    for part, is_target in parts:
        if is_target:
            spans.append((len(tokens), len(tokens) + len(part)))
        tokens.extend(part)
    return Turns(tuple(tokens), tuple(spans))
