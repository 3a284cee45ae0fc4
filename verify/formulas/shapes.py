"""What kind of thing an answer is: a formula, a list, an interval, a relation, words and so on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from verify.formulas.lexing import Node


@dataclass(frozen=True, slots=True)
class Formula:
    """A number or an expression, perhaps a quantity."""

    node: Node
    unit: str = ""
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list in which order means nothing; of a set, copies neither."""

    parts: tuple[Shape, ...]
    is_set: bool = False


@dataclass(frozen=True, slots=True)
class Tuple:
    """Parts in order between brackets: a point, a vector, or two bounds of an interval."""

    parts: tuple[Shape, ...]
    brackets: str = "()"


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals and sets joined."""

    parts: tuple[Shape, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """Formulas with relation signs between them; ``name`` where the left side is just that."""

    sides: tuple[Shape, ...]
    signs: tuple[str, ...]
    parameter: str = ""
    """Of a definition f(x) = ...: its x."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of parts."""

    rows: tuple[tuple[Shape, ...], ...]


@dataclass(frozen=True, slots=True)
class Based:
    """Digits with their base as a subscript."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, in lower case and without signs."""

    text: str
    value: Shape | None = field(default=None, compare=False)
    """What stands behind the letter of a choice: the 12 of (C) 12."""


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day, or a ratio where nothing says that it is a time."""

    seconds: int
    is_time: bool
    ratio: Formula | None


Shape = Clock | Formula | Items | Tuple | Union | Relation | Matrix | Based | Words
Same = Callable[[Shape, Shape], bool]
"""Whether two answers mean the same; may raise ``Unknown``."""

Read = Callable[[str], Shape]
"""Reads a part of an answer."""


class Unknown(ValueError):
    """No rule decides about two answers."""


class Ambiguous(Unknown):
    """Two answers are equal or not by what only the problem could tell; nothing else may guess."""


def has_words(shape: Shape) -> bool:
    """Whether an answer or a part of it is in words."""
    match shape:
        case Words():
            return True
        case Items(parts) | Tuple(parts) | Union(parts):
            return any(map(has_words, parts))
        case Relation(sides):
            return any(map(has_words, sides))
        case Matrix(rows):
            return any(has_words(part) for row in rows for part in row)
        case _:
            return False
