"""Unions of intervals and single numbers, joined where they meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import mpmath

from verify.formulas.arithmetic import TooLarge, Undefined, numeric
from verify.formulas.shapes import Formula, Items, Shape, Tuple, Union
from verify.formulas.trees import names_of
from verify.formulas.values import evaluate


@dataclass(frozen=True, slots=True)
class _End:
    """An end of a piece: its place on the line, as it was written, and whether it is included."""

    value: mpmath.mpf
    shape: Shape
    is_closed: bool


@dataclass(frozen=True, slots=True)
class _Piece:
    low: _End
    high: _End


def joined_where_they_meet(union: Union) -> Shape:
    """[0,1] and [1,2] as [0,2]; (0,1), {1} and (1,2) as (0,2); the union itself where none meet.

    It also stays as it is where a part is no interval and no set of numbers, or an end has names.
    """
    try:
        pieces = sorted(
            _pieces(union), key=lambda piece: (piece.low.value, not piece.low.is_closed)
        )
    except (TooLarge, Undefined):
        return union
    joined = pieces[:1]
    for piece in pieces[1:]:
        if _meet(joined[-1], piece):
            joined[-1] = replace(joined[-1], high=max(joined[-1].high, piece.high, key=_reach))
        else:
            joined.append(piece)
    if len(joined) == len(pieces):
        return union
    shapes = tuple(map(_shape, joined))
    return shapes[0] if len(shapes) == 1 else Union(shapes)


def _pieces(shape: Shape) -> Iterator[_Piece]:
    match shape:
        case Union(parts) | Items(parts):
            for part in parts:
                yield from _pieces(part)
        case Tuple((low, high), brackets):
            piece = _Piece(_end(low, brackets[0] == "["), _end(high, brackets[1] == "]"))
            if not piece.low.value < piece.high.value:
                raise Undefined("an interval without length")
            yield piece
        case _:
            end = _end(shape, is_closed=True)
            yield _Piece(end, end)


def _end(shape: Shape, is_closed: bool) -> _End:
    if not isinstance(shape, Formula) or shape.unit or shape.percent or names_of(shape.node):
        raise Undefined("no place on the line")
    value = mpmath.mpmathify(numeric(evaluate(shape.node, {})))
    if not isinstance(value, mpmath.mpf) or mpmath.isnan(value):
        raise Undefined("no real number")
    return _End(value, shape, is_closed)


def _meet(left: _Piece, right: _Piece) -> bool:
    """Whether nothing lies between two pieces, of which the first begins first."""
    high, low = left.high, right.low
    if high.value == low.value or (
        mpmath.isfinite(low.value) and mpmath.almosteq(high.value, low.value)
    ):
        return high.is_closed or low.is_closed
    return bool(low.value < high.value)


def _reach(end: _End) -> tuple[mpmath.mpf, bool]:
    return end.value, end.is_closed


def _shape(piece: _Piece) -> Shape:
    if piece.low is piece.high:
        return Items((piece.low.shape,), is_set=True)
    brackets = "(["[piece.low.is_closed] + ")]"[piece.high.is_closed]
    return Tuple((piece.low.shape, piece.high.shape), brackets)
