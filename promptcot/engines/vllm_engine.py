"""Generator and scorer on vLLM, in a process of its own whose memory comes back when it is closed.

vLLM is never imported here. Its process sees none of the variables that tell a training process
which rank it is, writes to a log of its own, and does not outlive this one, however this one ends.

Results depend on the request alone, except that vLLM's kernels round differently in differently
filled batches: the same request may, rarely, part ways with itself at a near tie.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast

from promptcot.adapters import base_of
from promptcot.chunks import chunks
from promptcot.engines.child_environment import child_environment
from promptcot.engines.vllm_calls import (
    Call,
    Close,
    Config,
    Done,
    Generate,
    Measure,
    Reload,
    Result,
    Score,
    Sleep,
    Stop,
)
from promptcot.engines.vllm_weights import lora_arguments
from promptcot.protocols import Completion, Request, Sampling, ScoreRequest, SegmentLogprobs
from promptcot.weights import architecture, check_weights

Message = Result | Done | Exception | None
"""None: the pipe is closed, so the process is gone."""

CLOSE_S = 10.0
"""Seconds that vLLM gets to shut down by itself."""
LOG_LINES = 80
_RUN = "from promptcot.engines.vllm_worker import main; main()"


class VLLMEngine:
    """A model in vLLM, on the CPU or on GPUs.

    One call runs at a time. Leaving its iterator early ends the call; the engine stays usable.

    Args:
        weights: Folder of a model, or its name on a hub; or folder of a LoRA adapter, which is
            applied to its base without being merged.
        dtype: As vLLM takes it; ``auto`` is the weights' own, but bfloat16 for float32 weights on a
            GPU, where updates smaller than half a step of bfloat16 do not show.
        gpu_memory_utilization: Share of each GPU's memory for weights and key/value cache.
        tensor_parallel_size: GPUs that share the model.
        max_model_len: Tokens of context, prompt and completion; None takes what the model has.
            The last one stays unused, so that whatever was sampled can also be scored.
        enforce_eager: No CUDA graphs: starts sooner, samples slower.
        max_in_flight: Requests that vLLM holds at once.
        chat: Whether each prompt becomes one user message in the model's chat template.
        options: Anything else that ``vllm.LLM`` takes; wins over the above.
        sleeps: Whether ``sleep`` frees the GPUs' memory; vLLM starts a little differently for it.
        devices: Numbers of the GPUs to use, of those that this process sees; None for the first
            ones. Give it others than a trainer's to generate beside it.
            On the CPU nothing is freed.

    Raises:
        ModuleNotFoundError: vLLM is not installed.
        FileNotFoundError: There is no model at ``weights``.
        RuntimeError: vLLM could not start; the message ends with its log.
    """

    RESOURCES = frozenset(
        {
            "gpu_memory_utilization",
            "tensor_parallel_size",
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
        self._start(alone=num_gpus == 1)
        try:
            self._next(self._ask(Config(weights, chat, max_in_flight, sleeps, arguments)))
        except BaseException:
            self._kill()
            self._folder.cleanup()
            raise

    def batches(self, count: int) -> Iterator[range]:
        """Each request is on its own."""
        return chunks(count, 1)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> dict[int, str]:
        """Index and length in words of each request that the context cannot hold."""
        call = Measure(tuple(requests), max_tokens)
        return {result.index: cast(str, result.value) for result in self._call(call)}

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Index of a request and its completions, as they finish.

        Raises:
            ValueError: A prompt has no token or does not fit into the context; nothing is sampled.
            RuntimeError: The process died; the message ends with its log.
        """
        self._check_awake()
        for result in self._call(Generate(tuple(requests), sampling)):
            yield result.index, cast(list[Completion], result.value)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        """Index of a request and its target's log-probabilities, as they are ready.

        Raises:
            ValueError: A prompt has no token, or it does not fit into the context with its target.
            RuntimeError: The process died; the message ends with its log.
        """
        self._check_awake()
        for result in self._call(Score(tuple(requests))):
            yield result.index, cast(SegmentLogprobs, result.value)

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
        """Compute with other weights from now on, in the process that is there; wakes it up.

        Raises:
            FileNotFoundError: There is no model at ``weights``.
            ValueError: It does not fit into the one that is loaded.
            RuntimeError: The process died; the message ends with its log.
        """
        check_weights(weights)
        if not self.can_reload(weights):
            raise ValueError(
                f"the vLLM engine on {self.weights} cannot take {weights} in its place, which has "
                "another config.json, another base or is an adapter that it was not opened for: "
                "open a new one"
            )
        for _ in self._call(Reload(weights)):
            pass
        self.weights, self._asleep = weights, False

    def sleep(self) -> bool:
        """Free the GPUs' memory until ``reload`` or ``wake``; nothing unless opened to sleep.

        The weights are dropped. An engine that was opened on an adapter keeps its base in the
        machine's memory instead.
        """
        if self.sleeps and not self._asleep:
            for _ in self._call(Sleep()):
                pass
            self._asleep = True
        return self._asleep

    def wake(self) -> None:
        """Read the weights of before again and go on; raises as ``reload``."""
        if self._asleep:
            self.reload(self.weights)

    def close(self) -> None:
        """End the process and wait until its memory is free."""
        if self._group is not None:
            with suppress(OSError):
                self._connection.send(Close())
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(CLOSE_S)
            self._kill()
        self._folder.cleanup()

    def _start(self, *, alone: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-")
        self._log = Path(self._folder.name) / "log"
        self._connection, theirs = multiprocessing.Pipe()
        # The kernel would kill that process alone, and only its own thread ends what it started.
        at_once = alone and threading.current_thread() is threading.main_thread()
        arguments = (theirs.fileno(), os.getpid(), int(at_once))
        with theirs, self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _RUN, *map(str, arguments)],
                env=child_environment(alone=alone, devices=self.devices),
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._group: int | None = self._process.pid
        self._busy = False

    def _check_awake(self) -> None:
        if self._asleep:
            raise RuntimeError(
                f"the vLLM engine on {self.weights} is asleep and has no weights: "
                "call wake(), or reload(weights) with others"
            )

    def _call(self, call: Call) -> Iterator[Result]:
        inbox = self._ask(call)
        try:
            while isinstance(message := self._next(inbox), Result):
                yield message
        except GeneratorExit:
            with suppress(OSError, RuntimeError):  # closed or dead: nothing is left to stop
                self._connection.send(Stop())
                while isinstance(self._next(inbox), Result):
                    pass
            raise

    def _ask(self, message: object) -> SimpleQueue[Message]:
        """Send the message; what comes back piles up in a queue, so vLLM never waits for us."""
        if self._group is None:
            raise RuntimeError(f"the vLLM engine on {self.weights} is closed: open a new one")
        if self._busy:
            raise RuntimeError(
                f"the vLLM engine on {self.weights} is in the middle of another call: "
                "finish or close that iterator first"
            )
        inbox: SimpleQueue[Message] = SimpleQueue()
        with suppress(OSError):  # dead: the reader will see it
            self._connection.send(message)
        threading.Thread(target=_read, args=(self._connection, inbox), daemon=True).start()
        self._busy = True
        return inbox

    def _next(self, inbox: SimpleQueue[Message]) -> Result | Done:
        message = self._wait(inbox)
        self._busy = isinstance(message, Result)
        if message is None:
            raise self._death()
        if isinstance(message, Exception):
            raise message
        return message

    def _wait(self, inbox: SimpleQueue[Message]) -> Message:
        while True:
            alive = self._process.poll() is None  # before the queue: its last words still count
            try:
                return inbox.get(timeout=1.0)
            except Empty:
                if not alive:
                    return None

    def _death(self) -> RuntimeError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self._kill()
        log = self._log.read_text(errors="replace") if self._log.exists() else ""
        lines = [line for line in re.split(r"[\r\n]+", log) if line.strip()]
        code = self._process.returncode
        killed = " (killed; by the kernel, if memory ran out)" if code == -signal.SIGKILL else ""
        return RuntimeError(
            f"the vLLM engine on {self.weights} died with exit code {code}{killed}. "
            f"The end of its log:\n" + "\n".join(lines[-LOG_LINES:])
        )

    def _kill(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
            self._process.wait()


def _read(connection: Connection, inbox: SimpleQueue[Message]) -> None:
    message: Message = Result(-1, [])
    try:
        with suppress(EOFError, OSError):
            while isinstance(message, Result):
                message = connection.recv()
                inbox.put(message)
    finally:
        inbox.put(None)
