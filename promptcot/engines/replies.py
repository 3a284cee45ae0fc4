"""What an OpenAI-compatible server's JSON means. Pure; ``ValueError`` for what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from promptcot.protocols import Completion


class Answer(NamedTuple):
    """One choice of a reply."""

    completion: Completion
    has_reasoning: bool = False
    """Whether the server sent reasoning apart from the text; the completion is without it."""


def read_chat(reply: object) -> list[Answer]:
    """The answers in a reply of /chat/completions."""
    return [_read_message(choice) for choice in _choices(reply)]


def read_completions(reply: object) -> list[Answer]:
    """The answers in a reply of /completions, with tokens where the server gave them."""
    return [Answer(_read_text(choice)) for choice in _choices(reply)]


def read_prompt_logprobs(reply: object, tokens: Sequence[int], start: int) -> list[float] | None:
    """Log-probabilities in nats of ``tokens[start:]``, which were sent as the prompt.

    Returns:
        None where the reply has none, as every server's but vLLM's.
    """
    rows = _choices(reply)[0].get("prompt_logprobs")
    if rows is None:
        return None
    if not isinstance(rows, list) or len(rows) != len(tokens):
        raise ValueError(f"prompt_logprobs of another number of tokens than the {len(tokens)} sent")
    try:
        pairs = zip(rows[start:], tokens[start:], strict=True)
        return [float(row[str(token)]["logprob"]) for row, token in pairs]
    except (KeyError, TypeError, ValueError):
        raise ValueError("prompt_logprobs of other tokens than were sent") from None


def _choices(reply: object) -> list[dict[str, Any]]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices")
    if not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("a choice that is no object")
    return choices


def _read_message(choice: dict[str, Any]) -> Answer:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("a choice without message")
    text = message.get("content")
    has_reasoning = bool(message.get("reasoning_content") or message.get("reasoning"))
    if text is None and has_reasoning:
        text = ""
    if not isinstance(text, str):
        raise ValueError("a choice without text")
    return Answer(Completion(text, choice.get("finish_reason") == "stop"), has_reasoning)


def _read_text(choice: dict[str, Any]) -> Completion:
    text = choice.get("text")
    if not isinstance(text, str):
        raise ValueError("a choice without text")
    finished = choice.get("finish_reason") == "stop"
    tokens, logprobs = _sampled(choice)
    return Completion(text, finished, tokens[:-1] if finished else tokens, logprobs)


def _sampled(choice: dict[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Token ids and log-probabilities, the end token included; empty where not given in full."""
    tokens = choice.get("token_ids")
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    # A stop string (from extra_body) is cut out of the text but not out of the tokens.
    if isinstance(choice.get("stop_reason"), str) or not tokens or not values:
        return (), ()
    whole = isinstance(tokens, list) and all(isinstance(token, int) for token in tokens)
    scored = isinstance(values, list) and all(isinstance(value, int | float) for value in values)
    if not whole or not scored or len(tokens) != len(values):
        return (), ()
    return tuple(tokens), tuple(float(value) for value in values)
