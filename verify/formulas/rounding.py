"""Decimal numbers that stand for what rounds to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

from verify.formulas.arithmetic import Value, is_complex, numeric
from verify.formulas.lexing import Node
from verify.formulas.values import evaluate

MIN_DECIMALS = 2
"""Decimals that a rounded number needs at least, so that 0.3 is not a third."""
MIN_SIGNIFICANT = 3
"""Significant digits that a rounded number needs at least."""


def are_equal_rounded(point: Mapping[str, Value], a: Node, b: Node) -> bool:
    """Whether one is a decimal number, or has some, and the other what it was rounded from."""
    for node, other in ((a, b), (b, a)):
        if _has_decimals(other):
            continue
        value, exact = evaluate(node, point), evaluate(other, point)
        literal = _literal(node)
        if literal is not None:
            return is_rounding(value, literal, exact)
        if _significant(node) > MIN_SIGNIFICANT:
            reach = sum(abs(numeric(evaluate(n, point)) - numeric(value)) for n in _moved(node))
            return bool(abs(numeric(value) - numeric(exact)) <= reach)
    return False


def _moved(node: Node) -> Iterator[Node]:
    """A formula with one of its decimal numbers, each in turn, half a unit of its last place up."""
    if node[0] == "num":
        if node[2] > 0:
            yield ("num", node[1] + Fraction(1, 2 * 10 ** node[2]), node[2])
        return
    for place, child in enumerate(node):
        if isinstance(child, tuple):
            for moved in _moved(child):
                yield (*node[:place], moved, *node[place + 1 :])


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
    if is_complex(exact):
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
