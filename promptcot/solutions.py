"""Is a solution well formed? What a model wrote, whatever it says; the rules are the paper's."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Literal

from promptcot.records import Domain, Problem

Thought = Literal["required", "allowed", "forbidden"]
"""Whether a solution has one <think>...</think> before its reply."""
OPEN, CLOSE = "<think>", "</think>"
_FOREIGN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Chinese and Japanese characters, Korean syllables."""


class SolutionFlaw(StrEnum):
    """Why a solution is neither chosen nor rejected. The value is what the counts call it."""

    UNFINISHED = "cut off by the token limit"
    REFUSED = "refused by the server"
    NO_THOUGHT = "no thought"
    HAS_THOUGHT = "has a thought"
    BROKEN_THOUGHT = "not one whole thought before the reply"
    EMPTY_THOUGHT = "empty thought"
    NO_REPLY = "no reply"
    FOREIGN = "reply in another script than the problem"
    NO_CODE = "no block of code"
    NO_ANSWER = "no answer"


def solution_flaw(
    problem: Problem, text: str, finished: bool = True, thought: Thought = "allowed"
) -> SolutionFlaw | None:
    """The first flaw of a solution; None for a well-formed one.

    Whether a reply to mathematics has an answer is the verifier's to say.

    Args:
        problem: What it solves.
        text: Without the prompt; a chat template may have opened the thought there, so that a
            missing ``<think>`` is taken as said.
        finished: False when the limit of tokens cut it off.
        thought: Whether it must, may or must not think aloud.

    Source:
        PromptCoT 2.0 (arXiv 2509.19894), section 3.4.2, and what its released code checks.
    """
    if not finished:
        return SolutionFlaw.UNFINISHED
    reply = text
    if OPEN in text or CLOSE in text:
        if thought == "forbidden":
            return SolutionFlaw.HAS_THOUGHT
        thinking, reply = _taken_apart(text)
        if thinking is None:
            return SolutionFlaw.BROKEN_THOUGHT
        if not thinking.strip():
            return SolutionFlaw.EMPTY_THOUGHT
    elif thought == "required":
        return SolutionFlaw.NO_THOUGHT
    return _reply_flaw(problem, reply)


def _taken_apart(text: str) -> tuple[str | None, str]:
    """Thought and reply; None for the first where there is not exactly one, at the beginning."""
    if OPEN not in text:
        text = OPEN + text
    before, _, rest = text.partition(OPEN)
    thinking, closed, reply = rest.partition(CLOSE)
    whole = closed and not before.strip() and OPEN not in rest and CLOSE not in reply
    return (thinking, reply) if whole else (None, reply)


def in_another_script(statement: str, text: str) -> bool:
    """Whether a text has Chinese, Japanese or Korean script, and the problem has none."""
    return bool(_FOREIGN.search(text)) and not _FOREIGN.search(statement)


def _reply_flaw(problem: Problem, reply: str) -> SolutionFlaw | None:
    if not reply.strip():
        return SolutionFlaw.NO_REPLY
    if in_another_script(problem.statement, reply):
        return SolutionFlaw.FOREIGN
    if problem.domain is Domain.CODE and "```" not in reply and "~~~" not in reply:
        return SolutionFlaw.NO_CODE
    return None
