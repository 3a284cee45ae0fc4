"""An engine that is opened once and given other weights from then on, asleep in between."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

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


class EngineKeeper:
    """Opens engines like a class of engines does, but keeps the process of the one it has.

    What a call returns is the engine on those weights until it is closed, which puts the engine to
    sleep. The next call wakes it up with the weights then asked for: always read anew, as a folder
    may have been written again. Weights of another architecture, or an engine that takes no other
    weights (transformers'), mean an end and a new beginning.

    Args:
        engine: What is opened and kept: ``VLLMEngine``, with ``sleeps`` where a trainer needs the
            same GPU's memory in between.
    """

    MADE_BY = "promptcot.engines.KeptEngine"
    DECIDED_BY = "engine"
    """Keeping it decides nothing of what it answers."""

    def __init__(self, engine: OpenEngine) -> None:
        self.engine = engine
        self._kept: Engine | None = None
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
        self._kept = self._on(weights)
        self._lent = Lent(self._kept, weights, self._take_back)
        return self._lent

    def close(self) -> None:
        """End it for good; a later call would open a new one. Safe to call twice."""
        atexit.unregister(self.close)
        kept, self._kept, self._lent = self._kept, None, None
        if kept is not None:
            kept.close()

    def _on(self, weights: str) -> Engine:
        kept = self._kept
        if kept is not None and isinstance(kept, Reloadable) and kept.can_reload(weights):
            try:
                kept.reload(weights)
            except BaseException:
                self.close()  # who knows what it has loaded
                raise
            return kept
        self.close()
        atexit.register(self.close)
        return self.engine(weights)

    def _take_back(self) -> None:
        self._lent = None
        if isinstance(self._kept, Reloadable):
            self._kept.sleep()
        else:
            self.close()  # nothing but these weights can ever be asked of it


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
