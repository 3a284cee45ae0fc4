"""An answer's text to its shape: readers, one a kind, tried in an order that matters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from verify.leaves import (
    read_based,
    read_choice,
    read_clock,
    read_formula,
    read_minutes,
    read_ratio,
    read_synonym,
    words,
)
from verify.lexing import NotAFormula
from verify.notation import ROW, closing, split_top
from verify.shapes import Items, Matrix, Relation, Shape, Tuple, Union, Words

MAX_PARTS = 40
MAX_LEVELS = 6
_AND = re.compile(
    r"\\(?:text|textbf|textrm|mbox|mathrm)\s*\{\s*,?\s*(?:and|or)\s*\}"
    r"|\s\\?(?:and|or)\s|(?<=[)\d])(?:or|and)(?=[(\dA-Z])|\\(?:lor|vee)(?![a-z])"
)
_CLAUSE = re.compile(
    r",?\s*(?:\\(?:text|textrm|mbox|mathrm)\s*\{\s*,?\s*(?:for|where|when|with|if)"
    r"\b[^{}]*\}.*|\\forall.*|\b(?:for (?:all|some|any|every|each)|where)\b.*)$"
)
_CLAUSE_WITHIN = re.compile(
    r"\\text\s*\{\s*for (?:all|any|every|some) \}\s*[a-zA-Z]\s*\\in\s*\\mathbb\s*\{\s*[A-Z]\s*\}"
)
_LABEL = re.compile(r"^(?:[A-Z][A-Za-z]{2,}(?: [A-Za-z0-9]+){0,2}|\\text\s*\{[^{}]*\})\s*[:=]\s*")
_SIGN = re.compile(r"\\approx|\\le\b|\\ge\b|\\ne\b|\\equiv|[=<>]")
_DEFINITION = re.compile(r"^\\?[A-Za-z]+(?:_\{?\w+\}?)?\s*\(\s*(\\?[a-z]+)\s*\)$")
_MATRIX = re.compile(
    r"^(\W*)\\begin\s*\{(?:[pbvBV]?matrix|smallmatrix|array)\}(?:\s*\{[lcr|]+\})?"
    r"(.*)\\end\s*\{(?:[pbvBV]?matrix|smallmatrix|array)\}(\W*)$",
    re.DOTALL,
)
_CASES = re.compile(
    r"^\\begin\s*\{(?:cases|aligned|align\*?)\}(.*)\\end\s*\{(?:cases|aligned|align\*?)\}$",
    re.DOTALL,
)
_UNEVALUATED = re.compile(r"\\(?:sum|prod|lim|begin)")


def readings(text: str) -> Iterator[Shape]:
    """What a unified answer can mean, the likeliest first; commas may group digits or not."""
    grouped = re.sub(r"(?<![\d.])(\d{1,3}(?:,\d{3})+)(?![\d,])", _join, text)
    spaced = re.sub(r"^([-+]?\d{1,3}(?: \d{3})+)(?![ \d])", _join, grouped)
    tried = [spaced, text]
    if re.fullmatch(r"[-+]?\d+,\d{1,2}", text):
        tried.append(text.replace(",", "."))
    for said in dict.fromkeys(tried):
        yield read(said)


def _join(match: re.Match[str]) -> str:
    return re.sub("[, ]", "", match[1])


def read(text: str, level: int = 0) -> Shape:
    """The likeliest meaning of a unified answer; what is none of the kinds is words."""
    text = text.strip().rstrip(".").strip()
    if level > MAX_LEVELS:
        return words(text)
    for reader in _READERS:
        try:
            shape = reader(text, level)
        except NotAFormula:
            continue
        if shape is not None:
            return shape
    return words(text)


def _quantified(text: str, level: int) -> Shape | None:
    parts = split_top(text.removeprefix(r"\forall"), ",")
    if not text.startswith(r"\forall") or len(parts) != 2:  # noqa: PLR2004
        return None
    return Tuple(tuple(read(part, level + 1) for part in parts), "forall")


def _without_clause(text: str, level: int) -> Shape | None:
    shorter = _CLAUSE.sub("", _CLAUSE_WITHIN.sub("", text)).strip(" ,")
    return read(shorter, level + 1) if shorter and shorter != text else None


def _labelled(text: str, level: int) -> Shape | None:
    label = _LABEL.match(text)
    if label is None or len(split_top(text)) > 1 or not text[label.end() :].strip():
        return None
    return read(text[label.end() :], level + 1)


def _matrix(text: str, level: int) -> Shape | None:
    found = _MATRIX.match(text)
    if found is None or r"\begin" in found[2] or found[1].strip() not in {"", "[", "(", r"\{"}:
        return None
    lines = [line for line in found[2].split(ROW) if line.strip()]
    return Matrix(
        tuple(
            tuple(read(cell, level + 1) for cell in line.split("&")) for line in lines[:MAX_PARTS]
        )
    )


def _cases(text: str, level: int) -> Shape | None:
    found = _CASES.match(text)
    if found is None or "&" in found[1]:
        return None
    lines = [line for line in found[1].split(ROW) if line.strip()]
    return Items(tuple(read(line, level + 1) for line in lines[:MAX_PARTS]))


def _union(text: str, level: int) -> Shape | None:
    parts = _split_at(text, r"\cup")
    if len(parts) < 2:  # noqa: PLR2004
        return None
    head = re.match(r"^\s*[a-zA-Z]\s*(?:\\in|=)\s*(.*)$", parts[0])
    if head:
        parts[0] = head[1]
    return Union(tuple(read(part, level + 1) for part in parts))


def _split_at(text: str, word: str) -> list[str]:
    if word not in text:
        return [text]
    marked = re.sub(re.escape(word) + r"(?![a-zA-Z])", "\x01", text)
    return split_top(marked, "\x01")


def _list(text: str, level: int) -> Shape | None:
    has_relations = _SIGN.search(text) is not None
    joined = re.sub(r",\s*,", ",", _AND.sub(" , ", text))
    groups = [part for part in split_top(joined, ";") if part]
    if len(groups) > 1 and all("," in part for part in groups) and level < MAX_LEVELS:
        rows = (tuple(read(p, level + 1) for p in split_top(part, ",") if p) for part in groups)
        return Items(tuple(Tuple(row) for row in rows))
    parts = [part for part in split_top(joined, ",;") if part]
    if not 1 < len(parts) <= MAX_PARTS or (len(parts) == 1 and joined == text):
        return None
    shapes = tuple(read(part, level + 1) for part in parts)
    if has_relations and "and" in text and _is_inequality(shapes[0]):
        raise NotAFormula("inequalities that hold together")
    return Items(tuple(part for shape in shapes for part in _spread(shape)))


def _spread(shape: Shape) -> tuple[Shape, ...]:
    """The two values of a plus or minus in a list are items of the list."""
    return shape.parts if isinstance(shape, Items) and not shape.is_set else (shape,)


def _is_inequality(shape: Shape) -> bool:
    return isinstance(shape, Relation) and bool({"<", "<="} & set(shape.signs))


def _set(text: str, level: int) -> Shape | None:
    inner = _inside(text, r"\{", r"\}")
    if inner is None and (text[:1], text[-1:]) == ("{", "}") and closing(text, 0) == len(text) - 1:
        inner = text[1:-1]
        if len(split_top(inner)) == 1:
            return read(inner, level + 1)
    if inner is None:
        return None
    builder = re.match(r"^\s*\(?[a-zA-Z]\w?\)?\s*(?:\\in\s*\S+\s*)?[|:](.*)$", inner)
    if builder:
        return read(builder[1], level + 1)
    listed = read(inner, level + 1)
    return Items(listed.parts if isinstance(listed, Items) else (listed,), is_set=True)


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


def _tuple(text: str, level: int) -> Shape | None:
    if not text or text[0] not in "([" or text[-1] not in ")]":
        return None
    if closing(text, 0) != len(text) - 1:
        return None
    parts = split_top(text[1:-1], ",;")
    if len(parts) == 1:
        return read(parts[0], level + 1) if text[0] + text[-1] == "()" else None
    if len(parts) > MAX_PARTS or not all(parts):
        return None
    return Tuple(tuple(read(part, level + 1) for part in parts), text[0] + text[-1])


def _member(text: str, level: int) -> Shape | None:
    found = re.match(r"^\s*[a-zA-Z](?:_\{?\w+\}?)?\s*\\in\s*(.+)$", text)
    if found and not _SIGN.search(text):
        return read(found[1], level + 1)
    return None


def _relation(text: str, level: int) -> Shape | None:
    signs = [match[0].strip() for match in _SIGN.finditer(text)]
    if not signs or _UNEVALUATED.search(text):
        return None
    sides = [side.strip() for side in _SIGN.split(text)]
    if signs[0] == r"\approx":
        return read(sides[1] if re.fullmatch(r"[a-zA-Z]\w?", sides[0]) else sides[0], level + 1)
    if r"\approx" in signs:  # the exact part stands before it
        cut = signs.index(r"\approx")
        signs, sides = signs[:cut], sides[: cut + 1]
    if not sides[0] and len(sides) == 2 and sides[1]:  # noqa: PLR2004
        return read(sides[1], level + 1) if signs[0] == "=" else None
    shapes = tuple(read(side, level + 1) for side in sides if side)
    if not all(sides) or any(isinstance(shape, Words | Relation) for shape in shapes):
        return None
    return _oriented(shapes, signs, sides[0])


_FLIPPED = {">": "<", r"\ge": "<=", r"\le": "<="}


def _oriented(shapes: tuple[Shape, ...], signs: list[str], left: str) -> Shape:
    if any(sign in {">", r"\ge"} for sign in signs):
        shapes, signs = shapes[::-1], signs[::-1]
    plain = tuple(_FLIPPED.get(sign, sign) for sign in signs)
    found = _DEFINITION.match(left)
    is_definition = found is not None and plain == ("=",)
    return Relation(shapes, plain, found[1].lstrip("\\") if found and is_definition else "")


def _plus_minus(text: str, level: int) -> Shape | None:
    if r"\pm" not in text and r"\mp" not in text:
        return None
    upper = text.replace(r"\pm", "+").replace(r"\mp", "-")
    lower = text.replace(r"\pm", "-").replace(r"\mp", "+")
    return Items((read(upper, level + 1), read(lower, level + 1)))


def _leaf(reader: Callable[[str], Shape | None]) -> Callable[[str, int], Shape | None]:
    return lambda text, _: reader(text)


_READERS: tuple[Callable[[str, int], Shape | None], ...] = (
    _leaf(read_synonym),
    _quantified,
    _without_clause,
    _leaf(read_based),
    _matrix,
    _cases,
    _leaf(read_clock),
    _leaf(read_ratio),
    _leaf(read_minutes),
    _leaf(read_choice),
    _union,
    _set,
    _list,
    _labelled,
    _tuple,
    _member,
    _plus_minus,
    _relation,
    _leaf(read_formula),
)
