"""An engine that takes its time. Named in YAML as ``slow_engine.SlowEngine``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from promptcot.engines import HFEngine
from promptcot.protocols import Completion, Request, Sampling

SECONDS = 16.0


class SlowEngine(HFEngine):
    """Transformers' engine, which thinks before it begins."""

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        time.sleep(SECONDS)
        yield from super().generate(requests, sampling)
