"""An engine without a model: for tests, dry runs and documentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promptcot.chunks import chunks
from promptcot.protocols import Completion, Piece, Request, Sampling, ScoreRequest, SegmentLogprobs


class ScriptedEngine:
    """Answers with given texts in turn and scores every character alike.

    The reply to a request depends on its seed alone, so that a run is repeatable.

    Args:
        weights: Not used; engines are opened on a folder of weights.
        replies: The texts.
        logprob: Log-probability of every character of a target, in nats.
    """

    def __init__(
        self, weights: str = "", replies: Sequence[str] = ("yes",), logprob: float = -1.0
    ) -> None:
        self.weights = weights
        self.replies = tuple(replies)
        self.logprob = logprob

    def batches(self, count: int) -> Iterator[range]:
        return chunks(count, 1)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> dict[int, str]:
        return {}

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        for index, request in enumerate(requests):
            texts = [
                self.replies[(request.seed + i) % len(self.replies)] for i in range(sampling.n)
            ]
            yield index, [self._completion(text, sampling.max_tokens) for text in texts]

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        for index, request in enumerate(requests):
            lengths = [sum(map(_length, pieces)) for pieces in request.target.segments]
            lengths[-1] += request.target.ends
            yield index, tuple((self.logprob,) * length for length in lengths)

    def close(self) -> None:
        return None

    def _completion(self, text: str, max_tokens: int) -> Completion:
        """One token a character; the end token counts."""
        finished = len(text) < max_tokens
        kept = text if finished else text[:max_tokens]
        tokens = tuple(map(ord, kept))
        count = len(tokens) + finished
        return Completion(
            kept,
            finished,
            tokens,
            (self.logprob,) * count,
            finish_reason="stop" if finished else "length",
            completion_tokens=count,
        )


def _length(piece: Piece) -> int:
    return len(piece)
