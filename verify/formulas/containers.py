"""Shapes that have parts, from their text: lists, sets, tuples, unions, matrices.

Each reader returns None where the text is of another kind; ``read`` reads a part.
"""

from __future__ import annotations

import re
from fractions import Fraction

from verify.formulas.lexing import Node, NotAFormula
from verify.formulas.notation import ROW, closing, split_top
from verify.formulas.shapes import Formula, Items, Matrix, Read, Relation, Shape, Tuple, Union
from verify.formulas.statements import SIGN

MAX_PARTS = 40
PAIR = 2
_AND = re.compile(
    r"\\(?:text|textbf|textrm|mbox|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}"
    r"|\s\\?(?:and|or)\s|(?<=[)\d])(?:or|and)(?=[(\dA-Z])|\\(?:lor|vee)(?![a-z])"
)
_UPRIGHT = re.compile(r"\\text\s*\{([^{}]*)\}")
_SEPARATOR = re.compile(r"\s*,\s*(?:and |or )?|\s+(?:and|or)\s+")
_LISTED = re.compile(r"\(?[A-Z]\)?|-?\d+(?:[./]\d+)?")
_MATRIX = re.compile(
    r"^(\W*)\\begin\s*\{(?:[pbvB]?matrix|smallmatrix|array)\}(?:\s*\{[lcr|]+\})?"
    r"(.*)\\end\s*\{(?:[pbvB]?matrix|smallmatrix|array)\}(\W*)$",
    re.DOTALL,
)
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-zA-Z])")
_CASES = re.compile(
    r"^\\begin\s*\{(?:cases|aligned|align\*?)\}(.*)\\end\s*\{(?:cases|aligned|align\*?)\}$",
    re.DOTALL,
)


def read_matrix(text: str, read: Read) -> Shape | None:
    r"""Rows between ``\begin`` and ``\end``."""
    found = _MATRIX.match(text)
    if found is None or r"\begin" in found[2] or found[1].strip() not in {"", "[", "(", r"\{"}:
        return None
    lines = [line.split("&") for line in found[2].split(ROW) if line.strip()]
    if max(len(lines), *map(len, lines), 0) > MAX_PARTS:
        return None
    rows = tuple(tuple(read(cell) for cell in line) for line in lines)
    return _determinant(rows) if "{vmatrix}" in text else Matrix(rows)


def _determinant(rows: tuple[tuple[Shape, ...], ...]) -> Formula | None:
    """The value between straight lines, of two rows or three."""
    nodes = [[cell.node for cell in row if isinstance(cell, Formula)] for row in rows]
    if not 1 < len(rows) <= 3 or any(len(row) != len(rows) for row in nodes):  # noqa: PLR2004
        return None
    return Formula(_expanded(nodes))


def _expanded(rows: list[list[Node]]) -> Node:
    """A determinant by its first row (Laplace)."""
    if len(rows) == 1:
        return rows[0][0]
    total: Node = ("num", Fraction(0), -1)
    for place, entry in enumerate(rows[0]):
        minor = _expanded([row[:place] + row[place + 1 :] for row in rows[1:]])
        term: Node = ("*", entry, minor)
        total = ("+", total, ("neg", term) if place % 2 else term)
    return total


def read_cases(text: str, read: Read) -> Shape | None:
    """A system, one line an item."""
    found = _CASES.match(text)
    if found is None or ("&" in found[1] and "{cases}" in text):
        return None
    lines = [line for line in found[1].split(ROW) if line.strip()]
    if any(line.lstrip().startswith("&") for line in lines):  # one chain over several lines
        return None
    lines = [line.replace("&", " ") for line in lines]
    return Items(tuple(map(read, lines))) if len(lines) <= MAX_PARTS else None


def read_union(text: str, read: Read) -> Shape | None:
    r"""Intervals and sets with ``\cup`` between them."""
    parts = _split_at(text, r"\cup")
    if not 1 < len(parts) <= MAX_PARTS:
        return None
    head = re.match(r"^\s*[a-zA-Z]\s*(?:\\in|=)\s*(.*)$", parts[0])
    if head:
        parts[0] = head[1]
    return Union(tuple(read(part) for part in parts))


def _split_at(text: str, word: str) -> list[str]:
    if word not in text:
        return [text]
    marked = re.sub(re.escape(word) + r"(?![a-zA-Z])", "\x01", text)
    return split_top(marked, "\x01")


