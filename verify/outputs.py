"""Is what a program wrote, or returned, what was expected? Compared outside of the sandbox.

Ways to compare, as rows name them:

- ``tokens``: the parts between white space are the same bytes; case, leading zeros and digits of
  other scripts count.
- ``exact``: the bytes are the same; only line ends after the last line are forgiven.
- ``float:EPS``: as tokens, but where a finite decimal number is expected, a finite decimal number
  within EPS, absolute or relative to the expected one.

Returned values are compared as JSON: a tuple is a list, 1 is 1.0, but True is not 1, and NaN is
nothing, not even NaN.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

CHECKER = "checker:"
SHOWN = 60
"""Bytes or characters of an output that a detail repeats."""
_NUMBER = re.compile(rb"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")  # never backtracks far
MAX_NUMBER = 400
"""Bytes of a token that can be a number."""
MAX_DIGITS = 1000
"""Digits of a whole number; longer ones are compared as they are written."""
MAX_DEPTH = 200
"""Levels of nested lists in a returned value."""

Difference = str | None
"""What differs, in words fit for any log; None where nothing does."""


def tolerance(compare: str) -> float | None:
    """The tolerance that a way of comparing allows; None for exact ones.

    Raises:
        ValueError: There is no such way.
    """
    if compare in ("tokens", "exact") or compare.removeprefix(CHECKER) not in ("", compare):
        return None
    kind, _, number = compare.partition(":")
    try:
        allowed = float(number)
    except ValueError:
        allowed = math.nan
    if kind != "float" or not 0 <= allowed < math.inf:
        raise ValueError(
            f"compare is {compare!r}, but it can be 'tokens', 'exact', 'float:EPS' with a number "
            "of at least 0, or 'checker:FILE'"
        )
    return allowed


def compare_outputs(expected: bytes, got: bytes, compare: str) -> Difference:
    """How an output differs from the expected one."""
    if compare == "exact":
        same = got.rstrip(b"\r\n") == expected.rstrip(b"\r\n")
        return None if same else _told(expected, got)
    allowed = tolerance(compare)
    ours, theirs = expected.split(), got.split()
    if ours == theirs:
        return None
    if len(ours) != len(theirs):
        count = f"number of tokens: {len(ours)} expected, {len(theirs)} written"
        return f"{count}: {_told(expected, got)}"
    for number, (want, have) in enumerate(zip(ours, theirs, strict=True), 1):
        if want != have and not (allowed is not None and _are_close(want, have, allowed)):
            return f"token {number}: {_told(want, have)}"
    return None


def _are_close(want: bytes, have: bytes, allowed: float) -> bool:
    if max(len(want), len(have)) > MAX_NUMBER:
        return False
    if not (_NUMBER.fullmatch(want) and _NUMBER.fullmatch(have)):
        return False
    return is_within(float(want), float(have), allowed)


def is_within(want: float, have: float, allowed: float) -> bool:
    """Whether a finite number is within a tolerance, absolute or relative to ``want``."""
    if not (math.isfinite(want) and math.isfinite(have)):
        return False
    return abs(have - want) <= allowed * max(1.0, abs(want))


def compare_values(expected: Any, got: bytes, compare: str) -> Difference:  # noqa: ANN401
    """How a returned value, as JSON, differs from the expected one."""
    allowed = tolerance(compare)
    try:
        value = json.loads(got, parse_int=_whole)
        want = json.loads(json.dumps(expected), parse_int=_whole)
        if _same(want, value, allowed, 0):
            return None
    except (ValueError, RecursionError):
        return f"the result is not JSON: {shown(got)}"
    return f"expected {shown(json.dumps(expected).encode())}, returned {shown(got)}"


class _Digits(str):
    """A whole number of too many digits to be worth a conversion."""


def _whole(digits: str) -> int | _Digits:
    return int(digits) if len(digits) < MAX_DIGITS else _Digits(digits)


def _same(want: Any, have: Any, allowed: float | None, depth: int) -> bool:  # noqa: ANN401
    if depth > MAX_DEPTH:
        raise RecursionError
    if type(want) is not type(have) or not isinstance(want, list | dict):
        return _same_leaf(want, have, allowed)
    if isinstance(want, list):
        pairs = zip(want, have, strict=False)
        return len(want) == len(have) and all(_same(a, b, allowed, depth + 1) for a, b in pairs)
    return want.keys() == have.keys() and all(
        _same(item, have[key], allowed, depth + 1) for key, item in want.items()
    )


def _same_leaf(want: Any, have: Any, allowed: float | None) -> bool:  # noqa: ANN401
    if isinstance(want, bool) or isinstance(have, bool):
        return want is have
    are_numbers = isinstance(want, int | float) and isinstance(have, int | float)
    if not are_numbers or want == have or allowed is None:
        return bool(want == have)
    if isinstance(want, int) and isinstance(have, int):
        return False
    try:
        return is_within(float(want), float(have), allowed)
    except OverflowError:
        return False


def shown(data: bytes) -> str:
    """The beginning of an output, with nothing in it that a terminal would obey."""
    text = ascii(data[:SHOWN].decode(errors="backslashreplace"))
    return text + "..." if len(data) > SHOWN else text


def _told(want: bytes, have: bytes) -> str:
    return f"expected {shown(want)}, written {shown(have)}"
