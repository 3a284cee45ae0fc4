"""Which traces of a teacher are kept: the paper's light filter, and stricter ones by choice."""

from __future__ import annotations

import ast
import re
import warnings
from dataclasses import dataclass
from enum import StrEnum

from promptcot.fences import LANGUAGES, fenced_blocks
from promptcot.protocols import Completion
from promptcot.reasoning import Trace, TraceFlaw, read_trace
from promptcot.records import Domain, Problem
from promptcot.repetition import ends_in_loop, repeated_share
from promptcot.solutions import SolutionFlaw, Thought, in_another_script

MAX_CODE = 100_000
"""Characters of a program that is parsed."""
NOT_ENDED = "not ended by the teacher"
"""By anything but the limit of tokens: a filter, a tool, a server that gave up."""
_BRACES = re.compile(r"\\boxed\s*\{|\\[{}]|\\\\(?!boxed)|[{}]")
_BLANK = re.compile(r"\\(?:text|mathrm|mathbf|quad|[,;:! ])|[\s{}$.?_~…]")


class Rejection(StrEnum):
    """Why a trace that can be read is not kept. The value is what the counts call it."""

    NO_BOX = "no boxed answer in the reply"
    NO_CODE = "no block of code in the reply"
    CUT_CODE = "a block of code that does not end"
    EMPTY_CODE = "an empty block of code"
    BROKEN_CODE = "a program that does not parse"
    SHORT = "too short"
    LONG = "too long"
    FOREIGN = "another script than the problem's"
    REPEATS = "repeats itself"
    LOOP = "ends in a loop"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class TraceFilter:
    """Rules that a trace must keep.

    Args:
        boxed: The reply to mathematics has a boxed answer; the last box counts.
        code: The reply to a programming problem has a closed, non-empty block of code: the last one
            in Python, else the last without a language, else the last. One of the first two must
            parse; nothing is executed.
        min_tokens: Of thought and reply; words where the engine tells no tokens.
        max_tokens: The same; null for no limit but the sampling's.
        same_script: No Chinese, Japanese or Korean script in thought or reply to a problem
            without.
        max_repeated: Largest share of runs of 20 words that thought or reply had before; null for
            any.
        loops: Keep a thought or reply whose last 400 characters or more are one string again and
            again.

    Source:
        PromptCoT 2.0 (arXiv 2509.19894), section 3.4.2, has ``boxed`` and ``code`` alone.
    """

    boxed: bool = True
    code: bool = True
    min_tokens: int = 0
    max_tokens: int | None = None
    same_script: bool = True
    max_repeated: float | None = 0.3
    loops: bool = False

    def __post_init__(self) -> None:
        most = self.max_tokens
        if self.min_tokens < 0 or (most is not None and most < max(1, self.min_tokens)):
            raise ValueError(
                f"min_tokens={self.min_tokens}, max_tokens={most}: no trace has such a length; "
                "set 0 or more, and no less than that or null"
            )
        if self.max_repeated is not None and not 0 <= self.max_repeated <= 1:
            raise ValueError(
                f"max_repeated={self.max_repeated}: it is a share in [0, 1], or null for any"
            )

    def rejection(self, problem: Problem, trace: Trace, num_tokens: int = 0) -> Rejection | None:
        """The first rule that the trace breaks; None for one to keep.

        Args:
            problem: What it solves.
            trace: Thought and reply.
            num_tokens: Of both; 0 where it is not known.
        """
        return self._of_reply(problem, trace.reply) or self._of_text(problem, trace, num_tokens)

    def _of_reply(self, problem: Problem, reply: str) -> Rejection | None:
        if problem.domain is Domain.CODE:
            return code_rejection(reply) if self.code else None
        return Rejection.NO_BOX if self.boxed and not has_boxed_answer(reply) else None

    def _of_text(self, problem: Problem, trace: Trace, num_tokens: int) -> Rejection | None:
        parts = (trace.thought, trace.reply)
        length = trace_length(trace, num_tokens)
        if length < self.min_tokens:
            return Rejection.SHORT
        if self.max_tokens is not None and length > self.max_tokens:
            return Rejection.LONG
        if self.same_script and any(in_another_script(problem.statement, part) for part in parts):
            return Rejection.FOREIGN
        if not self.loops and any(map(ends_in_loop, parts)):
            return Rejection.LOOP
        if self.max_repeated is not None and max(map(repeated_share, parts)) > self.max_repeated:
            return Rejection.REPEATS
        return None


def passing_trace(
    problem: Problem, completion: Completion, filters: TraceFilter, thought: Thought
) -> Trace | str:
    """The trace in a completion, or why there is none to keep.

    Args:
        problem: What it solves.
        completion: Of a teacher.
        filters: Rules for what can be read.
        thought: Whether there must, may or must not be one.
    """
    if not completion.finished:
        return SolutionFlaw.UNFINISHED if completion.finish_reason == "length" else NOT_ENDED
    trace = read_trace(completion.text, completion.reasoning)
    if isinstance(trace, TraceFlaw):
        return trace
    if thought == "required" and not trace.thought:
        return SolutionFlaw.NO_THOUGHT
    if thought == "forbidden" and trace.thought:
        return SolutionFlaw.HAS_THOUGHT
    return filters.rejection(problem, trace, completion.completion_tokens) or trace


def trace_length(trace: Trace, num_tokens: int) -> int:
    """Tokens where they are known, else words between white space."""
    return num_tokens or len(trace.thought.split()) + len(trace.reply.split())


def has_boxed_answer(reply: str) -> bool:
    r"""Whether the last ``\boxed{...}`` is closed and holds more than blanks, dots and braces."""
    opened: list[int] = []  # where the content of each open box begins; -1 for a plain brace
    last = ""
    for mark in _BRACES.finditer(reply):
        if mark[0].startswith("\\boxed"):
            opened.append(mark.end())
        elif mark[0] == "{":
            opened.append(-1)
        elif mark[0] == "}" and opened:
            start = opened.pop()
            last = reply[start : mark.start()] if start >= 0 else last
    return all(start < 0 for start in opened) and bool(_BLANK.sub("", last))


def code_rejection(reply: str) -> Rejection | None:
    """What is wrong with the program in a reply; None for one that may run."""
    blocks, is_cut = fenced_blocks(reply)
    if is_cut:
        return Rejection.CUT_CODE
    if not blocks:
        return Rejection.NO_CODE
    name, program = _program(blocks)
    if not program.strip():
        return Rejection.EMPTY_CODE
    is_python = name in (*LANGUAGES["python"], "")
    return Rejection.BROKEN_CODE if is_python and not _parses(program) else None


def _program(blocks: list[tuple[str, str]]) -> tuple[str, str]:
    for names in (LANGUAGES["python"], ("",)):
        for name, text in reversed(blocks):
            if name in names:
                return name, text
    return blocks[-1]


def _parses(program: str) -> bool:
    """Whether it is Python; only parsed, never executed."""
    if len(program) > MAX_CODE:
        return False
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that mean nothing
            ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
