"""Words of the grammar: a formula's text to numbers, commands, names and signs."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

Node = tuple[Any, ...]
MAX_DIGITS = 1000
"""Of one number."""


class NotAFormula(ValueError):
    """The text is none that the grammar knows."""


_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau phi "
    "chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell"
)
GREEK = frozenset(_GREEK.split())
CIRCULAR = ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth")
"""Circular and hyperbolic functions; each has an inverse."""
_OTHER = "exp ln lg log max min gcd lcm floor ceil"
FUNCTIONS = {
    **{name: name for name in (*CIRCULAR, *_OTHER.split())},
    **{f"{prefix}{name}": f"arc{name}" for name in CIRCULAR for prefix in ("arc", "ar", "a")},
    "tg": "tan", "ctg": "cot", "arctg": "arctan", "abs": "abs", "Re": "re", "Im": "im",
    "arg": "arg",
}  # fmt: skip
"""Our names of the functions, by each of the names that they are written with."""
OPERATORS = frozenset(["int", "sum", "prod", "lim", "iint", "oint"])
_WORDS = sorted([*FUNCTIONS, *GREEK, "sqrt", "pi", "infty", "frac"], key=len, reverse=True)
_TOKEN = re.compile(
    r"\s*(?:(?P<num>\d+\.\d+[eE][+-]?\d{1,4}|(?:\d+\.?\d*|\.\d+)(?:E[+-]?\d{1,4})?)"
    r"|\\(?P<cmd>[a-zA-Z]+|[{}%|])|(?P<word>[a-zA-Z]+)|(?P<op>\*\*|[-+*/^_(){}\[\]|!,%:'=<>&]))"
)


def tokens_of(text: str) -> list[str]:
    r"""Numbers, ``\commands``, known words, single letters and signs.

    Raises:
        NotAFormula: Some character begins none of them.
    """
    found: list[str] = []
    place = 0
    text = text.rstrip()
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise NotAFormula(f"no formula has {text[place : place + 12]!r}")
        place = match.end()
        if match["cmd"]:
            found.append("\\" + match["cmd"])
        elif match["word"]:
            found.extend(_letters(match["word"]))
        else:
            found.append(match["num"] or match["op"])
    return found


def _letters(word: str) -> list[str]:
    found: list[str] = []
    while word:
        known = next((w for w in _WORDS if word.startswith(w)), None)
        if known is None and len(word) > 1 and not found and len(word) > MAX_PRODUCT:
            raise NotAFormula(f"{word[:20]!r} is a word")
        found.append("\\" + known if known else word[0])
        word = word[len(known or word[0]) :]
    return found


MAX_PRODUCT = 5
"""Letters in a row that can be a product; more are a word."""


def quotient(top: Node, bottom: Node) -> Node:
    """A fraction; dy over dx is one name, in which d is no factor."""
    if all(node[:2] == ("*", ("sym", "d")) and node[2][0] == "sym" for node in (top, bottom)):
        return ("sym", f"d{top[2][1]}/d{bottom[2][1]}")
    return ("/", top, bottom)


def number(text: str) -> Node:
    """A number's leaf, with how many decimals it was written."""
    if len(text) > MAX_DIGITS:
        raise NotAFormula("a number of more than a thousand digits")
    mantissa = re.split("[eE]", text)[0]
    return ("num", Fraction(text), len(mantissa.partition(".")[2]) if "." in mantissa else -1)
