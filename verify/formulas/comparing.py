"""Whether two answers mean the same, by one documented rule a pair of kinds; symmetric by build.

``Unknown`` is raised where a rule would have to guess.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from verify.formulas.intervals import joined_where_they_meet
from verify.formulas.matching import pair_off, same_or_none
from verify.formulas.naming import by_name, contradict, is_word, name_of
from verify.formulas.quantities import are_same_line, same_formula
from verify.formulas.relations import (
    PAIR,
    are_one,
    assigned,
    interval_of,
    mark_of,
    value_asked_for,
    without_point,
)
from verify.formulas.shapes import (
    Ambiguous,
    Based,
    Clock,
    Formula,
    Items,
    Matrix,
    Relation,
    Shape,
    Tuple,
    Union,
    Unknown,
    Words,
)
from verify.formulas.trees import has_kind

MAX_WORDS = 3
"""Answers in so few words are compared letter by letter; longer ones are prose, and unknown."""


def same(a: Shape, b: Shape) -> bool:
    """Whether two answers mean the same.

    Raises:
        Unknown: No rule decides (and ``TooLarge``, ``Undefined`` of values.py).
    """
    if a == b:
        return True
    are_apart = contradict(a, b)
    if are_apart:
        return False
    found = by_name(a, b, same)
    is_same = _by_kind(_unlabelled(a, b), _unlabelled(b, a)) if found is None else found
    if is_same and are_apart is None:
        raise Ambiguous("one value under two labels")
    return is_same


def _unlabelled(shape: Shape, other: Shape) -> Shape:
    """What a label stands before, where the other answer has none."""
    is_labelled = isinstance(shape, Relation) and not isinstance(other, Relation)
    name = name_of(shape) if is_labelled else None
    if isinstance(shape, Relation) and name and name[0] == "sym" and is_word(str(name[1])):
        return shape.sides[-1]
    return shape


def _by_kind(a: Shape, b: Shape) -> bool:
    a, b = simplified(a), simplified(b)
    if a == b:
        return True
    if _rank(a) > _rank(b):
        a, b = b, a
    return _RULES[type(a)](a, b)


def _rank(shape: Shape) -> int:
    return list(_RULES).index(type(shape))


def simplified(shape: Shape) -> Shape:
    """Inequalities in a name as intervals, lists of them as unions, lists of one as their item.

    Of a union, parts that meet are one.
    """
    if isinstance(shape, Union):
        return joined_where_they_meet(shape)
    if isinstance(shape, Relation):
        return interval_of(shape) or without_point(shape) or shape
    if isinstance(shape, Items) and len(shape.parts) == 1 and not _has_sets(shape):
        return simplified(shape.parts[0])
    if isinstance(shape, Items) and not shape.is_set and shape.parts:
        parts = [simplified(part) for part in shape.parts]
        if any(isinstance(p, Tuple) and isinstance(q, Relation) and "=" not in q.signs
               for p, q in zip(parts, shape.parts, strict=True)):  # fmt: skip
            return joined_where_they_meet(Union(tuple(_solved(part) for part in parts)))
    return shape


def _has_sets(shape: Items) -> bool:
    """Whether a set has a set among its elements."""
    return shape.is_set and any(isinstance(part, Items) and part.is_set for part in shape.parts)


def _same_element(a: Shape, b: Shape) -> bool:
    """Whether two elements are one: a set of one thing is another element than that thing."""
    is_set = [isinstance(shape, Items) and shape.is_set for shape in (a, b)]
    return is_set[0] == is_set[1] and same(a, b)


def _solved(shape: Shape) -> Shape:
    if isinstance(shape, Relation) and shape.signs == ("=",):
        return Items((shape.sides[1],), is_set=True)
    return shape


def _clock(a: Clock, b: Shape) -> bool:
    """Times of day by their seconds; where both could be ratios, as ratios."""
    if isinstance(b, Clock):
        return a.seconds == b.seconds and (a.is_time or b.is_time or a.ratio == b.ratio)
    return a.ratio is not None and same(a.ratio, b)


def _words(a: Words, b: Shape) -> bool:
    if isinstance(b, Words) and b.text.startswith("choice "):
        a, b = b, a
    if a.text.startswith("choice "):
        return _is_chosen(a, b)
    if isinstance(b, Formula) and b.node[0] == "sym" and a.text == str(b.node[1]).lower():
        raise Unknown("a word or a name")
    texts = [shape.text for shape in (a, b) if isinstance(shape, Words)]
    if all(len(text.split()) <= MAX_WORDS and not set("=<\\") & set(text) for text in texts):
        return False
    raise Unknown("an answer in prose")


def _is_chosen(choice: Words, b: Shape) -> bool:
    """Whether an answer is the letter of a choice, or what stands behind the letter."""
    letter = choice.text.removeprefix("choice ")
    if isinstance(b, Words) and (b.text == letter.lower() or b.text.startswith("choice ")):
        return b.text in {letter.lower(), choice.text}
    if isinstance(b, Formula) and b.node[0] in {"sym", "e"}:
        return b.node == ("sym", letter) or (letter == "E" and b.node == ("e",))
    return choice.value is not None and same(choice.value, b)


def _based(a: Based, b: Shape) -> bool:
    """Digits in two bases by their value; a number without a base is another answer."""
    return isinstance(b, Based) and int(a.digits, a.base) == int(b.digits, b.base)


def _relation(a: Relation, b: Shape) -> bool:
    if isinstance(b, Relation):
        return mark_of(a) == mark_of(b) and are_one(a, b, same)
    value = assigned(a, same) or value_asked_for(a)
    return value is not None and same(value, b)


def _matrix(a: Matrix, b: Shape) -> bool:
    if isinstance(b, Matrix):
        shape = [len(row) for row in a.rows]
        if shape != [len(row) for row in b.rows]:
            return False
        pairs = zip(a.rows, b.rows, strict=True)
        return all(all(map(same, left, right)) for left, right in pairs)
    if isinstance(b, Tuple) and all(
        isinstance(row, Tuple) and row.brackets == b.brackets == "[]" for row in b.parts
    ):
        return _matrix(a, Matrix(tuple(row.parts for row in b.parts if isinstance(row, Tuple))))
    if isinstance(b, Tuple) and (len(a.rows) == 1 or all(len(row) == 1 for row in a.rows)):
        entries = [part for row in a.rows for part in row]
        return len(entries) == len(b.parts) and all(map(same, entries, b.parts))
    return False


def _tuple(a: Tuple, b: Shape) -> bool:
    if isinstance(b, Tuple):
        if len(a.parts) != len(b.parts):
            return False
        if len(a.parts) == PAIR and not _same_brackets(a, b):
            return False
        return all(map(same, a.parts, b.parts)) or are_same_line(a, b)
    if isinstance(b, Items) and not b.is_set:
        return len(a.parts) == len(b.parts) and all(map(same, a.parts, b.parts))
    return False


def _same_brackets(a: Tuple, b: Tuple) -> bool:
    """Of intervals; at an infinite end no bracket includes anything."""
    ends = zip(a.brackets, b.brackets, a.parts, strict=False)
    return all(
        left == right or (isinstance(part, Formula) and has_kind(part.node, "infty"))
        for left, right, part in ends
    )


def _collections(a: Shape, b: Shape) -> bool:
    if isinstance(a, Union) or isinstance(b, Union):
        return pair_off(_joined(a), _joined(b), same)
    if isinstance(a, Items) and isinstance(b, Items):
        left, right = _flat(a), _flat(b)
        if a.is_set or b.is_set:
            left, right = _distinct(left), _distinct(right)
        return pair_off(left, right, _same_element if _has_sets(a) or _has_sets(b) else same)
    if isinstance(a, Items) and a.is_set:
        return pair_off(_distinct(_flat(a)), [b], same)
    return False


def _joined(shape: Shape) -> list[Shape]:
    """Parts of a union: its intervals, and the elements of all its sets."""
    parts: list[Shape] = []
    for part in shape.parts if isinstance(shape, Union) else (shape,):
        if isinstance(part, Union):
            parts.extend(_joined(part))
        else:
            parts.extend(part.parts if isinstance(part, Items) else [part])
    return _distinct(parts)


def _flat(items: Items) -> list[Shape]:
    found: list[Shape] = []
    for part in items.parts:
        found.extend(_flat(part) if isinstance(part, Items) and not part.is_set else [part])
    return found


def _distinct(parts: list[Shape]) -> list[Shape]:
    kept: list[Shape] = []
    for part in parts:
        if not any(same_or_none(part, other, same) for other in kept):
            kept.append(part)
    return kept


_RULES: dict[type, Callable[[Any, Shape], bool]] = {
    Clock: _clock,
    Words: _words,
    Based: _based,
    Relation: _relation,
    Matrix: _matrix,
    Tuple: _tuple,
    Union: _collections,
    Items: _collections,
    Formula: same_formula,
}
"""The rule for a pair of kinds is that of the first in this order."""
