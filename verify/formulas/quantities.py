"""Formulas as answers: units, percentages, angles, and names that could be others."""

from __future__ import annotations

from fractions import Fraction

from verify.formulas.equality import are_equal
from verify.formulas.lexing import Node
from verify.formulas.shapes import Ambiguous, Formula, Shape, Tuple
from verify.formulas.trees import has_kind, names_of, renamed
from verify.formulas.units import is_measure, scale_between

LOG_OF_ONE = 3
"""Parts of a call of the logarithm without a base."""


def same_formula(a: Formula, b: Shape) -> bool:
    """Whether an answer is a formula too, of the same value in the same unit."""
    if not isinstance(b, Formula) or _is_other_kind(a, b) or _is_other_kind(b, a):
        return False
    whole, other = _in_digits(a), _in_digits(b)
    if (whole is not a) != (other is not b) and same_formula(whole, other):
        return True
    if whole is not a and other is not b:
        return same_formula(whole, other)
    if _are_reordered(a.node, b.node):
        raise Ambiguous("capital letters in another order, a word or a product")
    a, b = _in_degrees(a), _in_degrees(b)
    left, right = _same_angle(a, b), _same_angle(b, a)
    if a.percent != b.percent:
        percent, plain = (left, right) if a.percent else (right, left)
        return are_equal(percent, plain) or are_equal(_hundredth(percent), plain)
    if _scaled_equal(left, a.unit, right, b.unit) or _same_family(left, right):
        return True
    tens = _to_base_ten(left), _to_base_ten(right)
    if tens != (left, right) and _scaled_equal(tens[0], a.unit, tens[1], b.unit):
        raise Ambiguous("a logarithm without its base")
    return False


def _to_base_ten(node: Node) -> Node:
    """A formula whose logarithms without a base have the base 10, as in schools."""
    parts = tuple(_to_base_ten(part) if isinstance(part, tuple) else part for part in node)
    is_bare = parts[:2] == ("call", "log") and len(parts) == LOG_OF_ONE
    return (*parts, ("num", Fraction(10), -1)) if is_bare else parts


def _in_digits(shape: Formula) -> Formula:
    """A number in millions and its like without that word; any other as it is."""
    word, _, unit = shape.unit.partition(" ")
    if word not in _POWERS:
        return shape
    return Formula(("*", shape.node, ("num", Fraction(10 ** _POWERS[word]), -1)), unit)


_POWERS = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}


def _are_reordered(a: Node, b: Node) -> bool:
    """Whether two rows of capital letters differ in their order alone: HTH and HHT, AB and BA."""
    left, right = _capitals(a), _capitals(b)
    return left != right and sorted(left) == sorted(right)


def _capitals(node: Node) -> str:
    """The letters of a product of names, each one capital; empty for any other formula."""
    if node[0] == "sym":
        name = str(node[1])
        return name if len(name) == 1 and name.isupper() else ""
    if node[0] != "*":
        return ""
    first, last = _capitals(node[1]), _capitals(node[2])
    return first + last if first and last else ""


def _scaled_equal(left: Node, unit: str, right: Node, other: str) -> bool:
    """Whether two quantities are equal; of different values no unit of measure need be known."""
    try:
        scale = scale_between(unit, other)
    except Ambiguous:
        if are_equal(left, right):
            raise
        return False
    if scale is None:
        return False
    return are_equal(left if scale == 1 else ("*", left, ("num", scale, -1)), right)


def _is_other_kind(a: Formula, b: Formula) -> bool:
    """Whether one is a percentage or an angle, and the other has a unit of something else.

    Residues of two moduli are of two kinds as well.
    """
    if a.node[0] == b.node[0] == "mod":
        return not are_equal(a.node[2], b.node[2])
    is_angle = has_kind(a.node, "deg")
    if a.percent and has_kind(b.node, "deg"):
        return True
    if b.unit in _ANGLES or not (a.percent or is_angle):
        return a.percent and b.unit in _ANGLES
    return is_measure(b.unit)


_ANGLES = frozenset(["degree", "degrees", "radian", "radians", "rad"])


def _in_degrees(shape: Formula) -> Formula:
    """A quantity in degrees with their sign in place of the word."""
    is_word = shape.unit in {"degree", "degrees"}
    return Formula(("deg", shape.node), percent=shape.percent) if is_word else shape


def _hundredth(node: Node) -> Node:
    if node[0] == "num" and node[2] >= 0:
        return ("num", node[1] / 100, node[2] + 2)
    return ("/", node, ("num", Fraction(100), -1))


def _same_angle(a: Formula, b: Formula) -> Node:
    """An angle in degrees as radians, where the other has none but a pi, or is in radians."""
    in_radians = has_kind(b.node, "pi") or _has_inverse(b.node) or b.unit in _ANGLES
    if has_kind(a.node, "deg") and not has_kind(b.node, "deg") and in_radians:
        return ("/", ("*", a.node, ("pi",)), ("num", Fraction(180), -1))
    return a.node


def _has_inverse(node: Node) -> bool:
    """Whether a formula has an inverse circular function, whose values are angles."""
    if node[0] == "call" and str(node[1]).startswith("arc"):
        return True
    return any(_has_inverse(child) for child in node[1:] if isinstance(child, tuple))


def _same_family(a: Node, b: Node) -> bool:
    """Families of angles with a whole number in them, under another name: k pi and n pi."""
    ours, theirs = names_of(a) - names_of(b), names_of(b) - names_of(a)
    if len(ours) != 1 or len(theirs) != 1 or not ours | theirs <= set("knmlt"):
        return False
    if not (has_kind(a, "pi") and has_kind(b, "pi")):
        return False
    return are_equal(renamed(a, *ours, *theirs), b)


def are_same_line(a: Tuple, b: Tuple) -> bool:
    """Points that depend on one parameter, under another name: (x, 2x) and (t, 2t)."""
    nodes = [[p.node for p in shape.parts if isinstance(p, Formula)] for shape in (a, b)]
    if len(nodes[0]) != len(a.parts) or len(nodes[1]) != len(b.parts):
        return False
    ours, theirs = (frozenset().union(*map(names_of, part)) for part in nodes)
    if len(ours - theirs) != 1 or len(theirs - ours) != 1:
        return False
    old, new = *(ours - theirs), *(theirs - ours)
    return all(are_equal(renamed(x, old, new), y) for x, y in zip(*nodes, strict=True))
