"""Arithmetic that is exact while values are rational, else to many digits.

Nothing here can run away: a value too large to hold is an error before it is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import mpmath

from verify.formulas.lexing import CIRCULAR

MAX_BITS = 40_000
"""Of a numerator or denominator that is still held exactly."""
MAX_ROOT = 64
"""Degree of a root that is still sought exactly."""
MAX_ROOT_BITS = 150
MAX_DEGREE = 1000
"""Of a root that is real for a negative number."""
MAX_FACTORIAL = 3000
"""Whole number whose factorial is still computed exactly."""
MAX_GAMMA_BITS = 32
MAX_POWER_BITS = 40
"""Of the size in bits that a power would have."""
MAX_ANGLE_BITS = 1000
MAX_LOGARITHM = 1000
MAX_EXPONENT = 400
"""Of two, in the size of a number that is not held exactly: beyond it 1 would vanish beside it."""
MIN_EXPONENT = -450
"""The same for small ones, which would vanish beside 1; cancellation leaves larger ones."""

Value = Any
"""A Fraction, or mpmath's real or complex number."""


class TooLarge(ValueError):
    """The value cannot be held, such as that of a tower of powers."""


class Undefined(ValueError):
    """The formula has no value at the point."""


def checked(value: Value) -> Value:
    """A value that can still be computed with."""
    if isinstance(value, Fraction):
        if max(value.numerator.bit_length(), value.denominator.bit_length()) > MAX_BITS:
            raise TooLarge("a number of too many digits")
        return value
    if not MIN_EXPONENT <= _exponent(value) <= MAX_EXPONENT:
        raise TooLarge("a number too large or too small to compute with")
    return value


def _exponent(value: Value) -> int:
    if not mpmath.isfinite(value) or not value:
        return 0
    return int(mpmath.mag(value))


def numeric(value: Value) -> Value:
    """A value as mpmath's number."""
    if isinstance(value, Fraction):
        return mpmath.mpf(value.numerator) / value.denominator
    return value


def is_complex(value: Value) -> bool:
    """Whether a value is none of the real numbers."""
    value = numeric(value)
    return bool(abs(value.imag) > mpmath.mpf(10) ** -30 * (1 + abs(value)))


def power(base: Value, exponent: Value) -> Value:
    """A power, exact where base and exponent allow."""
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and isinstance(base, Fraction):
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent.numerator) * bits <= MAX_BITS:
            return base ** int(exponent)
    if isinstance(exponent, Fraction) and isinstance(base, Fraction) and base > 0:
        root = _exact_root(base, exponent.denominator)
        if root is not None and exponent.denominator > 1:
            return power(root, Fraction(exponent.numerator))
    base, exponent = numeric(base), numeric(exponent)
    size = _exponent(exponent) + _exponent_bits(base)
    if size > MAX_POWER_BITS:
        raise TooLarge("a power too large to compute with")
    return mpmath.power(base, exponent)


def _exponent_bits(base: Value) -> int:
    return max(1, abs(_exponent(base))).bit_length()


def _exact_root(value: Fraction, degree: int) -> Fraction | None:
    if degree > MAX_ROOT:
        return None
    parts = []
    for part in (value.numerator, value.denominator):
        near = round(mpmath.root(part, degree)) if part.bit_length() < MAX_ROOT_BITS else 0
        if near**degree != part:
            return None
        parts.append(near)
    return Fraction(*parts)


def root(value: Value, degree: Value) -> Value:
    """A root; one of odd degree of a negative number is real."""
    if not isinstance(degree, Fraction) or degree.denominator != 1 or not 0 < degree <= MAX_DEGREE:
        return power(value, 1 / degree)
    real = isinstance(value, Fraction) or not isinstance(value, mpmath.mpc)
    if real and value < 0 and degree % 2:
        return -root(-value, degree)
    if value == 0:
        return Fraction(0)
    return power(value, Fraction(1, int(degree)))


def factorial(value: Value) -> Value:
    """A factorial, by the gamma function where it is none of a whole number."""
    if isinstance(value, Fraction) and value.denominator == 1 and 0 <= value <= MAX_FACTORIAL:
        return Fraction(math.factorial(int(value)))
    value = numeric(value)
    if abs(_exponent(value)) > MAX_GAMMA_BITS:
        raise TooLarge("the factorial of a number too large")
    return mpmath.gamma(value + 1)