def read_list(text: str, read: Read) -> Shape | None:
    """Answers with commas, semicolons, "and" or "or" between them."""
    text = _upright_list(text)
    has_relations = SIGN.search(text) is not None
    joined = re.sub(r",\s*,", ",", _AND.sub(" , ", text))
    groups = [part for part in split_top(joined, ";") if part]
    if len(groups) > 1 and all("," in part for part in groups):
        rows = (tuple(read(p) for p in split_top(part, ",") if p) for part in groups)
        return Items(tuple(Tuple(row) for row in rows))
    parts = [part for part in split_top(joined, ",;") if part]
    if not 1 < len(parts) <= MAX_PARTS or (len(parts) == 1 and joined == text):
        return None
    shapes = tuple(read(part) for part in parts)
    if has_relations and "and" in text and _is_inequality(shapes[0]):
        return _both_bounds(shapes)
    return Items(tuple(part for shape in shapes for part in _spread(shape)))


def _upright_list(text: str) -> str:
    """What an upright text holds that lists letters or numbers; any other text as it is."""
    whole = _UPRIGHT.fullmatch(text)
    if whole is None:
        return text
    parts = _SEPARATOR.split(whole[1].strip())
    return whole[1] if all(map(_LISTED.fullmatch, parts)) else text


def _spread(shape: Shape) -> tuple[Shape, ...]:
    """The two values of a plus or minus in a list are items of the list."""
    return shape.parts if isinstance(shape, Items) and not shape.is_set else (shape,)


def _both_bounds(shapes: tuple[Shape, ...]) -> Relation:
    """The chain of two inequalities that hold together: x > 1 and x < 2."""
    bounds = [shape for shape in shapes if isinstance(shape, Relation) and len(shape.sides) == PAIR]
    if len(shapes) == len(bounds) == PAIR and all(map(_is_inequality, bounds)):
        for low, high in (bounds, bounds[::-1]):
            if low.sides[1] == high.sides[0]:
                return Relation((*low.sides, high.sides[1]), low.signs + high.signs)
    raise NotAFormula("inequalities that hold together")


def _is_inequality(shape: Shape) -> bool:
    return isinstance(shape, Relation) and bool({"<", "<="} & set(shape.signs))


def read_set(text: str, read: Read) -> Shape | None:
    """Braces around items, or around the condition on a name."""
    inner = _inside(text, r"\{", r"\}")
    if inner is not None:
        inner = _ungrouped(inner.strip()) or inner  # \left\{ {1,2} \right\}, as editors write it
    else:
        inner = _ungrouped(text)
        if inner is None:
            return None
        if len(split_top(inner)) == 1:
            return read(inner)
    builder = re.match(r"^\s*\(?[a-zA-Z]\w?\)?\s*(?:\\in\s*\S+\s*)?[|:](.*)$", inner)
    if builder:
        return read(builder[1])
    listed = read(inner)
    if isinstance(listed, Items) and not listed.is_set:
        return Items(listed.parts, is_set=True)
    return Items((listed,), is_set=True)


def _ungrouped(text: str) -> str | None:
    """What is within one pair of TeX's braces; None where there is more, or none."""
    is_group = (text[:1], text[-1:]) == ("{", "}") and closing(text, 0) == len(text) - 1
    return text[1:-1] if is_group else None


def _inside(text: str, opening: str, close: str) -> str | None:
    if not (text.startswith(opening) and text.endswith(close)):
        return None
    inner = text[len(opening) : -len(close)]
    depth = 0
    for brace in re.findall(r"\\[{}]", inner):
        depth += 1 if brace == opening else -1
        if depth < 0:
            return None
    return inner


def read_tuple(text: str, read: Read) -> Shape | None:
    """Round or square brackets around parts in order; around one part they mean nothing."""
    if not text or text[0] not in "([" or text[-1] not in ")]":
        return None
    if closing(text, 0) != len(text) - 1:
        return None
    parts = split_top(text[1:-1], ",;")
    if len(parts) == 1:
        return read(parts[0]) if text[0] + text[-1] == "()" else None
    if len(parts) > MAX_PARTS or not all(parts):
        return None
    if len(_PLUS_MINUS.findall(text)) == 1:
        return read_plus_minus(text, read)
    return Tuple(tuple(read(part) for part in parts), text[0] + text[-1])


def read_plus_minus(text: str, read: Read) -> Shape | None:
    """Both values of a plus or minus."""
    if _PLUS_MINUS.search(text) is None:
        return None
    upper = _PLUS_MINUS.sub(lambda sign: "+" if sign[1] == "p" else "-", text)
    lower = _PLUS_MINUS.sub(lambda sign: "-" if sign[1] == "p" else "+", text)
    return Items((read(upper), read(lower)))
