"""Traces in one form: what teachers think and reply, whatever marks their formats put between.

Every text gives a trace or a named flaw. Where marks could be read in two ways nothing is guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum

from promptcot.solutions import CLOSE, OPEN

PAIRS = (
    (OPEN, CLOSE),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
"""Marks around a thought. Of the first pair the opening one may be missing: templates write it."""
SOLUTION = ("<|begin_of_solution|>", "<|end_of_solution|>")
HARMONY = ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>", "<|call|>")
FINAL = "assistantfinal"
"""What is left of harmony's marks before the reply where control tokens were skipped."""

_MESSAGE = re.compile(
    r"\s*(?:<\|start\|>assistant([^<]*))?<\|channel\|>([^<]*(?:<\|constrain\|>[^<]*)?)"
    r"<\|message\|>(.*?)"
    r"(?:<\|end\|>|<\|return\|>|<\|call\|>|\Z)",
    re.DOTALL,
)
"""Recipient, channel and text."""
_SKIPPED = re.compile(r"analysis|assistantfinal|assistantcommentary|final(?=[A-Z*#$\\])")
"""How harmony begins where its control tokens were skipped."""
_CONTROL = re.compile(
    r"<\|(?:start|channel|message|end|return|call|constrain|im_start|im_end|im_sep|endoftext|"
    r"eot_id|eom_id|start_header_id|end_header_id|begin_of_text|end_of_text|user|assistant|system|"
    r"(?:begin|end)_of_(?:thought|solution))\|>|<\uff5c[^\uff5c<>]{2,40}\uff5c>"
)
"""Control tokens of the common chat templates."""


class Format(StrEnum):
    """How a teacher set its thought apart."""

    NONE = "no thought"
    FIELD = "field of the response"
    TAGS = "tags"
    HARMONY = "harmony"
    SKIPPED = "harmony without control tokens"


class TraceFlaw(StrEnum):
    """Why a text cannot be read. The value is what the counts call it."""

    EMPTY = "empty"
    NO_REPLY = "no reply after the thought"
    UNCLOSED = "a thought that does not end"
    REPEATED = "more than one thought or reply"
    BROKEN = "marks of a thought out of order"
    MIXED = "marks of two reasoning formats"
    TOOL = "commentary or a call of a tool"
    CONTROL = "a control token in the text"


@dataclass(frozen=True, slots=True)
class Trace:
    """What a teacher thought, empty where it did not, and what it replied; both stripped."""

    thought: str
    reply: str
    format: Format = field(default=Format.NONE, compare=False)


def read_trace(text: str, reasoning: str = "") -> Trace | TraceFlaw:
    """Thought and reply of a completion.

    Args:
        text: Without the prompt.
        reasoning: What a server sent apart; then the text must be the reply alone.

    Returns:
        A trace t of which ``read_trace(one_form(t)) == t`` holds, or a flaw.
    """
    found = _marked(text, reasoning.strip())
    if isinstance(found, TraceFlaw):
        return found
    if not found.reply:
        return TraceFlaw.NO_REPLY if found.thought else TraceFlaw.EMPTY
    if any(_CONTROL.search(part) for part in (found.thought, found.reply)):
        return TraceFlaw.CONTROL
    return found if _marked(one_form(found), "") == found else TraceFlaw.MIXED


def one_form(trace: Trace, *, keep_thought: bool = True) -> str:
    """The trace as students are trained on it: a thought between its tags, then the reply."""
    if not (trace.thought and keep_thought):
        return trace.reply
    return f"{OPEN}\n{trace.thought}\n{CLOSE}\n\n{trace.reply}"


def _marked(text: str, reasoning: str) -> Trace | TraceFlaw:
    """Read by the only format whose marks the text has."""
    text = text.strip()
    pairs = [pair for pair in PAIRS if pair[0] in text or pair[1] in text]
    has_control = any(mark in text for mark in HARMONY)
    is_skipped = FINAL in text or bool(_SKIPPED.match(text))
    if len(pairs) + has_control + is_skipped + bool(reasoning) > 1:
        return TraceFlaw.MIXED
    if reasoning:
        return Trace(reasoning, text, Format.FIELD)
    if has_control:
        return _harmony(text)
    if is_skipped:
        return _skipped_harmony(text)
    return _tagged(text, *pairs[0]) if pairs else Trace("", text)


def _tagged(text: str, opening: str, closing: str) -> Trace | TraceFlaw:
    opened, closed = text.count(opening), text.count(closing)
    if opened > 1 or closed > 1:
        return TraceFlaw.REPEATED
    if not closed:
        return TraceFlaw.UNCLOSED if text.startswith(opening) else TraceFlaw.BROKEN
    thought, _, reply = text.partition(closing)
    if not thought.startswith(opening) if opened else opening != OPEN:
        return TraceFlaw.BROKEN
    reply = reply.strip()
    if opening == PAIRS[-1][0]:
        unwrapped = _unwrapped(reply)
        if unwrapped is None:
            return TraceFlaw.BROKEN
        reply = unwrapped
    return Trace(thought.removeprefix(opening).strip(), reply, Format.TAGS)


def _unwrapped(reply: str) -> str | None:
    """A reply without the marks of a solution around it; None where they are not around it."""
    opening, closing = SOLUTION
    if opening not in reply and closing not in reply:
        return reply
    inner = reply.removeprefix(opening).removesuffix(closing)
    return inner.strip() if reply.startswith(opening) and not _CONTROL.search(inner) else None


def _harmony(text: str) -> Trace | TraceFlaw:
    """Messages of harmony: analysis at most once, then final once, nothing beside them."""
    messages: dict[str, str] = {}
    position = 0
    while position < len(text):
        message = _MESSAGE.match(text, position)
        if message is None or any(mark in message[3] for mark in HARMONY):
            return TraceFlaw.BROKEN
        channel = message[2].strip()
        if message[1] or channel not in ("analysis", "final"):
            return TraceFlaw.TOOL
        if channel in messages:
            return TraceFlaw.REPEATED
        messages[channel] = message[3].strip()
        position = message.end()
    if list(messages) == ["final", "analysis"]:
        return TraceFlaw.BROKEN
    return Trace(messages.get("analysis", ""), messages.get("final", ""), Format.HARMONY)


def _skipped_harmony(text: str) -> Trace | TraceFlaw:
    """As the code of PromptCoT 2.0 reads it: analysis, then exactly one ``assistantfinal``."""
    if "assistantcommentary" in text:
        return TraceFlaw.TOOL
    if text.count(FINAL) > 1 or "assistantanalysis" in text:
        return TraceFlaw.REPEATED
    if not text.startswith("analysis"):
        return TraceFlaw.BROKEN
    thought, found, reply = text.removeprefix("analysis").partition(FINAL)
    if not found:
        return TraceFlaw.UNCLOSED
    return Trace(thought.strip(), reply.strip(), Format.SKIPPED)
