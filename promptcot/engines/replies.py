"""What an OpenAI-compatible server's JSON means. Pure; ``ValueError`` for what cannot be read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from promptcot.protocols import Completion

REASONING = ("reasoning_content", "reasoning")
"""Fields of a message in which servers send reasoning apart from the text."""


def read_chat(reply: object) -> list[Completion]:
    """The completions in a reply of /chat/completions."""
    return _counted([_read_message(choice) for choice in _choices(reply)], reply)


def read_completions(reply: object) -> list[Completion]:
    """The completions in a reply of /completions, with tokens where the server gave them."""
    return _counted([_read_text(choice) for choice in _choices(reply)], reply)


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
        found = [float(row[str(token)]["logprob"]) for row, token in pairs]
        if any(map(math.isnan, found)):
            raise ValueError
        return found
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError("prompt_logprobs of other tokens than were sent") from None


def _choices(reply: object) -> list[dict[str, Any]]:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices")
    if not all(isinstance(choice, dict) for choice in choices):
        raise ValueError("a choice that is no object")
    return choices


def _counted(completions: list[Completion], reply: object) -> list[Completion]:
    """With the counts of tokens; ``usage`` adds up the choices, so it tells of one alone."""
    usage = reply.get("usage") if isinstance(reply, dict) else None
    counts = usage if isinstance(usage, dict) else {}
    prompt = _count(counts.get("prompt_tokens"))
    told = _count(counts.get("completion_tokens")) if len(completions) == 1 else 0
    return [
        replace(c, prompt_tokens=prompt, completion_tokens=told or len(c.logprobs))
        for c in completions
    ]


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _read_message(choice: dict[str, Any]) -> Completion:
    message = choice.get("message")
    if not isinstance(message, dict):
        raise ValueError("a choice without message")
    content = message.get("content")
    text, thoughts = _parts(content) if isinstance(content, list) else (content, "")
    reasoning = next((message[name] for name in REASONING if message.get(name)), thoughts)
    if not isinstance(reasoning, str):
        raise ValueError("a choice whose reasoning is no text")
    text = _or_empty(text, choice, bool(reasoning))
    reason = _finish_reason(choice)
    whole = _whole(reasoning)
    return Completion(text, reason == "stop", reasoning=whole, finish_reason=reason)


def _parts(content: list[Any]) -> tuple[str, str]:
    """Text and reasoning of a content in parts, as Mistral's server sends it."""
    if not all(isinstance(part, dict) for part in content):
        raise ValueError("a choice whose content has parts that are no objects")
    texts = [part.get("text") for part in content if part.get("type") == "text"]
    inner = [part.get("thinking") for part in content if part.get("type") == "thinking"]
    thoughts = [_parts(part)[0] if isinstance(part, list) else part for part in inner]
    if len(texts) + len(thoughts) < len(content) or not all(
        isinstance(text, str) for text in (*texts, *thoughts)
    ):
        raise ValueError("a choice whose content has parts that are no text")
    return "".join(map(str, texts)), "".join(map(str, thoughts))


def _or_empty(text: object, choice: dict[str, Any], has_reasoning: bool) -> str:
    """The text; an empty one where there is none, but the choice tells how it ended."""
    if text is None and (has_reasoning or "finish_reason" in choice):
        return ""
    if not isinstance(text, str):
        raise ValueError("a choice without text")
    return _whole(text)


def _whole(text: str) -> str:
    """With U+FFFD for each half of a character, which no file can hold."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _finish_reason(choice: dict[str, Any]) -> str:
    reason = choice.get("finish_reason")
    return reason if isinstance(reason, str) else ""


def _read_text(choice: dict[str, Any]) -> Completion:
    text = _or_empty(choice.get("text"), choice, has_reasoning=False)
    reason = _finish_reason(choice)
    finished = reason == "stop"
    tokens, logprobs = _sampled(choice)
    kept = tokens[:-1] if finished else tokens
    return Completion(text, finished, kept, logprobs, finish_reason=reason)


def _sampled(choice: dict[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Token ids and log-probabilities, the end token included; empty where not given in full."""
    tokens = choice.get("token_ids")
    logprobs = choice.get("logprobs")
    values = logprobs.get("token_logprobs") if isinstance(logprobs, dict) else None
    # A stop string (from extra_body) is cut out of the text but not out of the tokens.
    if isinstance(choice.get("stop_reason"), str) or not tokens or not values:
        return (), ()
    whole = isinstance(tokens, list) and all(isinstance(token, int) for token in tokens)
    scored = isinstance(values, list) and all(map(_is_number, values))
    if not whole or not scored or len(tokens) != len(values):
        return (), ()
    return tuple(tokens), tuple(float(value) for value in values)


def _is_number(value: object) -> bool:
    """Whether it is a number that floating point holds, an infinite one included."""
    try:
        return isinstance(value, int | float) and not math.isnan(value)
    except OverflowError:
        return False
