"""The value of a formula at a point."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import mpmath

from verify.formulas.arithmetic import (
    FUNCTIONS,
    TooLarge,
    Undefined,
    Value,
    binomial,
    checked,
    divide,
    double_factorial,
    factorial,
    modulo,
    numeric,
    plus,
    power,
    root,
    times,
)
from verify.formulas.lexing import CIRCULAR, Node
from verify.formulas.trees import has_kind


def evaluate(node: Node, point: Mapping[str, Value]) -> Value:
    """The value of a formula where its names have the values of a point.

    Raises:
        TooLarge: It cannot be held.
        Undefined: It has none.
    """
    try:
        return checked(_EVALUATORS[node[0]](node, point))
    except (TooLarge, Undefined):
        raise
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise Undefined(f"no value ({type(error).__name__})") from None


def _call(node: Node, point: Mapping[str, Value]) -> Value:
    values = [evaluate(child, point) for child in node[2:]]
    if node[1].startswith("?"):
        return _unknown(node[1], values)
    if node[1] in CIRCULAR and has_kind(node[2], "deg"):
        values[0] = times(values[0], mpmath.pi / 180)
    return FUNCTIONS[node[1]](*values)


def _unknown(name: str, values: list[Value]) -> Value:
    """An unknown function's value: some number, the same whenever name and arguments are."""
    said = ";".join(mpmath.nstr(mpmath.mpc(numeric(value)), 20) for value in values)
    digest = hashlib.sha256(f"{name}({said})".encode()).digest()
    return mpmath.mpf(int.from_bytes(digest[:16])) / (1 << 127) + 1


_EVALUATORS: dict[str, Callable[[Node, Mapping[str, Value]], Value]] = {
    "num": lambda n, p: n[1],
    "sym": lambda n, p: p[n[1]],
    "pi": lambda n, p: +mpmath.pi,
    "e": lambda n, p: +mpmath.e,
    "i": lambda n, p: mpmath.mpc(0, 1),
    "infty": lambda n, p: mpmath.inf,
    "neg": lambda n, p: -evaluate(n[1], p),
    "deg": lambda n, p: evaluate(n[1], p),
    "+": lambda n, p: plus(evaluate(n[1], p), evaluate(n[2], p)),
    "*": lambda n, p: times(evaluate(n[1], p), evaluate(n[2], p)),
    "/": lambda n, p: divide(evaluate(n[1], p), evaluate(n[2], p)),
    "mod": lambda n, p: modulo(evaluate(n[1], p), evaluate(n[2], p)),
    "^": lambda n, p: power(evaluate(n[1], p), evaluate(n[2], p)),
    "root": lambda n, p: root(evaluate(n[1], p), evaluate(n[2], p)),
    "fact": lambda n, p: factorial(evaluate(n[1], p)),
    "fact2": lambda n, p: double_factorial(evaluate(n[1], p)),
    "binom": lambda n, p: binomial(evaluate(n[1], p), evaluate(n[2], p)),
    "call": _call,
}
