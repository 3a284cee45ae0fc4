"""An answer's text to its shape: readers, one a kind, tried in an order that matters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from verify.formulas.containers import (
    read_cases,
    read_list,
    read_matrix,
    read_plus_minus,
    read_set,
    read_tuple,
    read_union,
)
from verify.formulas.leaves import (
    read_based,
    read_choice,
    read_clock,
    read_compound,
    read_date,
    read_formula,
    read_minutes,
    read_ratio,
    read_synonym,
    words,
)
from verify.formulas.lexing import NotAFormula
from verify.formulas.notation import split_top
from verify.formulas.shapes import Formula, Read, Relation, Shape
from verify.formulas.statements import read_member, read_quantified, read_relation

MAX_LEVELS = 6
"""Of parts within parts."""
_CLAUSE = re.compile(
    r",?\s*(?:\\(?:text|textrm|mbox|mathrm)\s*\{\s*,?\s*(?:for|where|when|with|if)"
    r"\b[^{}]*\}.*|\\forall.*|\b(?:for (?:all|some|any|every|each)|where)\b.*)$"
)
_MEMBER = re.compile(r"[,;(]\s*[a-zA-Z]\s*\\in\s*\\mathbb\s*\{\s*([A-Z])\s*\}(\S*?)\)?$")
_CLAUSE_WITHIN = re.compile(
    r",?\s*\\text\s*\{\s*(?:for(?: all| any| every| some)?|where|with)\s*\}"
    r"\s*[a-zA-Z]\s*\\in\s*\\mathbb\s*\{\s*([A-Z])\s*\}([\^_]\S*)?"
)
_LABEL = re.compile(r"^(?:[A-Z][A-Za-z]{2,}(?: [A-Za-z0-9]+){0,2}|\\text\s*\{[^{}]*\})\s*[:=]\s*")

_SPACED = re.compile(r"(?<![\d.])(?<![\d.] )(\d{1,3}(?: \d{3})+)(?! ?[\d/]| ?\\frac)")
_SPACED_DECIMALS = re.compile(r"(?<=\d\.)(\d{3}(?: \d{3})* \d{1,3})(?! ?[\d/])")

Reader = Callable[[str, Read], Shape | None]


def readings(text: str) -> Iterator[Shape]:
    """What a unified answer can mean, the likeliest first; commas may group digits or not."""
    grouped = re.sub(r"(?<![\d.])(\d{1,3}(?:,\d{3})+)(?![\d,])", _join, text)
    spaced = _SPACED_DECIMALS.sub(_join, _SPACED.sub(_join, grouped))
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
            shape = reader(text, lambda part: read(part, level + 1))
        except NotAFormula:
            continue
        if shape is not None:
            return shape
    return words(text)


def condition_of(text: str) -> str:
    """The condition that ends a unified answer, such as "for all x", in its spelling."""
    member = _MEMBER.search(text) or _CLAUSE_WITHIN.search(text)
    if member:
        return member[1] + (member[2] or "") if member.start() else ""
    found = _CLAUSE.search(_CLAUSE_WITHIN.sub("", text))
    return words(found[0]).text if found and text[: found.start()].strip(" ,") else ""


def _without_clause(text: str, read: Read) -> Shape | None:
    shorter = _MEMBER.sub("", _CLAUSE.sub("", _CLAUSE_WITHIN.sub("", text))).strip(" ,")
    return read(shorter) if shorter and shorter != text else None


def _labelled(text: str, read: Read) -> Shape | None:
    label = _LABEL.match(text)
    if label is None or len(split_top(text)) > 1 or not text[label.end() :].strip():
        return None
    value = read(text[label.end() :])
    if isinstance(value, Relation):
        return value
    return Relation((Formula(("sym", words(label[0]).text.strip(" =:"))), value), ("=",))


def _leaf(reader: Callable[[str], Shape | None]) -> Reader:
    return lambda text, _: reader(text)


_READERS: tuple[Reader, ...] = (
    _leaf(read_synonym),
    read_quantified,
    _without_clause,
    _leaf(read_based),
    read_matrix,
    read_cases,
    _leaf(read_clock),
    _leaf(read_date),
    _leaf(read_ratio),
    _leaf(read_minutes),
    _leaf(read_compound),
    read_choice,
    read_union,
    read_set,
    read_list,
    _labelled,
    read_tuple,
    read_member,
    read_plus_minus,
    read_relation,
    _leaf(read_formula),
)
