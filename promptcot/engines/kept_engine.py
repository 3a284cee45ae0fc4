"""Engines that are opened once and given other weights from then on, asleep in between."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack

from promptcot.protocols import (
    Completion,
    Engine,
    OpenEngine,
    Reloadable,
    Request,
    Sampling,
    ScoreRequest,
    SegmentLogprobs,
)

log = logging.getLogger(__name__)


class EngineKeeper:
    """Opens engines like a class of engines does, but keeps their processes.

    What a call returns is an engine on those weights until it is closed, which puts the engine to
    sleep. The next call wakes up one that can take the weights then asked for: always read anew, as
    a folder may have been written again. Where none can (another architecture, an adapter), one
    more is opened; those that hold memory although they sleep are ended first, and so is at once
    an engine that takes no other weights (transformers').

    Args:
        engine: What is opened and kept: ``VLLMEngine``, with ``sleeps`` where a trainer needs the
            same GPU's memory in between.
    """

    MADE_BY = "promptcot.engines.KeptEngine"
    DECIDED_BY = "engine"
    """Keeping it decides nothing of what it answers."""

    def __init__(self, engine: OpenEngine) -> None:
        self.engine = engine
        self._kept: list[Engine] = []
        self._holding: Engine | None = None
        """Of those kept the one that sleeps without having freed its memory."""
        self._lent: Lent | None = None

    def __call__(self, weights: str) -> Engine:
        """The engine on these weights.

        Raises:
            RuntimeError: What the last call returned is not closed yet.
        """
        if self._lent is not None:
            raise RuntimeError(
                f"the kept engine is still in use on {self._lent.weights}: close what was opened "
                f"there before it is asked for {weights}"
            )
        engine = self._on(weights)
        self._lent = Lent(engine, weights, lambda: self._take_back(engine))
        return self._lent

    def close(self) -> None:
        """End them for good; a later call would open a new one. Safe to call twice."""
        atexit.unregister(self.close)
        kept, self._kept, self._lent, self._holding = self._kept, [], None, None
        for engine in kept:
            engine.close()

    def _on(self, weights: str) -> Engine:
        for kept in self._kept:
            if isinstance(kept, Reloadable) and kept.can_reload(weights):
                if kept is not self._holding:
                    self._end(self._holding)
                with ExitStack() as failed:
                    failed.callback(self._end, kept)  # who knows what it has loaded then
                    kept.reload(weights)
                    failed.pop_all()
                self._holding = None
                return kept
        self._end(self._holding)
        atexit.unregister(self.close)
        atexit.register(self.close)
        opened = self.engine(weights)
        self._kept.append(opened)
        return opened

    def _take_back(self, engine: Engine) -> None:
        self._lent = None
        if not isinstance(engine, Reloadable):
            self._end(engine)  # nothing but these weights can ever be asked of it
            return
        try:
            has_freed = engine.sleep()
        except RuntimeError as error:  # dead, most likely: whoever asked it has been told why
            log.warning("a kept engine could not be put to sleep and was ended: %s", error)
            self._end(engine)
            return
        if not has_freed:
            self._holding = engine

    def _end(self, engine: Engine | None) -> None:
        if engine is not None:
            self._kept.remove(engine)
            self._holding = None
            engine.close()


def KeptEngine(engine: OpenEngine) -> EngineKeeper:
    """An ``EngineKeeper``, under the name of a class of engines, which it stands in for in YAML.

    A function, as jsonargparse takes for an opener no other classes than those of engines.

    Args:
        engine: What is opened and kept.
    """
    return EngineKeeper(engine)


class Lent:
    """A kept engine, from one call until it is closed.

    Args:
        engine: Of which it is the only user.
        weights: That it was asked for.
        give_back: Called once.
    """

    def __init__(self, engine: Engine, weights: str, give_back: Callable[[], None]) -> None:
        self._engine: Engine | None = engine
        self.weights = weights
        self._give_back = give_back

    def batches(self, count: int) -> Iterable[range]:
        return self._open().batches(count)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> Mapping[int, str]:
        return self._open().overlong(requests, max_tokens)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        return self._open().generate(requests, sampling)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        return self._open().score(requests)

    def close(self) -> None:
        """Put it to sleep. Safe to call twice."""
        if self._engine is not None:
            self._engine = None
            self._give_back()

    def _open(self) -> Engine:
        if self._engine is None:
            raise RuntimeError(f"the kept engine is not on {self.weights} any more: open it again")
        return self._engine
