"""Pairing off the parts of two collections."""

from __future__ import annotations

from verify.formulas.arithmetic import TooLarge, Undefined
from verify.formulas.shapes import Same, Shape, Unknown


def pairs_off(allowed: list[list[bool]]) -> bool:
    """Whether each row can have a column of its own among those that it allows (Kuhn 1955)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, is_allowed in enumerate(allowed[row]):
            if is_allowed and column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(allowed)))


def pair_off(left: list[Shape], right: list[Shape], same: Same) -> bool:
    """Whether the parts of two collections pair off, in whatever order they stand.

    Raises:
        Unknown: They do only if parts are equal of which nobody knows it.
    """
    if len(left) != len(right):
        return False
    common = [part for part in left if part in right]
    for part in common:
        if part in left and part in right:
            left, right = _without(left, part), _without(right, part)
    known = [[same_or_none(a, b, same) for b in right] for a in left]
    if pairs_off([[is_same is True for is_same in row] for row in known]):
        return True
    if pairs_off([[is_same is not False for is_same in row] for row in known]):
        raise Unknown("parts of which no rule decides")
    return False


def _without(parts: list[Shape], part: Shape) -> list[Shape]:
    place = parts.index(part)
    return parts[:place] + parts[place + 1 :]


def same_or_none(a: Shape, b: Shape, same: Same) -> bool | None:
    """Whether two parts mean the same; None where no rule decides."""
    try:
        return same(a, b)
    except (Unknown, TooLarge, Undefined):
        return None
