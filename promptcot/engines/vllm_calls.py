"""What crosses the pipe to vLLM's process, and each call in vLLM's own terms.

The parent sends a ``Config``, then any number of calls, one at a time. Each is answered by a
``Result`` for every request as it finishes, then ``Done``; which requests it begins, a process
asks by ``Ask`` and is told by ``Take``, as others may answer the same call. Whatever else the
parent sends before ``Done`` ends the call early. An exception that is sent back is the caller's
mistake and leaves the engine ready for the next call. Any other error ends the process, and its log
tells why.
"""

from __future__ import annotations

import hashlib
from array import array
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from promptcot.protocols import Completion, Request, Sampling, ScoreRequest, SegmentLogprobs
from promptcot.tokens import Vocabulary, encode, fit_example, fit_prompt, not_empty

if TYPE_CHECKING:
    from vllm import CompletionOutput, RequestOutput, SamplingParams
    from vllm.logprobs import FlatLogprobs


@dataclass(frozen=True, slots=True)
class Config:
    """What to load.

    Args:
        weights: Folder or name of the model, or folder of an adapter.
        chat: Whether a prompt to complete becomes one user message.
        max_in_flight: Requests that vLLM holds at once.
        sleeps: Whether it is to free a GPU's memory between calls.
        processes: How many share the requests of a call.
        arguments: The rest, as ``vllm.LLM`` takes it.
    """

    weights: str
    chat: bool
    max_in_flight: int
    sleeps: bool
    processes: int
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Generate:
    """A call: sample these."""

    requests: tuple[Request, ...]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Score:
    """A call: score these."""

    requests: tuple[ScoreRequest, ...]


@dataclass(frozen=True, slots=True)
class Measure:
    """A call: which of these are too long for the context?"""

    requests: tuple[Request | ScoreRequest, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Reload:
    """A call: take these weights, in place. An error in it ends the process."""

    weights: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """A call: free the GPU's memory until the next ``Reload``."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends the running call early."""


@dataclass(frozen=True, slots=True)
class Close:
    """Ends the process."""


@dataclass(frozen=True, slots=True)
class Ask:
    """From the process: give me so many requests of the call at most."""

    room: int


@dataclass(frozen=True, slots=True)
class Take:
    """The answer: begin these; none when all are given out."""

    indices: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to the request with this index."""

    index: int
    value: list[Completion] | SegmentLogprobs | str


@dataclass(frozen=True, slots=True)
class Done:
    """The model is loaded, or the call is over."""


Call = Generate | Score | Measure | Reload | Sleep


class Work(Protocol):
    """A call in vLLM's terms. Making one raises ValueError where a request cannot be answered."""

    sequences: list[array[int]]
    """What vLLM reads for each request; arrays, for there may be a hundred million tokens."""

    def params(self, index: int) -> SamplingParams:
        """How vLLM is to treat it."""
        ...

    def value(self, index: int, output: RequestOutput) -> list[Completion] | SegmentLogprobs:
        """What its answer means."""
        ...


class Generation:
    """``Generate`` in vLLM's terms."""

    def __init__(self, call: Generate, vocabulary: Vocabulary) -> None:
        self.call, self.tokenizer = call, vocabulary.tokenizer
        self.sequences: list[array[int]] = []
        for index, request in enumerate(call.requests):
            prompt = not_empty(index, vocabulary.encode_prompt(request.prompt))
            fit_prompt(index, len(prompt), call.sampling.max_tokens, vocabulary.max_length)
            self.sequences.append(array("i", prompt))

    def params(self, index: int) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        sampling = self.call.sampling
        return SamplingParams(
            n=sampling.n,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            seed=own_seed(self.call.requests[index].seed, self.sequences[index]),
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def value(self, index: int, output: RequestOutput) -> list[Completion]:
        length = len(self.sequences[index])
        return [self._completion(sampled, length) for sampled in output.outputs]

    def _completion(self, sampled: CompletionOutput, prompt_tokens: int) -> Completion:
        finished = sampled.finish_reason == "stop"
        tokens = list(sampled.token_ids)[: -1 if finished else None]
        text = str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        logprobs = _of_actual_tokens(sampled.logprobs)
        return Completion(
            text,
            finished,
            tuple(tokens),
            tuple(logprobs),
            finish_reason=sampled.finish_reason or "",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(sampled.token_ids),
        )


class Scoring:
    """``Score`` in vLLM's terms: prompt and target together are a prompt that vLLM scores."""

    def __init__(self, call: Score, vocabulary: Vocabulary) -> None:
        self.sequences: list[array[int]] = []
        self.segment_lengths: list[tuple[int, ...]] = []
        for index, request in enumerate(call.requests):
            example = encode(vocabulary.tokenizer, request.prompt, request.target)
            not_empty(index, example.prompt)
            fit_example(index, len(example), vocabulary.max_length)
            self.sequences.append(array("i", example.tokens))
            self.segment_lengths.append(example.segment_lengths)

    def params(self, index: int) -> SamplingParams:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=0,
            # A token found in the prefix cache would come back without its log-probability.
            skip_reading_prefix_cache=True,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def value(self, index: int, output: RequestOutput) -> SegmentLogprobs:
        lengths = self.segment_lengths[index]
        first = len(self.sequences[index]) - sum(lengths)
        target = iter(_of_actual_tokens(output.prompt_logprobs, first))
        return tuple(tuple(islice(target, length)) for length in lengths)


def own_seed(seed: int, prompt: array[int]) -> int:
    """A seed for vLLM that depends on the request and on nothing else.

    vLLM samples completion k with seed + k: requests seeded 0 and 1 would share all but one of
    their completions if their seeds were handed on as they are.
    """
    digest = hashlib.blake2b(prompt.tobytes(), key=str(seed).encode(), digest_size=7)
    return int.from_bytes(digest.digest(), "big")


def _of_actual_tokens(flat: FlatLogprobs, first: int = 0) -> list[float]:
    # The token that is there comes first at every position.
    return [flat.logprobs[start] for start in flat.start_indices[first:]]
