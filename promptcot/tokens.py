"""Text to token ids, in one place, so that training, sampling and scoring see the same tokens.

A sequence is the prompt's tokens, the target's tokens, the end token. Pieces are tokenised on
their own and joined as ids; nothing is ever decoded and tokenised again. Markup of special
tokens inside a text (``<|im_end|>``) stays ordinary text, so that only this module places control
tokens; but not in what a chat template shows of a user's message, which is tokenised as servers do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Protocol, Self

from promptcot.protocols import Piece, Request, ScoreRequest, Target

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Trainable(Protocol):
    """What a loss has terms of: a sequence, or several that are compared."""

    def __len__(self) -> int:
        """Tokens of all its sequences."""
        ...

    @property
    def sequences(self) -> Sequence[TokenSequence]:
        """What it is made of."""
        ...

    @property
    def terms(self) -> tuple[int, ...]:
        """How many terms it gives to each mean that the loss is made of."""
        ...

    def untargeted(self) -> Self:
        """The same for a rank that has nothing to do: as many tokens, no term."""
        ...


class TokenSequence(Trainable, Protocol):
    """Tokens, and which of them are targets."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """All of them."""
        ...

    @property
    def spans(self) -> Sequence[tuple[int, int]]:
        """Start and end (behind the last) of each segment of targets, ascending, from 1 on."""
        ...

    @property
    def target(self) -> tuple[int, ...]:
        """The targets of all spans, end to end."""
        ...


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and its target as token ids."""

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    segment_lengths: tuple[int, ...]
    """Number of target tokens of each segment; they add up to ``len(target)``."""

    def __len__(self) -> int:
        return len(self.prompt) + len(self.target)

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.prompt + self.target

    @property
    def spans(self) -> tuple[tuple[int, int], ...]:
        """One of each segment."""
        edges = accumulate(self.segment_lengths, initial=len(self.prompt))
        return tuple(pairwise(edges))

    @property
    def sequences(self) -> tuple[Self]:
        return (self,)

    @property
    def terms(self) -> tuple[int, ...]:
        """The one mean is over target tokens."""
        return (len(self.target),)

    def untargeted(self) -> Self:
        """The same sequence with no token to train on."""
        none = (0,) * len(self.segment_lengths)
        return replace(self, prompt=self.tokens, target=(), segment_lengths=none)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How an engine's text becomes tokens, and how many of them it can hold.

    Args:
        tokenizer: The model's own.
        max_length: Tokens that a whole sequence may have.
        chat: Whether a prompt to complete becomes one user message.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    chat: bool

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """A prompt to complete, as the model is given it."""
        return (in_chat if self.chat else encode_prompt)(self.tokenizer, text)


def end_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The id that ends a sequence.

    Raises:
        ValueError: The tokenizer has none, so that a model could never learn to stop.
    """
    if tokenizer.eos_token_id is None:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path} has no end token (eos_token): "
            "set one in its tokenizer_config.json"
        )
    return int(tokenizer.eos_token_id)


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """The prompt's tokens, with the start token where this tokenizer uses one."""
    bos = tokenizer.bos_token_id
    starts = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    return ((bos,) if starts else ()) + encode_piece(tokenizer, text)


def encode_piece(tokenizer: PreTrainedTokenizerBase, piece: Piece) -> tuple[int, ...]:
    """Tokens of one piece; token ids pass through."""
    if isinstance(piece, tuple):
        return piece
    encoded = tokenizer(piece, add_special_tokens=False, split_special_tokens=True)
    return tuple(encoded["input_ids"])


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, target: Target) -> Example:
    """The sequence that is trained on or scored."""
    segments = [
        [token for piece in pieces for token in encode_piece(tokenizer, piece)]
        for pieces in target.segments
    ]
    if target.ends:
        segments[-1].append(end_token(tokenizer))
    return Example(
        encode_prompt(tokenizer, prompt),
        tuple(token for segment in segments for token in segment),
        tuple(len(segment) for segment in segments),
    )


def not_empty(number: int, prompt: tuple[int, ...]) -> tuple[int, ...]:
    """The prompt's tokens.

    Raises:
        ValueError: There are none.
    """
    if not prompt:
        raise ValueError(
            f"prompt {number} has no tokens, so that nothing predicts what follows: give it a text"
        )
    return prompt


def in_chat(tokenizer: PreTrainedTokenizerBase, message: str) -> tuple[int, ...]:
    """The tokens of one user's message in the model's chat template, ready for the reply.

    Raises:
        ValueError: The tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"the tokenizer of {tokenizer.name_or_path} has no chat template: "
            "set the engine's `chat` to false, or choose an instruction-tuned model"
        )
    messages = [{"role": "user", "content": message}]
    encoded: Any = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True
    )
    return tuple(encoded["input_ids"])


def fit_prompt(number: int, length: int, max_tokens: int, max_length: int) -> None:
    """Refuse a prompt whose completion could not end within the model's context.

    Raises:
        ValueError: Prompt and ``max_tokens`` together exceed ``max_length``.
    """
    if length + max_tokens > max_length:
        raise ValueError(
            f"prompt {number} has {length} tokens; with max_tokens {max_tokens} that exceeds the "
            f"model's context of {max_length}: lower max_tokens or drop the problem"
        )


def fit_example(number: int, length: int, max_length: int) -> None:
    """Refuse a sequence longer than the model's context.

    Raises:
        ValueError: It is.
    """
    if length > max_length:
        raise ValueError(
            f"sequence {number} has {length} tokens, the model's context holds {max_length}: "
            "lower max_tokens where it was sampled, or drop the problem"
        )


def overlong(
    vocabulary: Vocabulary,
    requests: Sequence[Request | ScoreRequest],
    max_tokens: int = 0,
) -> dict[int, str]:
    """Index and length in words of each request that the model's context cannot hold."""
    found: dict[int, str] = {}
    for index, request in enumerate(requests):
        if isinstance(request, ScoreRequest):
            length = len(encode(vocabulary.tokenizer, request.prompt, request.target))
        else:
            length = len(vocabulary.encode_prompt(request.prompt))
        if length + max_tokens > vocabulary.max_length:
            room = f" and {max_tokens} to write" if max_tokens else ""
            found[index] = f"{length} tokens{room}, the context holds {vocabulary.max_length}"
    return found
