"""An engine that asks a model server over HTTP: vLLM's, or any other of OpenAI's dialect."""

from __future__ import annotations

import json
import logging
from asyncio import TaskGroup
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from promptcot import tokens
from promptcot.chunks import chunks
from promptcot.engines.background import from_thread
from promptcot.engines.patient_client import EnvironmentKey, PatientClient, check_base_url
from promptcot.engines.replies import read_chat, read_completions, read_prompt_logprobs
from promptcot.engines.retries import Patience, RequestRefused
from promptcot.engines.server_weights import ServedWeights
from promptcot.protocols import (
    REFUSED,
    Completion,
    Request,
    Sampling,
    ScoreRequest,
    SegmentLogprobs,
)
from promptcot.weights import check_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

R = TypeVar("R")
T = TypeVar("T")
Post = Callable[[str, dict[str, Any], Callable[[object], T]], Awaitable[T]]
logger = logging.getLogger(__name__)

UNCUT = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""What vLLM would otherwise take from a model's generation_config.json."""


class ServerEngine:
    """Completions from a model server, and scores where it is vLLM's.

    Holds no connection and no key between calls. In chat mode vLLM still applies the sampling
    defaults of the model's generation_config.json (top_k, repetition_penalty): serve it with
    ``--generation-config vllm``. In text mode without ``tokenizer`` the server tokenises, and
    may read markup such as ``<|im_end|>`` in a prompt as a control token.

    Args:
        weights: The served model's name, where ``model`` is not given; a folder with ``reloads``.
        base_url: Up to and with the version, as in ``http://127.0.0.1:8000/v1``.
        model: The served model's name.
        api_key_env: The environment variable that holds the key; where it is unset none is sent.
        chat: Ask for answers to the prompt as a user's message; else for continuations of it.
        concurrency: Requests under way at once.
        max_retries: Tries of one request after its first.
        timeout_s: Limit of one try.
        backoff_s: Wait before the second try; it doubles with every try.
        tokenizer: Folder of the served model's tokenizer. Then text prompts and scores go as token
            ids, tokenised here as in training; needed for scores.
        max_model_len: Tokens that the served model's context holds. With ``tokenizer``, what is
            longer is found before it is asked; else the server's refusal ends the run.
        extra_body: More fields for every completion request; one that is null is taken out.
        max_refused: Requests that the server may refuse (status 400, 413 or 422), as it does for
            a prompt that is too long for it or against its rules. Each then counts as a completion
            that is empty and cut off, with the reason ``refused``, and is not asked again. One more
            ends the run, and so does the first where scores or log-probabilities are needed.
        reloads: Whether the server, a vLLM's of our own, is to take the weights in the folder
            ``weights``, which it must see on its disk, when this engine is opened; an adapter's
            folder only until this engine is closed. Nobody else may ask that server meanwhile.

    Raises:
        ConnectionError: With ``reloads``, no answer came.
        RuntimeError: With ``reloads``, the server refuses the weights.
    """

    RESOURCES = frozenset(
        {
            "base_url",
            "api_key_env",
            "concurrency",
            "max_retries",
            "timeout_s",
            "backoff_s",
            "max_refused",
        }
    )
    """Arguments that decide nothing of what is answered."""

    def __init__(  # noqa: PLR0913, PLR0917
        self,
        weights: str = "",
        base_url: str = "http://127.0.0.1:8000/v1",
        model: str = "",
        api_key_env: str = "OPENAI_API_KEY",
        chat: bool = True,
        concurrency: int = 64,
        max_retries: int = 6,
        timeout_s: float = 600,
        backoff_s: float = 1.0,
        tokenizer: str = "",
        extra_body: dict[str, Any] | None = None,
        max_model_len: int | None = None,
        reloads: bool = False,
        max_refused: int = 0,
    ) -> None:
        if reloads:
            check_weights(weights)
            if not model:
                raise ValueError(
                    f"ServerEngine is to have the server load {weights}, and no model is named: "
                    "set model to the name under which the server has what is replaced"
                )
        self.model = model or weights
        if not self.model:
            raise ValueError("no model is named: set model to a name under which the server has it")
        if max_refused < 0:
            raise ValueError(f"max_refused={max_refused}: give 0 or more")
        if concurrency < 1:
            raise ValueError(f"concurrency={concurrency}: at least 1 request must be under way")
        try:
            json.dumps(extra_body)
        except (TypeError, ValueError) as error:
            raise ValueError(f"extra_body={extra_body} is no JSON ({error})") from None
        self.base_url = check_base_url(base_url)
        self.key = EnvironmentKey(api_key_env)
        self.chat = chat
        self.concurrency = concurrency
        self.patience = Patience(max_retries, backoff_s, timeout_s)
        self.tokenizer = _load_tokenizer(tokenizer) if tokenizer else None
        self.extra_body = extra_body or {}
        self.max_model_len = max_model_len
        self.max_refused = max_refused
        self._num_refused = 0
        self._served = ServedWeights(self.base_url, self.key, timeout_s)
        self._adapter = ""
        if reloads:
            self.model = self._served.load(model, weights)
            self._adapter = self.model if self.model != model else ""

    def batches(self, count: int) -> Iterator[range]:
        """Each request is on its own."""
        return chunks(count, 1)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> dict[int, str]:
        """What is known to be too long; nothing without a tokenizer and ``max_model_len``."""
        if self.tokenizer is None or self.max_model_len is None:
            return {}
        # A server writes a token after what it scores, for which there must be room.
        scored = any(isinstance(request, ScoreRequest) for request in requests)
        vocabulary = tokens.Vocabulary(self.tokenizer, self.max_model_len - scored, self.chat)
        return tokens.overlong(vocabulary, requests, max_tokens)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        """Index of a request and its completions, as each ends.

        Raises:
            ConnectionError: No answer came, try after try.
            RuntimeError: No answer came but errors, or answers that mean nothing.
            ValueError: The server refuses a request.
        """
        return self._each(requests, partial(self._complete, sampling=sampling))

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        """Index of a request and its log-probabilities, as each ends; raises as ``generate``."""
        if self.tokenizer is None:
            raise ValueError(
                "ServerEngine scores token ids, and has no tokenizer: set tokenizer to the folder "
                "of the served model (the server must be vLLM's)"
            )
        return self._each(requests, partial(self._score, self.tokenizer))

    def close(self) -> None:
        """Take the adapter off the server, if this engine put one there; nothing else to free."""
        adapter, self._adapter = self._adapter, ""
        if adapter:
            try:
                self._served.unload(adapter)
            except (ConnectionError, RuntimeError) as error:  # the work is done, or failed before
                logger.warning("the adapter %s stays on the server: %s", adapter, error)

    def _each(
        self, requests: Sequence[R], answer: Callable[[Post[Any], R], Awaitable[T]]
    ) -> Iterator[tuple[int, T]]:
        async def produce(emit: Callable[[tuple[int, T]], None]) -> None:
            pending = iter(enumerate(requests))  # shared: each worker takes the next

            async def work(client: PatientClient) -> None:
                for index, request in pending:
                    post = partial(client.post, f"request {index}")
                    emit((index, await answer(post, request)))

            async with (
                PatientClient(self.base_url, self.key, self.patience, self.concurrency) as client,
                TaskGroup() as workers,
            ):
                for _ in range(min(self.concurrency, len(requests))):
                    workers.create_task(work(client))

        return from_thread(produce)

    async def _complete(
        self, post: Post[list[Completion]], request: Request, sampling: Sampling
    ) -> list[Completion]:
        path = "/chat/completions" if self.chat else "/completions"
        read = read_chat if self.chat else read_completions
        found: list[Completion] = []
        while missing := sampling.n - len(found):  # some servers ignore n
            # vLLM seeds choice k of a request with seed + k.
            body = self._body(request.prompt, request.seed + len(found), missing, sampling)
            try:
                found += (await post(path, body, read))[:missing]
            except RequestRefused as refusal:
                self._count(refusal)
                found += missing * [Completion("", finished=False, finish_reason=REFUSED)]
        return found

    def _count(self, refusal: RequestRefused) -> None:
        """Tell of a request that was refused; raise where there were too many."""
        if self._num_refused >= self.max_refused:
            raise ValueError(
                f"{refusal}; or let up to so many requests be refused, and count as cut off, by "
                f"max_refused (now {self.max_refused})"
            ) from refusal
        self._num_refused += 1
        logger.warning("refused, number %d: %s", self._num_refused, refusal)

    def _body(self, prompt: str, seed: int, n: int, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "n": n,
            "seed": seed,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
        if self.chat:
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body |= {"prompt": self._prompt(prompt), "logprobs": 0, "return_token_ids": True}
            body |= UNCUT
        body |= self.extra_body
        return {name: value for name, value in body.items() if value is not None}

    def _prompt(self, prompt: str) -> str | list[int]:
        if self.tokenizer is None:
            return prompt
        return list(tokens.encode_prompt(self.tokenizer, prompt))

    async def _score(
        self,
        tokenizer: PreTrainedTokenizerBase,
        post: Post[list[float] | None],
        request: ScoreRequest,
    ) -> SegmentLogprobs:
        example = tokens.encode(tokenizer, request.prompt, request.target)
        if not example.prompt:
            raise ValueError(
                f"the prompt {request.prompt!r} has no tokens, so that nothing predicts "
                "the target's first: give it a text"
            )
        body = {
            "model": self.model,
            "prompt": list(example.tokens),
            "max_tokens": 1,
            "temperature": 0,
            "prompt_logprobs": 0,
        }
        start = len(example.prompt)
        read = partial(read_prompt_logprobs, tokens=example.tokens, start=start)
        found = await post("/completions", body, read)
        if found is None:
            raise ValueError(
                f"{self.base_url} answers without prompt_logprobs, so that nothing can be scored: "
                "set base_url to a vLLM server"
            )
        logprobs = tuple(found)
        edges = pairwise(accumulate(example.segment_lengths, initial=0))
        return tuple(logprobs[left:right] for left, right in edges)


def _load_tokenizer(folder: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=False
    )
    return tokenizer
