"""Engines that take their time. Named in YAML as ``slow_engine.SlowEngine``, ``StuckEngine``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

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


class StuckEngine(HFEngine):
    """Waits for good in the middle of round 1 where an environment variable names a file for it.

    It writes that file when it waits.
    """

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        file = os.environ.get("TESTS_STUCK", "") if "weights-1" in self.weights else ""
        for number, found in enumerate(super().generate(requests, sampling)):
            if file and number == len(requests) // 2:
                Path(file).touch()
                time.sleep(3600)
            yield found
