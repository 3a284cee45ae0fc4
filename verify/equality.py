"""Whether two formulas are equal: by their values at a few points, the same in both directions.

Rational values are compared exactly. Others are computed to 50 digits, and what looks equal
once more to 130. A decimal number stands for what rounds to it (``is_rounding``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from fractions import Fraction

import mpmath

from verify.lexing import Node
from verify.values import TooLarge, Undefined, Value, evaluate, numeric

DIGITS = 50
MORE_DIGITS = 130
MIN_DECIMALS = 2
"""Decimals that a rounded number needs at least, so that 0.3 is not a third."""
MIN_SIGNIFICANT = 3
"""Significant digits that a rounded number needs at least."""
NUM_POINTS = 6
MIN_COMPARED = 2
"""Points at which both formulas must have a value."""
WHOLE_NAMES = frozenset("nkmNMKj")
"""Names that stand for whole numbers where a formula has steps, such as floor."""
_STEPS = frozenset(["floor", "ceil", "gcd", "lcm"])
PRIMES = (10007, 10009, 10037, 10039, 10061, 10067, 10069, 10079, 10091, 10093, 10099, 10103)
"""Values of names in common divisors, which are those of polynomials."""


def names_of(node: Node) -> frozenset[str]:
    """The names in a formula."""
    if node[0] == "sym":
        return frozenset([str(node[1])])
    return frozenset().union(*(names_of(child) for child in node[1:] if isinstance(child, tuple)))


def renamed(node: Node, old: str, new: str) -> Node:
    """The formula with one name replaced."""
    if node == ("sym", old):
        return ("sym", new)
    return tuple(renamed(child, old, new) if isinstance(child, tuple) else child for child in node)


def are_equal(a: Node, b: Node) -> bool:
    """Whether two formulas have equal values wherever both have one.

    Raises:
        TooLarge: A value cannot be held.
        Undefined: There are too few points at which both have a value.
    """
    if a == b:
        return True
    names = sorted(names_of(a) | names_of(b))
    if not names:
        return _equal_at({}, a, b)
    if _unevaluated(a) != _unevaluated(b):
        raise Undefined("an integral, a sum or a limit, which is not evaluated")
    compared = 0
    for point in _points(names, a, b):
        try:
            if not _equal_at(point, a, b, needs_real=any(v < 0 for v in point.values())):
                return False
        except Undefined:
            continue
        compared += 1
    if compared < MIN_COMPARED:
        raise Undefined("too few points at which both formulas have a value")
    return True


def proportional(a: Node, b: Node) -> bool:
    """Whether two equations "formula = 0" are one: their quotient is a number other than 0.

    Raises:
        TooLarge: A value cannot be held.
        Undefined: There are too few points at which both have a value.
    """
    names = sorted(names_of(a) | names_of(b))
    ratios = []
    with mpmath.workdps(DIGITS):
        for point in _points(names, a, b):
            try:
                top, bottom = numeric(evaluate(a, point)), numeric(evaluate(b, point))
            except Undefined:
                continue
            if abs(top) < mpmath.mpf(10) ** -30 or abs(bottom) < mpmath.mpf(10) ** -30:
                return False
            ratios.append(top / bottom)
        if len(ratios) < MIN_COMPARED:
            raise Undefined("too few points at which both equations have a value")
        gap = abs(ratios[0]) * mpmath.mpf(10) ** -30
        return all(bool(abs(ratio - ratios[0]) < gap) for ratio in ratios)


def _unevaluated(node: Node) -> bool:
    if node[0] == "call" and str(node[1]).startswith(("?int", "?sum", "?prod", "?lim")):
        return True
    return any(_unevaluated(child) for child in node[1:] if isinstance(child, tuple))


def _has_divisors(node: Node) -> bool:
    if node[0] == "call" and node[1] in {"gcd", "lcm"}:
        return True
    return any(_has_divisors(child) for child in node[1:] if isinstance(child, tuple))


def _has_steps(node: Node) -> bool:
    if node[0] in {"mod", "fact", "binom"} or (node[0] == "call" and node[1] in _STEPS):
        return True
    if node[0] == "^" and node[1] == ("neg", ("num", Fraction(1), -1)):
        return True
    return any(_has_steps(child) for child in node[1:] if isinstance(child, tuple))


def _points(names: list[str], a: Node, b: Node) -> Iterator[Mapping[str, Value]]:
    """The same points for the same names, in whatever order they were found."""
    if (_has_divisors(a) or _has_divisors(b)) and not WHOLE_NAMES & set(names):
        for shift in range(NUM_POINTS):
            cycle = PRIMES[shift:] + PRIMES[:shift]
            yield {name: Fraction(prime) for name, prime in zip(names, cycle, strict=False)}
        return
    whole = WHOLE_NAMES if _has_steps(a) or _has_steps(b) else frozenset()
    for number in range(NUM_POINTS):
        point: dict[str, Value] = {}
        for name in names:
            digest = hashlib.sha256(f"{number} {name}".encode()).digest()
            if name in whole:
                point[name] = Fraction(2 + digest[0] % 9)
            else:
                value = Fraction(100 + int.from_bytes(digest[:2]) % 400, 199)
                point[name] = -value if number >= NUM_POINTS - 2 else value
        yield point


def _equal_at(point: Mapping[str, Value], a: Node, b: Node, needs_real: bool = False) -> bool:
    with mpmath.workdps(DIGITS):
        left, right = evaluate(a, point), evaluate(b, point)
        if needs_real and (_is_complex(left) or _is_complex(right)):
            raise Undefined("a complex value, where the branch decides")
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return left == right or _rounded_equal(a, b, left, right)
        if _looks_zero(left) and _looks_zero(right):
            return _both_zero(point, a, b)
        if _close(left, right, DIGITS):
            return _confirmed(point, a, b)
        return _rounded_equal(a, b, left, right)


def _confirmed(point: Mapping[str, Value], a: Node, b: Node) -> bool:
    """Whether two values that look equal do so with more digits: 1 may have vanished in them."""
    with mpmath.workdps(MORE_DIGITS):
        return _close(evaluate(a, point), evaluate(b, point), MORE_DIGITS)


def _is_complex(value: Value) -> bool:
    value = numeric(value)
    return bool(abs(value.imag) > mpmath.mpf(10) ** -30 * (1 + abs(value)))


def _looks_zero(value: Value) -> bool:
    return bool(abs(numeric(value)) < mpmath.mpf(10) ** -(DIGITS - 10))


def _both_zero(point: Mapping[str, Value], a: Node, b: Node) -> bool:
    """Of two tiny values: real ones keep their size with more digits, noise shrinks."""
    with mpmath.workdps(MORE_DIGITS):
        left, right = numeric(evaluate(a, point)), numeric(evaluate(b, point))
        noise = mpmath.mpf(10) ** -(MORE_DIGITS - 20)
        if abs(left) < noise and abs(right) < noise:
            exact = _is_tiny(a, left) or _is_tiny(b, right)
            return bool(left == right) if exact else True
        return _close(left, right, DIGITS)


def _is_tiny(node: Node, value: Value) -> bool:
    """Whether a value is small in truth and not by cancellation."""
    return value != 0 and not _cancels(node)


def _cancels(node: Node) -> bool:
    if node[0] in {"+", "call", "mod"}:
        return True
    return any(_cancels(child) for child in node[1:] if isinstance(child, tuple))


def _close(left: Value, right: Value, digits: int) -> bool:
    left, right = numeric(left), numeric(right)
    if mpmath.isinf(left) or mpmath.isinf(right):
        return bool(left == right)
    if mpmath.isnan(left) or mpmath.isnan(right):
        raise Undefined("no number")
    scale = max(abs(left), abs(right))
    return bool(abs(left - right) <= scale * mpmath.mpf(10) ** -(digits - 20))


def _rounded_equal(a: Node, b: Node, left: Value, right: Value) -> bool:
    """Whether one is a decimal number, or has some, and the other what it was rounded from."""
    for node, value, other, exact in ((a, left, b, right), (b, right, a, left)):
        if _has_decimals(other):
            continue
        literal = _literal(node)
        if literal is not None:
            return is_rounding(value, literal, exact)
        digits = _significant(node)
        if digits > MIN_SIGNIFICANT:
            gap = abs(numeric(value) - numeric(exact))
            return bool(gap <= abs(numeric(exact)) * mpmath.mpf(10) ** (1 - digits))
    return False


def is_rounding(value: Value, decimals: int, exact: Value) -> bool:
    """Whether a decimal number is an exact one rounded or cut to its last place.

    It needs ``MIN_DECIMALS`` decimals and ``MIN_SIGNIFICANT`` digits, and the exact number none
    that end soon: 0.124 is no eighth, 1.73 is the root of 3.
    """
    unit = Fraction(1, 10**decimals)
    if decimals < MIN_DECIMALS or abs(numeric(value)) < numeric(unit) * 10 ** (MIN_SIGNIFICANT - 1):
        return False
    if isinstance(exact, Fraction) and 10 ** (decimals + 2) % exact.denominator == 0:
        return False
    if _is_complex(exact):
        return False
    gap = numeric(exact).real - numeric(value)
    away = gap if numeric(value) > 0 else -gap
    return bool(-numeric(unit) / 2 <= away < numeric(unit))


def _literal(node: Node) -> int | None:
    """Decimals of a bare decimal number; None for any other formula."""
    while node[0] in {"neg", "deg"}:
        node = node[1]
    return int(node[2]) if node[0] == "num" and node[2] > 0 else None


def _has_decimals(node: Node) -> bool:
    if node[0] == "num":
        return bool(node[2] > 0)
    return any(_has_decimals(child) for child in node[1:] if isinstance(child, tuple))


def _significant(node: Node) -> int:
    """Digits of the least precise decimal number in a formula; 0 where there is none."""
    if node[0] == "num":
        return len(str(abs(int(node[1] * 10 ** node[2])))) if node[2] > 0 else 0
    found = [_significant(child) for child in node[1:] if isinstance(child, tuple)]
    return min((digits for digits in found if digits), default=0)


__all__ = ["TooLarge", "Undefined", "are_equal", "is_rounding", "names_of", "proportional"]
