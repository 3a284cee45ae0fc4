"""The points at which formulas are compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from fractions import Fraction

from verify.formulas.arithmetic import Value
from verify.formulas.lexing import Node

NUM_NEAR = 6
NUM_FAR = 4
NEGATIVE = frozenset([4, 5, 8, 9])
"""Points whose coordinates are negative, unless they must be whole."""
FAR = 3
"""Least size of a far coordinate; at near ones alone |x - 3| would be 3 - x."""
WHOLE_NAMES = frozenset("nkmNMKj")
"""Names that stand for whole numbers where a formula has steps, such as floor."""
_STEPS = frozenset(["floor", "ceil", "gcd", "lcm"])
PRIMES = (10007, 10009, 10037, 10039, 10061, 10067, 10069, 10079, 10091, 10093, 10099, 10103)
"""Values of names in common divisors, which are those of polynomials."""


def points(names: list[str], a: Node, b: Node) -> Iterator[Mapping[str, Value]]:
    """The same points for the same names, in whatever order they were found.

    Near ones come first, then far ones, some of each negative. Where a formula has steps, every
    other point is whole, so that steps are met.
    """
    if (_has_divisors(a) or _has_divisors(b)) and not WHOLE_NAMES & set(names):
        for shift in range(NUM_NEAR):
            cycle = PRIMES[shift:] + PRIMES[:shift]
            yield {name: Fraction(prime) for name, prime in zip(names, cycle, strict=False)}
        return
    has_steps = _has_steps(a) or _has_steps(b)
    for number in range(NUM_NEAR + NUM_FAR):
        whole = frozenset(names) if number % 2 else WHOLE_NAMES
        yield {name: _coordinate(number, name, has_steps and name in whole) for name in names}


def _coordinate(number: int, name: str, is_whole: bool) -> Fraction:
    digest = hashlib.sha256(f"{number} {name}".encode()).digest()
    is_far, drawn = number >= NUM_NEAR, int.from_bytes(digest[:2])
    if is_whole:
        return Fraction(11 + drawn % 200 if is_far else 2 + digest[0] % 9)
    size = FAR + Fraction(drawn, 331) if is_far else Fraction(100 + drawn % 400, 199)
    return -size if number in NEGATIVE else size


def is_far(point: Mapping[str, Value]) -> bool:
    """Whether a point is a far one, at which powers may be too large to hold."""
    return any(abs(value) >= FAR for value in point.values())


def _has_divisors(node: Node) -> bool:
    if node[0] == "call" and node[1] in {"gcd", "lcm"}:
        return True
    return any(_has_divisors(child) for child in node[1:] if isinstance(child, tuple))


def _has_steps(node: Node) -> bool:
    if node[0] in {"mod", "fact", "fact2", "binom"} or (node[0] == "call" and node[1] in _STEPS):
        return True
    if node[0] == "^" and node[1] == ("neg", ("num", Fraction(1), -1)):
        return True
    return any(_has_steps(child) for child in node[1:] if isinstance(child, tuple))
