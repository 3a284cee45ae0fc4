"""The last resort, in a worker only: math-verify, for formulas that our grammar does not know.

math-verify reads what it can and skips the rest, and its comparison depends on the order. So its
yes counts in both directions only, for texts without words, and behind checks of size: sympy
evaluates towers of powers and factorials while it reads.
"""

from __future__ import annotations

import logging
import re

from promptcot.records import Outcome
from verify.formulas.deciding import Decision, is_prose
from verify.formulas.lexing import FUNCTIONS, GREEK, OPERATORS
from verify.formulas.notation import ROW, unify

MAX_CHARACTERS = 400
MAX_NESTED = 12
_LONG_EXPONENT = re.compile(
    r"\^\s*\{?\s*-?\d{4,}|\^\s*\{[^{}]*\^|\^\s*\w\s*\^|\*\*|\d{3,}\s*!|!\s*!|\d{200,}"
)
_COMMAND = re.compile(r"\\([a-zA-Z]+)")
_SETS = "setminus cup cap in notin subset subseteq supset supseteq mathbb emptyset infty"
_FORMS = "frac sqrt binom pi cdot times div pm le ge ne lfloor rfloor lceil rceil overline deg"
_LAYOUT = "begin end text mathrm mbox ldots dots cdots to bmod mod pmod"
_COMMANDS_READ = frozenset(
    [*FUNCTIONS, *GREEK, *OPERATORS, *_SETS.split(), *_FORMS.split(), *_LAYOUT.split()]
)
"""What math-verify knows; it leaves out any other command, and takes two formulas for one."""


def why_not(text: str) -> str:
    """Why sympy must not see a text; empty where it may."""
    if len(text) > MAX_CHARACTERS:
        return f"a formula of more than {MAX_CHARACTERS} characters"
    if _LONG_EXPONENT.search(text):
        return "a power or factorial too large to evaluate"
    depth = deepest = 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        deepest = max(deepest, depth)
    return f"more than {MAX_NESTED} nested brackets" if deepest > MAX_NESTED else ""


def _is_read(text: str) -> bool:
    """Whether math-verify reads all of a text."""
    return not is_prose(text) and set(_COMMAND.findall(text)) <= _COMMANDS_READ


def decide_symbolically(reference: str, answer: str) -> Decision | None:
    """math-verify's decision where it is sure in both directions, else None."""
    left, right = (unify(text).replace(ROW, r"\\") for text in (reference, answer))
    if not (_is_read(left) and _is_read(right)):
        return None
    refusal = why_not(left) or why_not(right)
    if refusal:
        return Decision(Outcome.UNDECIDED, "size", refusal)
    import math_verify

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    config = [math_verify.LatexExtractionConfig()]
    parsed = [
        math_verify.parse(f"${text}$", config, fallback_mode="no_fallback", parsing_timeout=None)
        for text in (left, right)
    ]
    if not all(parsed) or any(
        _skipped(text, found) for text, found in zip((left, right), parsed, strict=True)
    ):
        return None
    ways = [(parsed[0], parsed[1]), (parsed[1], parsed[0])]
    said = {bool(math_verify.verify(a, b, timeout_seconds=None)) for a, b in ways}
    if said == {True}:
        return Decision(Outcome.PASS, "math-verify")
    if said == {False}:
        return Decision(Outcome.FAIL, "math-verify")
    return Decision(Outcome.UNDECIDED, "math-verify", "math-verify's answer depends on the order")


def _skipped(text: str, found: list[object]) -> bool:
    """Whether names of the text are missing in what math-verify read."""
    free = getattr(found[0], "free_symbols", None)
    letters = set(
        re.findall(r"(?<![a-zA-Z\\])[a-df-hj-z](?![a-zA-Z])", re.sub(r"\\[a-zA-Z]+", " ", text))
    )
    return free is None or not letters <= {str(name)[:1] for name in free}
