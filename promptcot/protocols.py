"""The seams: what the project asks of an engine, and the values that cross them.

An engine is opened on a folder of weights (or the name of a served model) and owns its memory
from construction until ``close``. Results come in any order, as they finish, so that whoever
asked can write each to disk at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from promptcot.records import Label, Problem, Verdict

Piece = str | tuple[int, ...]
"""Text, tokenised on its own with no token merged across its edges, or token ids as sampled."""


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Sampling:
    """How to sample; the names are vLLM's. Temperature 0 means greedy.

    Args:
        n: Completions for each prompt.
        temperature: Divides the logits; 0 takes the most likely token every time.
        top_p: Share of probability mass to sample from; 1 cuts nothing.
        max_tokens: Limit of one completion, its end token included.
    """

    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 2048

    def __post_init__(self) -> None:
        if self.n < 1 or self.max_tokens < 1:
            raise ValueError(
                f"sampling n={self.n}, max_tokens={self.max_tokens}: both must be at least 1"
            )
        if not 0 <= self.temperature < math.inf or not 0 < self.top_p <= 1:
            raise ValueError(
                f"sampling temperature={self.temperature}, top_p={self.top_p}: "
                "the temperature must be 0 or more and finite, and 0 < top_p <= 1"
            )
        if self.temperature == 0 and self.n > 1:
            raise ValueError(
                f"sampling n={self.n} at temperature 0 gives the same text {self.n} times: "
                "set n to 1 or raise the temperature"
            )


@dataclass(frozen=True, slots=True)
class Request:
    """One prompt to complete. Equal requests to an equal engine get equal completions."""

    prompt: str
    seed: int = 0


REFUSED = "refused"
"""Why a completion ended that a server would not give."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled continuation.

    ``tokens`` leaves the end token out; ``logprobs`` (nats, under the model's own distribution
    at temperature 1) holds one more value for it when ``finished``. Both are empty where the
    engine cannot know them (a chat server).
    """

    text: str
    finished: bool = True
    """Whether the model ended it; False when the limit of tokens, or anything else, cut it off."""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    reasoning: str = ""
    """What a server sent apart from the text; it came before the text."""
    finish_reason: str = ""
    """Why it ended, in the engine's word: stop, length, content_filter; empty where none is said.
    """
    prompt_tokens: int = 0
    """Of its request, once however many completions that has; 0 where the engine does not tell."""
    completion_tokens: int = 0
    """What was sampled, reasoning and end token included; 0 where the engine does not tell."""


@dataclass(frozen=True, slots=True)
class Target:
    """What follows a prompt and is trained on or scored, in segments reported apart.

    Every piece is tokenised on its own, so a segment's edge is always a token's edge.

    Args:
        segments: For the prompt model the rationale with its tags, then the problem with its
            tags; for the rationale model the rationale alone.
        ends: Whether the end token follows, as part of the last segment.
    """

    segments: tuple[tuple[Piece, ...], ...]
    ends: bool = True


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A prompt and the target whose tokens are to be scored after it."""

    prompt: str
    target: Target


SegmentLogprobs = tuple[tuple[float, ...], ...]
"""Log-probability in nats of every target token, grouped by segment; none of the prompt's."""


@runtime_checkable
class Loaded(Protocol):
    """What generating and scoring have in common.

    Methods alone, no attributes: jsonargparse asks whether a class is a subclass of a protocol,
    and Python cannot tell where a protocol has attributes.
    """

    def batches(self, count: int) -> Iterable[range]:
        """How ``count`` requests are grouped: a result may depend on its group, never on others.

        A run that was cut off repeats whole groups, so that it draws the same.
        """
        ...

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> Mapping[int, str]:
        """Index and length in words of each request that the model's context cannot hold.

        Args:
            requests: To be completed with up to ``max_tokens``, or scored.
            max_tokens: Room that a completion needs.

        Returns:
            Nothing where the engine cannot know (a server); asking it then is an error.
        """
        ...

    def close(self) -> None:
        """Free the memory. Safe to call twice."""
        ...


@runtime_checkable
class Generator(Loaded, Protocol):
    """Samples completions."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Index of a request and its ``sampling.n`` completions, in any order, each once."""
        ...


@runtime_checkable
class Scorer(Loaded, Protocol):
    """Scores given continuations under a model, at temperature 1."""

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        """Index of a request and its log-probabilities, in any order, each once."""
        ...


@runtime_checkable
class Engine(Generator, Scorer, Protocol):
    """Both: what one loaded model can do."""


@runtime_checkable
class Reloadable(Protocol):
    """An engine that need not be opened anew for other weights."""

    def can_reload(self, weights: str) -> bool:
        """Whether ``reload`` can take these."""
        ...

    def reload(self, weights: str) -> None:
        """Answer with other weights from now on; wakes up an engine that sleeps."""
        ...

    def sleep(self) -> bool:
        """Free what memory it can until ``reload``; asking it before that is an error.

        Returns:
            Whether enough is free for another engine beside it.
        """
        ...


OpenEngine = Callable[[str], Engine]
"""Opens an engine on a folder of weights or the name of a served model; YAML names the class."""


@runtime_checkable
class Verifier(Protocol):
    """Decides whether solutions are right. Never raises on what a model wrote, and never hangs.

    It owns processes, from the first verdict until ``close``.
    """

    def objection(self, problem: Problem) -> str:
        """Why no solution of this problem can be decided; empty where one can.

        The words stand for all problems of which it is true, so that they can be counted.
        """
        ...

    def verdicts(self, attempts: Iterable[tuple[Problem, str]]) -> Iterator[Verdict]:
        """Verdicts on whole completions or bare answers, in their order."""
        ...

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        ...


OpenVerifier = Callable[[], Verifier]
"""YAML names the class."""


@runtime_checkable
class Labeller(Protocol):
    """Elects the answer of a problem from completions of one model. It owns processes, too."""

    def label(self, completions: Sequence[Completion]) -> Label:
        """What those that are whole and have an answer elect."""
        ...

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        ...


OpenLabeller = Callable[[], Labeller]
"""YAML names the class."""
