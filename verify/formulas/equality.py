"""Whether two formulas are equal: by their values at a few points, the same in both directions.

Rational values are compared exactly. Others are computed to 50 digits, and what looks equal
once more to 130. A decimal number stands for what rounds to it (``is_rounding``).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import mpmath

from verify.formulas.arithmetic import TooLarge, Undefined, Value, is_complex, numeric
from verify.formulas.lexing import Node
from verify.formulas.points import is_far, points
from verify.formulas.rounding import are_equal_rounded
from verify.formulas.trees import names_of
from verify.formulas.values import evaluate

DIGITS = 50
MORE_DIGITS = 130
MIN_COMPARED = 2
"""Points at which both formulas must have a value."""


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
    for point in points(names, a, b):
        try:
            if not _equal_at(point, a, b, _is_risky(point)):
                return False
            compared += 1
        except (Undefined, TooLarge) as error:
            _raise_if_near(error, point)
    if compared < MIN_COMPARED:
        raise Undefined("too few points at which both formulas have a value")
    return True


def proportional(a: Node, b: Node) -> bool:
    """Whether two equations "formula = 0" in names are one: their quotient is a number but 0.

    Raises:
        TooLarge: A value cannot be held.
        Undefined: There are too few points at which both have a value.
    """
    names = sorted(names_of(a) | names_of(b))
    if not names:
        return False
    ratios = []
    with mpmath.workdps(DIGITS):
        for point in points(names, a, b):
            try:
                top, bottom = numeric(evaluate(a, point)), numeric(evaluate(b, point))
            except (Undefined, TooLarge) as error:
                _raise_if_near(error, point)
                continue
            if abs(top) < mpmath.mpf(10) ** -30 or abs(bottom) < mpmath.mpf(10) ** -30:
                return False
            ratios.append(top / bottom)
        if len(ratios) < MIN_COMPARED:
            raise Undefined("too few points at which both equations have a value")
        gap = abs(ratios[0]) * mpmath.mpf(10) ** -30
        return all(bool(abs(ratio - ratios[0]) < gap) for ratio in ratios)


def _raise_if_near(error: Exception, point: Mapping[str, Value]) -> None:
    """Let pass what has no value at a point, or a value too large to hold at a far one."""
    if isinstance(error, TooLarge) and not is_far(point):
        raise error


def _is_risky(point: Mapping[str, Value]) -> bool:
    """Whether roots and logarithms may well be complex at a point."""
    return is_far(point) or any(value < 0 for value in point.values())


def _unevaluated(node: Node) -> bool:
    if node[0] == "call" and str(node[1]).startswith(("?int", "?sum", "?prod", "?lim")):
        return True
    return any(_unevaluated(child) for child in node[1:] if isinstance(child, tuple))


def _equal_at(point: Mapping[str, Value], a: Node, b: Node, needs_real: bool = False) -> bool:
    with mpmath.workdps(DIGITS):
        left, right = evaluate(a, point), evaluate(b, point)
        if needs_real and (is_complex(left) or is_complex(right)):
            raise Undefined("a complex value, where the branch decides")
        if isinstance(left, Fraction) and isinstance(right, Fraction):
            return left == right or are_equal_rounded(point, a, b)
        if _looks_zero(left) and _looks_zero(right):
            return _both_zero(point, a, b)
        if _close(left, right, DIGITS):
            return _confirmed(point, a, b)
        return are_equal_rounded(point, a, b)


def _confirmed(point: Mapping[str, Value], a: Node, b: Node) -> bool:
    """Whether two values that look equal do so with more digits: 1 may have vanished in them."""
    with mpmath.workdps(MORE_DIGITS):
        return _close(evaluate(a, point), evaluate(b, point), MORE_DIGITS)


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
