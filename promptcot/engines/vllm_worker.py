"""The process that owns vLLM: started by ``vllm_process``, gone with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from promptcot.adapters import base_of, tokenizer_folder
from promptcot.engines.sharing import Share, equal_share
from promptcot.engines.vllm_calls import (
    Call,
    Close,
    Config,
    Done,
    Generate,
    Generation,
    Measure,
    Reload,
    Result,
    Score,
    Scoring,
    Sleep,
    Stop,
    Take,
    Work,
)
from promptcot.engines.vllm_weights import DROPPED, RESTORED, LoadedWeights
from promptcot.tokens import Vocabulary, end_token, overlong

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PR_SET_PDEATHSIG = 1


class Worker:
    """A loaded model."""

    def __init__(self, config: Config, tokenizer: PreTrainedTokenizerBase) -> None:
        from vllm.platforms import current_platform

        on_cpu = current_platform.is_cpu()
        if on_cpu and config.arguments.get("enforce_eager"):
            # Ranks of log-probabilities would be compiled: 3 seconds at the first request. Before
            # vLLM's modules are loaded, whose decorators read it.
            os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
        from vllm import LLM

        # vLLM on the CPU dies of two prompts to score where adapters are possible (0.32).
        self.scores_alone = on_cpu and bool(config.arguments.get("enable_lora"))
        arguments, sleep_level = _for_this_machine(config, on_cpu=on_cpu)
        llm = LLM(model=base_of(config.weights), **arguments)
        self.engine = llm.llm_engine
        self.weights = LoadedWeights(llm, config.weights, sleep_level)
        # One token less than the context, so that whatever was sampled can be scored as well:
        # vLLM scores prompts only, and a prompt must leave room for a token.
        max_length = self.engine.model_config.max_model_len - 1
        self.vocabulary = Vocabulary(tokenizer, max_length, config.chat)
        self.max_in_flight, self.processes = config.max_in_flight, config.processes
        self.names = map(str, count())

    def answer(self, call: Call, connection: Connection) -> None:
        """Send the ``Result`` of each request, then ``Done``; or the caller's mistake."""
        try:
            for result in self._answers(call, connection):
                connection.send(result)
        except ValueError as error:
            connection.send(ValueError(str(error)))
        else:
            connection.send(Done())

    def _answers(self, call: Call, connection: Connection) -> Iterator[Result]:
        if isinstance(call, Reload | Sleep):
            self._change(call)
            return iter(())
        if isinstance(call, Measure):
            found = overlong(self.vocabulary, call.requests, call.max_tokens)
            return (Result(index, length) for index, length in found.items())
        return self._results(self._work(call), connection)

    def _change(self, call: Reload | Sleep) -> None:
        try:
            if isinstance(call, Reload):
                self.vocabulary = replace(self.vocabulary, tokenizer=load_tokenizer(call.weights))
                self.weights.reload(call.weights)
            else:
                self.weights.sleep()
        except ValueError as error:  # no mistake of the caller's: half of the weights may be new
            raise RuntimeError(f"vLLM could not do {call}") from error

    def _work(self, call: Generate | Score) -> Work:
        if isinstance(call, Generate):
            return Generation(call, self.vocabulary)
        return Scoring(call, self.vocabulary)

    def _results(self, work: Work, connection: Connection) -> Iterator[Result]:
        share = Share(connection)
        running: dict[str, int] = {}
        try:
            while self._admit(work, share, running):
                for output in self.engine.step():
                    if output.finished:
                        index = running.pop(output.request_id)
                        yield Result(index, work.value(index, output))
        finally:
            self.engine.abort_request(list(running))

    def _admit(self, work: Work, share: Share, running: dict[str, int]) -> bool:
        """Fill up what vLLM holds; False when nothing is left to do, or nobody wants it."""
        for index in share.take(self._limit(work) - len(running), wait=not running):
            name = next(self.names)
            prompt = {"prompt_token_ids": work.sequences[index].tolist()}
            self.engine.add_request(
                name, prompt, work.params(index), lora_request=self.weights.adapter
            )
            running[name] = index
        return bool(running) and not share.is_stopped

    def _limit(self, work: Work) -> int:
        if self.scores_alone and isinstance(work, Scoring):
            return 1
        return min(self.max_in_flight, equal_share(len(work.sequences), self.processes))


def _for_this_machine(config: Config, *, on_cpu: bool) -> tuple[dict[str, Any], int]:
    """The arguments of ``vllm.LLM`` and how deep it can sleep."""
    if not on_cpu:
        level = RESTORED if config.arguments.get("enable_lora") else DROPPED
        return {"enable_sleep_mode": config.sleeps, **config.arguments}, level * config.sleeps
    # A prompt that is read in two steps has the seed's generator set back between them, which a
    # generator on the CPU cannot do: vLLM would die as soon as the prompts exceed one step.
    return {"enable_chunked_prefill": False, **config.arguments}, 0


def load_tokenizer(weights: str) -> PreTrainedTokenizerBase:
    """The model's tokenizer; asked for first, as it fails in seconds where vLLM takes a minute.

    Raises:
        FileNotFoundError: There is none, neither here nor on the hub.
        ValueError: It has no end token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            tokenizer_folder(weights)
        )
    except OSError as error:
        raise FileNotFoundError(
            f"no tokenizer of {weights}, neither in a folder of this name nor on the hub: {error}"
        ) from error
    end_token(tokenizer)
    return tokenizer


def die_with(parent: int, *, at_once: bool) -> None:
    """Kill this process group as soon as ``parent`` is gone, however it went.

    Args:
        parent: Process id.
        at_once: Have the kernel kill this process too, even where Python cannot run. The kernel
            goes by the thread that started it, so that must live as long as the parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    if at_once and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def serve(connection: Connection) -> None:
    """Load what the parent names, then answer its calls until it says ``Close``."""
    config: Config = connection.recv()
    try:
        tokenizer = load_tokenizer(config.weights)
    except FileNotFoundError as error:
        connection.send(FileNotFoundError(str(error)))
        return
    except ValueError as error:  # perhaps of a kind that is made of more than a text
        said = f"the tokenizer of {config.weights} cannot be used: {error}"
        connection.send(ValueError(said))
        return
    worker = Worker(config, tokenizer)
    connection.send(Done())
    while not isinstance(call := connection.recv(), Close):
        if not isinstance(call, Stop | Take):  # read here when their call is over
            worker.answer(call, connection)
    worker.engine.engine_core.shutdown()


def main() -> None:
    """Run by ``vllm_process``, with three integers: pipe, parent, ``at_once`` of ``die_with``."""
    pipe, parent, at_once = (int(argument) for argument in sys.argv[1:])
    die_with(parent, at_once=bool(at_once))
    serve(Connection(pipe))
    os.killpg(0, signal.SIGKILL)  # nothing that vLLM started may stay behind
