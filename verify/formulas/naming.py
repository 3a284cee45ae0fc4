"""What the parts of an answer are called: the x of x = 3 and x > 3, the cm of 3 cm.

Two answers that call the same value by names of one kind are different answers: x = 0 is
another line than y = 0, f(2) = 3 another fact than f(3) = 3. Names of different kinds, such as k
and n, are one unknown that somebody renamed.
"""

from __future__ import annotations

from verify.formulas.lexing import Node
from verify.formulas.matching import pair_off
from verify.formulas.shapes import Ambiguous, Formula, Items, Relation, Same, Shape, Tuple
from verify.formulas.trees import names_of

COORDINATES = frozenset("xyz")


def name_of(shape: Shape) -> Node | None:
    """The name that a relation bounds or assigns, or that a unit gives; None without one."""
    if isinstance(shape, Formula) and shape.unit:
        return ("unit", shape.unit)
    if not isinstance(shape, Relation) or shape.parameter:
        return None
    if shape.signs == ("=",):
        return _name(shape.sides[0])
    return next((name for side in shape.sides if (name := _name(side))), None)


def _name(side: Shape) -> Node | None:
    if not isinstance(side, Formula):
        return None
    node = side.node
    is_call = node[0] == "call" and str(node[1]).startswith("?")
    return node if node[0] == "sym" or is_call else None


def contradict(a: Shape, b: Shape) -> bool | None:
    """Whether two values, not equations of several names, are of two things of one kind.

    None where words name them, as "area" and "answer" do: only the problem could tell.
    """
    ours, theirs = name_of(a), name_of(b)
    if ours is None or theirs is None or ours == theirs or ours[0] != theirs[0]:
        return False
    if not (_is_bound(a) and _is_bound(b)):
        return False
    if ours[0] == "call":
        return bool(ours[1] == theirs[1])
    left, right = str(ours[1]), str(theirs[1])
    if is_word(left) and is_word(right):
        return None
    return _are_apart(left, right)


def are_apart(a: Shape, b: Shape) -> bool:
    """Whether two names are those of two things of one kind: x and y, or a_n and a_{n+1}."""
    ours, theirs = _name(a), _name(b)
    if _is_derivative(ours) != _is_derivative(theirs):
        return True
    if ours is None or theirs is None or ours[0] != "sym" or theirs[0] != "sym":
        return False
    return ours != theirs and _are_apart(str(ours[1]), str(theirs[1]))


def _are_apart(left: str, right: str) -> bool:
    has_derivative = "/" in left or "/" in right
    return has_derivative or {left, right} <= COORDINATES or _letter(left) == _letter(right)


def _is_derivative(name: Node | None) -> bool:
    return name is not None and name[0] == "sym" and "/" in str(name[1])


def _is_bound(shape: Shape) -> bool:
    """Whether a relation holds one name beside constants."""
    if not isinstance(shape, Relation):
        return False
    sides = [side for side in shape.sides if _name(side) is None]
    is_constant = all(not isinstance(s, Formula) or not names_of(s.node) for s in sides)
    return is_constant and len(sides) == len(shape.sides) - 1


def is_word(name: str) -> bool:
    """Whether a name is the label of an answer, such as "area"."""
    return " " in name or (len(_letter(name)) > 1 and name.isalpha() and name.islower())


def _letter(name: str) -> str:
    return name.rstrip("'").partition("_")[0].rstrip("'")


def by_name(a: Shape, b: Shape, same: Same) -> bool | None:
    """Whether a list whose parts have names equals another, or a bare list or tuple.

    None where names decide nothing.

    Raises:
        Ambiguous: Roots with indices stand in another order.
    """
    ours, theirs = _named(a), _named(b)
    if ours is not None and theirs is not None:
        if set(ours) == set(theirs):
            return _named_alike(ours, theirs, same)
        is_counted = any(name[0] == "unit" for name in (*ours, *theirs))
        return None if is_counted else _in_place(list(ours.values()), list(theirs.values()), same)
    if theirs is not None:
        a, b, ours = b, a, theirs
    if ours is None or not isinstance(b, Items | Tuple) or any(map(name_of, b.parts)):
        return None
    if any(name[0] == "unit" for name in ours) or (isinstance(b, Items) and b.is_set):
        return None
    if _are_indexed(ours) and isinstance(b, Items):
        return None
    return _in_place(_in_order(ours), list(b.parts), same)


def _named(shape: Shape) -> dict[Node, Shape] | None:
    """Parts of a list by their names; None unless there are several, each with its own."""
    if not isinstance(shape, Items) or shape.is_set:
        return None
    found = {name: part for part in shape.parts if (name := name_of(part)) is not None}
    return found if len(found) == len(shape.parts) > 1 else None


def _named_alike(a: dict[Node, Shape], b: dict[Node, Shape], same: Same) -> bool:
    if all(same(part, b[name]) for name, part in a.items()):
        return True
    if _are_indexed(a) and pair_off(_values(a), _values(b), same):
        raise Ambiguous("roots or terms in another order")
    return False


def _values(parts: dict[Node, Shape]) -> list[Shape]:
    return [part.sides[-1] for part in parts.values() if isinstance(part, Relation)]


def _in_place(a: list[Shape], b: list[Shape], same: Same) -> bool:
    return len(a) == len(b) and all(map(same, a, b))


def _in_order(parts: dict[Node, Shape]) -> list[Shape]:
    """Named parts as a tuple has them: coordinates by their names, others as they stand."""
    if {str(name[1]) for name in parts} <= COORDINATES:
        return [parts[name] for name in sorted(parts)]
    return list(parts.values())


def _are_indexed(parts: dict[Node, Shape]) -> bool:
    """Whether the names are one letter with indices, as those of roots are."""
    return {name[0] for name in parts} == {"sym"} and len({_letter(str(n[1])) for n in parts}) == 1
