"""Generator and scorer on vLLM, in processes of its own whose memory comes back when it is closed.

vLLM is never imported here. A process of it sees none of the variables that tell a training process
which rank it is, writes to a log of its own, and does not outlive this one, however this one ends.

Results depend on the request alone, except that vLLM's kernels round differently in differently
filled batches: the same request may, rarely, part ways with itself at a near tie.
"""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, cast

from promptcot.adapters import base_of
from promptcot.chunks import chunks
from promptcot.engines.child_environment import device_groups
from promptcot.engines.vllm_calls import Config, Generate, Measure, Score, Sleep
from promptcot.engines.vllm_processes import VLLMProcesses
from promptcot.engines.vllm_weights import lora_arguments
from promptcot.protocols import Completion, Request, Sampling, ScoreRequest, SegmentLogprobs
from promptcot.weights import architecture, check_weights


class VLLMEngine:
    """A model in vLLM, on the CPU or on GPUs.

    One call runs at a time. Leaving its iterator early ends the call; the engine stays usable.

    Args:
        weights: Folder of a model, or its name on a hub; or folder of a LoRA adapter, which is
            applied to its base without being merged.
        dtype: As vLLM takes it; ``auto`` is the weights' own, but bfloat16 for float32 weights on a
            GPU, where updates smaller than half a step of bfloat16 do not show.
        gpu_memory_utilization: Share of each GPU's memory for weights and key/value cache.
        tensor_parallel_size: GPUs that share a model.
        data_parallel_size: Processes with a model each, on GPUs of their own, that share out the
            requests: for a model that fits on fewer GPUs than there are.
        max_model_len: Tokens of context, prompt and completion; None takes what the model has.
            The last one stays unused, so that whatever was sampled can also be scored.
        enforce_eager: No CUDA graphs: starts sooner, samples slower.
        max_in_flight: Requests that each process holds at once.
        chat: Whether each prompt becomes one user message in the model's chat template.
        options: Anything else that ``vllm.LLM`` takes; wins over the above.
        sleeps: Whether ``sleep`` frees the GPUs' memory; vLLM starts a little differently for it.
            On the CPU nothing is freed.
        devices: Numbers of the GPUs to use, of those that this process sees; None for the first
            ones. With several processes each takes the next ``tensor_parallel_size`` of them. Give
            it others than a trainer's to generate beside it.

    Raises:
        ValueError: ``devices`` are not as many as needed.
        ModuleNotFoundError: vLLM is not installed.
        FileNotFoundError: There is no model at ``weights``.
        RuntimeError: vLLM could not start; the message ends with its log.
    """

    RESOURCES = frozenset(
        {
            "gpu_memory_utilization",
            "tensor_parallel_size",
            "data_parallel_size",
            "enforce_eager",
            "max_in_flight",
            "sleeps",
            "devices",
        }
    )
    """Arguments that decide nothing of what is answered, but for rounding."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        weights: str,
        dtype: str = "auto",
        gpu_memory_utilization: float = 0.85,
        tensor_parallel_size: int = 1,
        data_parallel_size: int = 1,
        max_model_len: int | None = None,
        enforce_eager: bool = True,
        max_in_flight: int = 512,
        chat: bool = False,
        options: dict[str, Any] | None = None,
        sleeps: bool = False,
        devices: list[int] | None = None,
    ) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ModuleNotFoundError(
                "vLLM is not installed: `make setup` installs the build for this machine"
            )
        check_weights(weights)
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight={max_in_flight}: at least 1 request must be under way")
        self.weights = weights
        self.sleeps = sleeps
        self.devices = devices
        self._asleep = False
        self._architecture = architecture(weights)  # read now: the folder may be gone later
        self._base = os.path.realpath(base_of(weights))
        arguments: dict[str, Any] = {
            "dtype": dtype,
            "gpu_memory_utilization": gpu_memory_utilization,
            "tensor_parallel_size": tensor_parallel_size,
            "max_model_len": max_model_len,
            "enforce_eager": enforce_eager,
            "enable_prefix_caching": True,
            "generation_config": "vllm",  # the end token is the tokenizer's, as in training
            **lora_arguments(weights),
        }
        arguments.update(options or {})
        # 16 is vLLM's default
        self._max_lora_rank: int = arguments.get("max_lora_rank", 16) * bool(
            arguments.get("enable_lora")
        )
        num_gpus = arguments["tensor_parallel_size"] * arguments.get("pipeline_parallel_size", 1)
        groups = device_groups(devices, data_parallel_size, num_gpus)
        config = Config(weights, chat, max_in_flight, sleeps, data_parallel_size, arguments)
        self._processes = VLLMProcesses(config, groups, alone=num_gpus == 1)

    def batches(self, count: int) -> Iterator[range]:
        """Each request is on its own."""
        return chunks(count, 1)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> dict[int, str]:
        """Index and length in words of each request that the context cannot hold."""
        call = Measure(tuple(requests), max_tokens)
        return {index: cast(str, length) for index, length in self._processes.call(call)}

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Index of a request and its completions, as they finish.

        Raises:
            ValueError: A prompt has no token or does not fit into the context; nothing is sampled.
            RuntimeError: A process died; the message ends with its log.
        """
        self._check_awake()
        results = self._processes.call(Generate(tuple(requests), sampling))
        yield from cast(Iterator[tuple[int, list[Completion]]], results)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        """Index of a request and its target's log-probabilities, as they are ready.

        Raises:
            ValueError: A prompt has no token, or it does not fit into the context with its target.
            RuntimeError: A process died; the message ends with its log.
        """
        self._check_awake()
        results = self._processes.call(Score(tuple(requests)))
        yield from cast(Iterator[tuple[int, SegmentLogprobs]], results)

    def can_reload(self, weights: str) -> bool:
        """Whether ``reload`` can take these.

        An engine that was opened on a whole model takes others of the same shape. One that was
        opened on an adapter takes its base, and adapters of that base of at most the same rank (as
        vLLM rounds it).

        Raises:
            ValueError: It is an adapter of a kind that vLLM cannot apply.
        """
        if architecture(weights) != self._architecture:
            return False
        if self._max_lora_rank and os.path.realpath(base_of(weights)) != self._base:
            return False
        needed = lora_arguments(weights).get("max_lora_rank", 0)
        return bool(needed <= self._max_lora_rank)

    def reload(self, weights: str) -> None:
        """Compute with other weights from now on, in the processes that are there; wakes them up.

        Raises:
            FileNotFoundError: There is no model at ``weights``.
            ValueError: It does not fit into the one that is loaded.
            RuntimeError: A process died; the message ends with its log.
        """
        check_weights(weights)
        if not self.can_reload(weights):
            raise ValueError(
                f"the vLLM engine on {self.weights} cannot take {weights} in its place, which has "
                "another config.json, another base or is an adapter that it was not opened for: "
                "open a new one"
            )
        self._processes.reload(weights)
        self.weights = weights
        self._asleep = False

    def sleep(self) -> bool:
        """Free the GPUs' memory until ``reload`` or ``wake``; nothing unless opened to sleep.

        The weights are dropped. An engine that was opened on an adapter keeps its base in the
        machine's memory instead.
        """
        if self.sleeps and not self._asleep:
            deque(self._processes.call(Sleep()), maxlen=0)
            self._asleep = True
        return self._asleep

    def wake(self) -> None:
        """Read the weights of before again and go on; raises as ``reload``."""
        if self._asleep:
            self.reload(self.weights)

    def close(self) -> None:
        """End the processes and wait until their memory is free. Safe to call twice."""
        self._processes.close()

    def _check_awake(self) -> None:
        if self._asleep:
            raise RuntimeError(
                f"the vLLM engine on {self.weights} is asleep and has no weights: "
                "call wake(), or reload(weights) with others"
            )
