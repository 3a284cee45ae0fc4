"""Generator and scorer on plain transformers: runs everywhere, and is the oracle for the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from promptcot.adapters import tokenizer_folder
from promptcot.chunks import chunks
from promptcot.protocols import Completion, Request, Sampling, ScoreRequest, SegmentLogprobs
from promptcot.weights import check_weights

if TYPE_CHECKING:
    from promptcot.engines.decoding import Decoded
    from promptcot.tokens import Example


class HFEngine:
    """A transformers model in this process.

    Args:
        weights: Folder (or hub name) of the model, or folder of an adapter, which is merged into
            its base.
        dtype: "float32", "bfloat16" or "float16"; "auto" takes bfloat16 on a GPU, else float32.
        device: "auto" takes a GPU where there is one.
        batch_size: Prompts sampled, or sequences scored, in one batch.
        chat: Put each prompt into the model's chat template as a user's message.
    """

    RESOURCES = frozenset({"device"})
    """Arguments that decide nothing of what is answered, but for rounding."""

    def __init__(
        self,
        weights: str,
        dtype: str = "auto",
        device: str = "auto",
        batch_size: int = 16,
        chat: bool = False,
    ) -> None:
        check_weights(weights)
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: a batch has 1 request or more")
        import torch
        from transformers import AutoTokenizer

        from promptcot.likelihood import TargetLogprobs, load_causal_lm
        from promptcot.tokens import Vocabulary

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if dtype == "auto":
            dtype = "float32" if device == "cpu" else "bfloat16"
        self.batch_size = batch_size
        self.weights = weights
        self.tokenizer = AutoTokenizer.from_pretrained(
            tokenizer_folder(weights), trust_remote_code=False
        )
        self.scorer = TargetLogprobs(load_causal_lm(weights, dtype)).to(device).eval()
        max_length = int(self.scorer.lm.config.max_position_embeddings)
        self.vocabulary = Vocabulary(self.tokenizer, max_length, chat)

    def batches(self, count: int) -> Iterator[range]:
        return chunks(count, self.batch_size)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> dict[int, str]:
        from promptcot.tokens import overlong

        return overlong(self.vocabulary, requests, max_tokens)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        from promptcot.engines.decoding import decode
        from promptcot.tokens import end_token, fit_prompt, not_empty

        end = end_token(self.tokenizer)
        prompts = [self.vocabulary.encode_prompt(request.prompt) for request in requests]
        for number, prompt in enumerate(prompts):
            not_empty(number, prompt)
            fit_prompt(number, len(prompt), sampling.max_tokens, self.vocabulary.max_length)
        for batch in self.batches(len(requests)):
            decoded = decode(
                self.scorer.lm,
                [prompts[i] for i in batch],
                [requests[i].seed for i in batch],
                sampling,
                end,
            )
            for index, rows in zip(batch, decoded, strict=True):
                yield index, [self._completion(row, len(prompts[index])) for row in rows]

    def _completion(self, row: Decoded, prompt_tokens: int) -> Completion:
        return Completion(
            str(self.tokenizer.decode(row.tokens, skip_special_tokens=True)),
            row.finished,
            tuple(row.tokens),
            tuple(row.logprobs),
            finish_reason="stop" if row.finished else "length",
            prompt_tokens=prompt_tokens,
            completion_tokens=len(row.tokens) + row.finished,
        )

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        from promptcot.tokens import encode, fit_example, not_empty

        examples = [encode(self.tokenizer, r.prompt, r.target) for r in requests]
        for number, example in enumerate(examples):
            not_empty(number, example.prompt)
            fit_example(number, len(example), self.vocabulary.max_length)
        for batch in self.batches(len(requests)):
            scored = self._score([examples[i] for i in batch])
            yield from zip(batch, scored, strict=True)

    def _score(self, examples: Sequence[Example]) -> list[SegmentLogprobs]:
        import torch

        from promptcot.batches import pack
        from promptcot.likelihood import by_segment

        batch = pack(examples)
        with torch.inference_mode():
            return by_segment(self.scorer(batch.to(self.scorer.lm.device)), batch)

    def close(self) -> None:
        self.__dict__.pop("scorer", None)
        import gc

        import torch

        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