def double_factorial(value: Value) -> Value:
    """The product of every other whole number down from one."""
    if not (isinstance(value, Fraction) and value.denominator == 1 and value >= -1):
        raise Undefined("the double factorial of what is no whole number")
    if value > MAX_FACTORIAL:
        raise TooLarge("the double factorial of a number too large")
    return Fraction(math.prod(range(int(value), 0, -2)))


def binomial(top: Value, bottom: Value) -> Value:
    """How many choices there are."""
    return divide(factorial(top), times(factorial(bottom), factorial(plus(top, -bottom))))


def _both(a: Value, b: Value) -> bool:
    return isinstance(a, Fraction) and isinstance(b, Fraction)


def plus(a: Value, b: Value) -> Value:
    """A sum."""
    return a + b if _both(a, b) else numeric(a) + numeric(b)


def times(a: Value, b: Value) -> Value:
    """A product."""
    return a * b if _both(a, b) else numeric(a) * numeric(b)


def divide(a: Value, b: Value) -> Value:
    """A quotient."""
    return a / b if _both(a, b) else numeric(a) / numeric(b)


def modulo(a: Value, b: Value) -> Value:
    """The rest of a division, with the sign of the divisor."""
    if _both(a, b):
        return a % b
    return numeric(a) - numeric(b) * mpmath.floor(numeric(a) / numeric(b))


def _floor(value: Value) -> Value:
    return Fraction(math.floor(value)) if isinstance(value, Fraction) else mpmath.floor(value)


def _ceil(value: Value) -> Value:
    return Fraction(math.ceil(value)) if isinstance(value, Fraction) else mpmath.ceil(value)


def _gcd(*values: Value) -> Value:
    if not all(isinstance(value, Fraction) for value in values):
        raise Undefined("a common divisor of what is not rational")
    bottom = math.lcm(*(value.denominator for value in values))
    return Fraction(math.gcd(*(int(value * bottom) for value in values)), bottom)


def _lcm(*values: Value) -> Value:
    if not all(isinstance(value, Fraction) for value in values):
        raise Undefined("a common multiple of what is not rational")
    bottom = math.lcm(*(value.denominator for value in values))
    return Fraction(math.lcm(*(int(value * bottom) for value in values)), bottom)


def _log(value: Value, base: Value = None) -> Value:
    if value == 0:
        raise Undefined("the logarithm of 0")
    if base is None:
        return Fraction(0) if value == 1 else mpmath.log(numeric(value))
    if base in {0, 1}:
        raise Undefined("a logarithm of base 0 or 1")
    quotient = mpmath.log(numeric(value)) / mpmath.log(numeric(base))
    near = mpmath.nint(quotient.real)
    if _both(value, base) and abs(near) < MAX_LOGARITHM and base ** int(near) == value:
        return Fraction(int(near))
    return quotient


def _trig(name: str) -> Callable[..., Value]:
    def apply(value: Value, *_: Value) -> Value:
        value = numeric(value)
        if _exponent(value) > MAX_ANGLE_BITS:
            raise TooLarge("an angle too large to compute with")
        return getattr(mpmath, name)(value)

    return apply


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "ln": _log,
    "log": _log,
    "lg": lambda value: _log(value, Fraction(10)),
    "abs": abs,
    "floor": _floor,
    "ceil": _ceil,
    "gcd": _gcd,
    "lcm": _lcm,
    "max": lambda *values: max(values, key=lambda v: numeric(v).real),
    "min": lambda *values: min(values, key=lambda v: numeric(v).real),
    "exp": lambda value: power(+mpmath.e, value),
    "re": lambda value: numeric(value).real,
    "im": lambda value: numeric(value).imag,
    "arg": lambda value: mpmath.arg(numeric(value)),
    **{name: _trig(name) for name in CIRCULAR},
    **{f"arc{name}": _trig(f"a{name}") for name in CIRCULAR},
}
"""The functions of a formula, by our names."""
