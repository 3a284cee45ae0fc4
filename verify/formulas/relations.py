"""Equations and inequalities: what they assign, which interval they are, when two are one.

Sides are compared by whatever equality the caller passes, which may come back here.
"""

from __future__ import annotations

from itertools import pairwise

from verify.formulas.arithmetic import Undefined
from verify.formulas.equality import proportional
from verify.formulas.naming import COORDINATES, are_apart
from verify.formulas.shapes import Formula, Relation, Same, Shape, Tuple, Union
from verify.formulas.trees import names_of, renamed

PAIR = 2


def _is_name(shape: Shape) -> bool:
    return isinstance(shape, Formula) and shape.node[0] == "sym"


_INFINITE = Formula(("infty",))
_MINUS_INFINITE = Formula(("neg", ("infty",)))


def interval_of(relation: Relation) -> Tuple | None:
    """The interval of an inequality that bounds one name by what does not contain it."""
    sides, signs = relation.sides, relation.signs
    if not set(signs) <= {"<", "<="}:
        return None
    places = [place for place, side in enumerate(sides) if _is_name(side)]
    if len(sides) == PAIR + 1 and 1 in places:
        return Tuple((sides[0], sides[2]), "[("[signs[0] == "<"] + "])"[signs[1] == "<"])
    if len(sides) == PAIR and len(places) == 1:
        if places == [0]:
            return Tuple((_MINUS_INFINITE, sides[1]), "(" + "])"[signs[0] == "<"])
        return Tuple((sides[0], _INFINITE), "[("[signs[0] == "<"] + ")")
    return None


def without_point(relation: Relation) -> Union | None:
    r"""What \ne leaves of the real numbers: all on either side of a point."""
    name, point = relation.sides[0], relation.sides[-1]
    if relation.signs != (r"\ne",) or not _is_name(name):
        return None
    if not isinstance(point, Formula) or names_of(point.node):
        return None
    return Union((Tuple((_MINUS_INFINITE, point)), Tuple((point, _INFINITE))))


def assigned(relation: Relation, same: Same) -> Shape | None:
    """What a name or a function is said to be: the last side of x = ..., f(x) = ...

    A chain of equations must hold: 1 = 2 = 5 says nothing.
    """
    if set(relation.signs) != {"="}:
        return None
    first, *rest = relation.sides
    named = _is_name(first) or _is_names(first) or _is_call(first) or _is_ratio(first)
    if not (named or relation.parameter):
        rest = list(relation.sides)
        if not all(isinstance(side, Formula) and not names_of(side.node) for side in rest):
            return None
    while len(rest) > 1 and _is_name(rest[0]):
        rest = rest[1:]
    if any(not same(left, right) for left, right in pairwise(rest)):
        return None
    return rest[0]


def value_asked_for(relation: Relation) -> Shape | None:
    """What an expression in several names, such as m + n or AB, is said to be: a number.

    Coordinates are no such names: x + y = 1 is a line.
    """
    left, right = relation.sides[0], relation.sides[-1]
    if relation.signs != ("=",) or not (isinstance(left, Formula) and isinstance(right, Formula)):
        return None
    names = names_of(left.node)
    is_value = len(names) > 1 and not names & COORDINATES and not names_of(right.node)
    return right if is_value else None


def _is_names(shape: Shape) -> bool:
    return isinstance(shape, Tuple) and all(
        _is_name(part) or _is_call(part) or _is_product(part) for part in shape.parts
    )


def _is_call(shape: Shape) -> bool:
    return isinstance(shape, Formula) and shape.node[0] == "call" and shape.node[1][0] == "?"


def mark_of(relation: Relation) -> str:
    """What stands behind the f of the function whose values it tells: a prime, ^{-1}, nothing."""
    first = relation.sides[0]
    is_told = isinstance(first, Formula) and _is_call(first)
    return str(first.node[1])[len("?f") :] if isinstance(first, Formula) and is_told else ""


def _is_ratio(shape: Shape) -> bool:
    """Whether a formula is one name over another, whose value is asked for."""
    return (
        isinstance(shape, Formula)
        and shape.node[0] == "/"
        and all(part[0] == "sym" for part in shape.node[1:])
    )


def _is_product(shape: Shape) -> bool:
    return isinstance(shape, Formula) and shape.node[0] == "*" and shape.node[1][0] == "sym"


def are_one(a: Relation, b: Relation, same: Same) -> bool:
    """Whether two equations, inequalities or chains of them say the same."""
    if a.parameter and b.parameter and a.parameter != b.parameter:
        return same(_with_parameter(a), _with_parameter(b))
    if a.signs == b.signs and all(map(same, a.sides, b.sides)):
        return True
    if set(a.signs) | set(b.signs) == {"="}:
        left, right = assigned(a, same), assigned(b, same)
        if left is not None and right is not None and not _both_equations(a, b):
            return same(left, right)
        return _equations(a, b, same)
    if a.signs == b.signs == (r"\ne",):
        return all(map(same, a.sides, b.sides[::-1])) or _equations(a, b, same)
    return False


def _both_equations(a: Relation, b: Relation) -> bool:
    """Whether y = ... and x = ... could be one curve written in two ways."""
    return len(a.sides) == len(b.sides) == PAIR and a.sides[0] != b.sides[0] and not a.parameter


def _with_parameter(relation: Relation) -> Shape:
    value = relation.sides[1]
    if not isinstance(value, Formula):
        raise Undefined("a function that is no formula")
    return Formula(renamed(value.node, relation.parameter, "#"))


def _equations(a: Relation, b: Relation, same: Same) -> bool:
    nodes = []
    for relation in (a, b):
        if len(relation.sides) != PAIR or not all(isinstance(s, Formula) for s in relation.sides):
            return False
        left, right = (side.node for side in relation.sides if isinstance(side, Formula))
        nodes.append(("+", left, ("neg", right)))
    names_a, names_b = names_of(nodes[0]), names_of(nodes[1])
    if names_a != names_b:
        if are_apart(a.sides[0], b.sides[0]):
            return False
        left_value, right_value = assigned(a, same), assigned(b, same)
        return left_value is not None and right_value is not None and same(left_value, right_value)
    return proportional(nodes[0], nodes[1])
