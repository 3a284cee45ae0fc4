"""Processes with the same model, each on GPUs of its own, that answer one call together."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from promptcot.engines.sharing import Turns, dealt, merged
from promptcot.engines.vllm_calls import Call, Close, Config, Generate, Measure, Reload, Score, Stop
from promptcot.engines.vllm_process import CLOSE_S, VLLMProcess


class VLLMProcesses:
    """One or several vLLM engines with the same weights; one call at a time.

    Each process asks for as many more requests as it has room for, up to ``max_in_flight`` and its
    equal share: none idles while another holds what could be begun, whichever got the long ones.

    Args:
        config: What each of them is opened with.
        groups: GPUs of each process, as ``device_groups`` tells.
        alone: Whether a process does all the work itself, as it can on a single GPU.

    Raises:
        RuntimeError: vLLM could not start in one of them, and all are ended; the message says in
            which and ends with its log.
    """

    def __init__(
        self, config: Config, groups: Sequence[Sequence[int] | None], *, alone: bool
    ) -> None:
        self._processes: list[VLLMProcess] = []
        self._is_busy = False
        with ExitStack() as failed:
            failed.callback(self._end, patience_s=0.0)
            for number, devices in enumerate(groups, 1):  # in this thread: see ``die_with``
                place = _place(number, len(groups), devices)
                self._processes.append(
                    VLLMProcess(config, alone=alone, devices=devices, place=place)
                )
            loading = [process.answers(Turns(iter(())).take) for process in self._processes]
            deque(merged(loading, self._kill), maxlen=0)
            failed.pop_all()

    @property
    def weights(self) -> str:
        """What they compute with."""
        return self._processes[0].weights

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return [process.pid for process in self._processes]

    def call(self, call: Call) -> Iterator[tuple[int, object]]:
        """Index and value of each answer, as it comes. Leaving the iterator early ends the call.

        Every process reads all requests first, so that each finds the same mistakes before it
        begins any.

        Raises:
            RuntimeError: They are closed, in the middle of another call, or one of them died, with
                which all end; or as the call says.
        """
        self._check_ready()
        # One can measure for all.
        asked = self._processes[:1] if isinstance(call, Measure) else self._processes
        count = len(call.requests) if isinstance(call, Generate | Score) else 0
        turns = Turns(dealt(count, len(asked)))
        self._is_busy = True
        answered = 0
        try:
            self._send(call, asked)
            for result in merged([process.answers(turns.take) for process in asked], self._stop):
                answered += 1
                yield result.index, result.value
        finally:
            self._is_busy = False
        self._check_ready()  # closed half way: not all has been answered
        if count > answered:
            raise RuntimeError(
                f"the vLLM engine on {self.weights} answered {answered} of {count} requests: open "
                "a new one"
            )

    def reload(self, weights: str) -> None:
        """Have all of them take other weights."""
        deque(self.call(Reload(weights)), maxlen=0)
        for process in self._processes:
            process.weights = weights

    def close(self) -> None:
        """End them and wait until their memory is free. Safe to call twice."""
        for process in self._processes:
            process.send(Stop())
            process.send(Close())
        self._end(CLOSE_S)

    def _send(self, call: Call, asked: Sequence[VLLMProcess]) -> None:
        """Where this is interrupted nobody knows what they were sent, and all are ended."""
        with ExitStack() as interrupted:
            interrupted.callback(self._kill)
            for process in asked:
                process.send(call)
            interrupted.pop_all()

    def _check_ready(self) -> None:
        if not all(process.is_open for process in self._processes):
            raise RuntimeError(f"the vLLM engine on {self.weights} is closed: open a new one")
        if self._is_busy:
            raise RuntimeError(
                f"the vLLM engine on {self.weights} is in the middle of another call: "
                "finish or close that iterator first"
            )

    def _stop(self) -> None:
        """End the call that is under way; where one process is gone, all of them."""
        if not all(process.is_open for process in self._processes):
            self._kill()
        for process in self._processes:
            process.send(Stop())

    def _kill(self) -> None:
        for process in self._processes:
            process.kill()

    def _end(self, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        for process in self._processes:
            process.end(max(0.0, deadline - time.monotonic()))


def _place(number: int, count: int, devices: Sequence[int] | None) -> str:
    of_several = f", process {number} of {count}" if count > 1 else ""
    return of_several + (f" (devices={list(devices)})" if devices is not None else "")
