"""What a model wrote, taken apart: every string gives a result or a named reason."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from enum import StrEnum

from promptcot.prompts import PromptFormat

_MARKER = re.compile(r"(?:\*\*)?Thinking Process(?::\*\*|\*\*:|:)")
MAX_CODE = 4000
"""Characters of a code block that are read as a list; a concept list is far shorter."""


class Flaw(StrEnum):
    """Why a completion is dropped. The value is what the counts call it."""

    UNFINISHED = "cut off by the token limit"
    EMPTY = "empty"
    SHORT = "shorter than asked"
    HAS_TAGS = "contains a tag of the format"
    NO_RATIONALE = "no rationale between its tags"
    NO_PROBLEM = "no problem between its tags"
    REPEATED = "tags more than once or out of order"
    NO_CONCEPTS = "no list of concepts"
    WRONG_COUNT = "another number of concepts than asked"


@dataclass(frozen=True, slots=True)
class Composition:
    """A rationale and the problem it led to, as the prompt model wrote them."""

    rationale: str
    statement: str


def parse_composition(text: str, format: PromptFormat) -> Composition | Flaw:
    """The rationale and the problem between their tags, each pair exactly once and in order."""
    if any(text.count(tag) > 1 for tag in format.tags):
        return Flaw.REPEATED
    rationale = _between(text, *format.rationale_tags)
    statement = _between(text, *format.problem_tags)
    if not rationale:
        return Flaw.NO_RATIONALE
    if not statement:
        return Flaw.NO_PROBLEM
    places = [text.find(tag) for tag in format.tags]
    if places != sorted(places):
        return Flaw.REPEATED
    return Composition(rationale, statement)


def parse_own_rationale(text: str, format: PromptFormat) -> str | Flaw:
    """The rationale alone, whatever the prompt model wrote after it."""
    return _between(text, *format.rationale_tags) or Flaw.NO_RATIONALE


def parse_rationale(
    text: str, format: PromptFormat, finished: bool = True, min_words: int = 0
) -> str | Flaw:
    """A rationale as the rationale model or a teacher wrote it.

    A teacher is told to write it after "Thinking Process:"; the last such marker counts.
    """
    if not finished:
        return Flaw.UNFINISHED
    rationale = _MARKER.split(text)[-1].strip()
    if not rationale:
        return Flaw.EMPTY
    if any(tag in rationale for tag in format.tags):
        return Flaw.HAS_TAGS
    return rationale if len(rationale.split()) >= min_words else Flaw.SHORT


def after_thinking(text: str) -> str:
    """What follows the last ``</think>``; the whole text where no thought was begun."""
    _, closed, said = text.rpartition("</think>")
    return "" if not closed and "<think>" in text else said


def parse_concepts(text: str, num_concepts: int) -> tuple[str, ...] | Flaw:
    """The concepts a teacher listed: a Python list in a code block, or "Knowledge Point:" lines."""
    found = _listed(text) or tuple(re.findall(r"(?m)^Knowledge Point:[ \t]*(\S.*?)[ \t]*$", text))
    concepts = tuple(dict.fromkeys(" ".join(concept.split()) for concept in found))
    if not any(concepts):
        return Flaw.NO_CONCEPTS
    return concepts if len(concepts) == num_concepts and all(concepts) else Flaw.WRONG_COUNT


def _between(text: str, before: str, after: str) -> str:
    start = text.find(before)
    end = text.find(after, start + len(before))
    return text[start + len(before) : end].strip() if start >= 0 and end >= 0 else ""


def _listed(text: str) -> tuple[str, ...]:
    block = re.search(r"```python\s*\n(.*?)```", text, re.DOTALL) or re.search(
        r"```[^\n]*\n(.*?)```", text, re.DOTALL
    )
    if block is None or len(block[1]) > MAX_CODE:
        return ()
    try:  # only parsed, never executed
        nodes = list(ast.walk(ast.parse(block[1].strip())))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    for node in nodes:
        if isinstance(node, ast.List):
            values = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            if len(values) == len(node.elts) and all(isinstance(v, str) for v in values):
                return tuple(str(value) for value in values)
    return ()
