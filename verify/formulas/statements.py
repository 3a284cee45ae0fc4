"""Relations from their text: equations, inequalities, chains of them, and memberships.

Each reader returns None where the text is of another kind; ``read`` reads a side.
"""

from __future__ import annotations

import re

from verify.formulas.notation import split_top
from verify.formulas.shapes import Read, Relation, Shape, Tuple, Words

SIGN = re.compile(r"\\approx|\\le\b|\\ge\b|\\ne\b|\\equiv|[=<>]")
_DEFINITION = re.compile(r"^\\?[A-Za-z]+(?:_\{?\w+\}?|\^\{-1\}|'+)?\s*\(\s*(\\?[a-z]+)\s*\)$")
_UNEVALUATED = re.compile(r"\\(?:sum|prod|lim|begin)")
_FLIPPED = {">": "<", r"\ge": "<=", r"\le": "<="}


def read_quantified(text: str, read: Read) -> Shape | None:
    """A statement for all values of a name."""
    parts = split_top(text.removeprefix(r"\forall"), ",")
    if not text.startswith(r"\forall") or len(parts) != 2:  # noqa: PLR2004
        return None
    return Tuple(tuple(read(part) for part in parts), "forall")


def read_member(text: str, read: Read) -> Shape | None:
    r"""What a name is said to be in: ``x \in ...``."""
    found = re.match(r"^\s*[a-zA-Z](?:_\{?\w+\}?)?\s*\\in\s*(.+)$", text)
    if found and not SIGN.search(text):
        return read(found[1])
    return None


def read_relation(text: str, read: Read) -> Shape | None:
    """Sides with signs of relation between them, the smaller side first."""
    signs = [match[0].strip() for match in SIGN.finditer(text)]
    if not signs or _UNEVALUATED.search(text):
        return None
    sides = [side.strip() for side in SIGN.split(text)]
    if signs[0] == r"\approx":
        return read(sides[1] if re.fullmatch(r"(?:[a-zA-Z]\w?)?", sides[0]) else sides[0])
    if r"\approx" in signs:  # the exact part stands before it
        cut = signs.index(r"\approx")
        signs, sides = signs[:cut], sides[: cut + 1]
    if not sides[0] and len(sides) == 2 and sides[1]:  # noqa: PLR2004
        return read(sides[1]) if signs[0] == "=" else None
    shapes = tuple(read(side) for side in sides if side)
    if not all(sides) or any(isinstance(shape, Words | Relation) for shape in shapes):
        return None
    return _oriented(shapes, signs, sides[0])


def _oriented(shapes: tuple[Shape, ...], signs: list[str], left: str) -> Shape:
    if any(sign in {">", r"\ge"} for sign in signs):
        shapes, signs = shapes[::-1], signs[::-1]
    plain = tuple(_FLIPPED.get(sign, sign) for sign in signs)
    found = _DEFINITION.match(left)
    is_definition = found is not None and plain == ("=",)
    return Relation(shapes, plain, found[1].lstrip("\\") if found and is_definition else "")
