"""The engines of the EM figure: what a run takes of the machine, and how long each call takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from seeds import Clock

from promptcot.protocols import (
    Completion,
    Engine,
    OpenEngine,
    Request,
    Sampling,
    ScoreRequest,
    SegmentLogprobs,
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run takes of the machine.

    Args:
        generator: Opens the engine that samples.
        scorer: Opens the engine that scores.
        precision: Of the fits, as Lightning's trainer takes it.
        accelerator: Likewise.
        accumulate: Micro-batches of an optimizer step.
        open_early: Open the sampling engine in a thread while the cold start is trained.
    """

    generator: OpenEngine
    scorer: OpenEngine
    precision: str
    accelerator: str
    accumulate: int
    open_early: bool


class TwoEngines:
    """One engine samples, the same or another scores; each is opened when it is first asked."""

    def __init__(self, weights: str, machine: Machine, clock: Clock) -> None:
        self.weights, self.machine, self.clock = weights, machine, clock

    @cached_property
    def generator(self) -> Engine:
        with self.clock("open"):
            return self.machine.generator(self.weights)

    @cached_property
    def scorer(self) -> Engine:
        if self.machine.scorer is self.machine.generator:
            return self.generator
        with self.clock("open"):
            return self.machine.scorer(self.weights)

    def batches(self, count: int) -> Iterable[range]:
        return self._opened().batches(count)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> Mapping[int, str]:
        engine = self.generator if max_tokens else self.scorer
        return engine.overlong(requests, max_tokens)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        engine = self.generator
        with self.clock("generate"):
            yield from engine.generate(requests, sampling)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        engine = self.scorer
        with self.clock("score"):
            yield from engine.score(requests)

    def close(self) -> None:
        for name in ("generator", "scorer"):
            if engine := self.__dict__.pop(name, None):
                engine.close()

    def _opened(self) -> Engine:
        engine: Engine = self.__dict__.get("scorer") or self.generator
        return engine
