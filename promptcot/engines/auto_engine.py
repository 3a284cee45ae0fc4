"""The engine for the machine at hand: vLLM on an NVIDIA GPU, transformers elsewhere."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence

from promptcot.engines.hf_engine import HFEngine
from promptcot.engines.vllm_engine import VLLMEngine
from promptcot.protocols import (
    Completion,
    Engine,
    Reloadable,
    Request,
    Sampling,
    ScoreRequest,
    SegmentLogprobs,
)


class AutoEngine:
    """``VLLMEngine`` where there are an NVIDIA GPU and vLLM, else ``HFEngine``.

    Args:
        weights: Folder (or hub name) of the model.
        dtype: Of either engine; "auto" as each says.
        chat: Put each prompt into the model's chat template as a user's message.
        batch_size: Of ``HFEngine``.
        gpu_memory_utilization: Of ``VLLMEngine``.
        data_parallel_size: Of ``VLLMEngine``: on so many GPUs a model each.
        sleeps: Of ``VLLMEngine``, where it is kept (``KeptEngine``) on a trainer's GPU.
    """

    RESOURCES = frozenset({"gpu_memory_utilization", "data_parallel_size", "sleeps"})

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        weights: str,
        dtype: str = "auto",
        chat: bool = False,
        batch_size: int = 16,
        gpu_memory_utilization: float = 0.85,
        sleeps: bool = False,
        data_parallel_size: int = 1,
    ) -> None:
        self.engine: Engine
        if importlib.util.find_spec("vllm") and _has_gpu():
            self.engine = VLLMEngine(
                weights,
                dtype=dtype,
                chat=chat,
                gpu_memory_utilization=gpu_memory_utilization,
                sleeps=sleeps,
                data_parallel_size=data_parallel_size,
            )
        else:
            self.engine = HFEngine(weights, dtype=dtype, chat=chat, batch_size=batch_size)

    def batches(self, count: int) -> Iterable[range]:
        return self.engine.batches(count)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> Mapping[int, str]:
        return self.engine.overlong(requests, max_tokens)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        return self.engine.generate(requests, sampling)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        return self.engine.score(requests)

    def can_reload(self, weights: str) -> bool:
        """Whether other weights need no new engine; never those of transformers."""
        return isinstance(self.engine, Reloadable) and self.engine.can_reload(weights)

    def reload(self, weights: str) -> None:
        """Answer with other weights from now on, where ``can_reload`` says so."""
        assert isinstance(self.engine, Reloadable)
        self.engine.reload(weights)

    def sleep(self) -> bool:
        """Free what memory it can; transformers' engine, which nothing wakes up, all of it."""
        if isinstance(self.engine, Reloadable):
            return self.engine.sleep()
        self.engine.close()
        return False

    def close(self) -> None:
        self.engine.close()


def _has_gpu() -> bool:
    """Whether the driver lists a GPU; asked without torch, which would take memory on it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    if shutil.which("nvidia-smi") is None:
        return False
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return listed.stdout.startswith("GPU")
