r"""What follows a ``\command`` of a formula: fractions, roots, functions, sums and limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from verify.formulas.lexing import (
    CIRCULAR,
    FUNCTIONS,
    GREEK,
    OPERATORS,
    Node,
    NotAFormula,
    number,
    quotient,
)

if TYPE_CHECKING:
    from verify.formulas.grammar import Parser

_INTEGRALS = frozenset(["int", "iint", "oint"])
_DIFFERENTIAL = ("sym", "d")
_INVERTED = frozenset(CIRCULAR)


def command(parser: Parser, name: str) -> Node:
    """The formula of a command that was just taken."""
    if name in _READERS:
        return _READERS[name](parser, name)
    if name in GREEK:
        return ("sym", name + parser.subscript())
    if name in OPERATORS:
        return _operator(parser, name)
    if name in FUNCTIONS:
        return _function(parser, FUNCTIONS[name])
    raise NotAFormula(f"\\{name} is not known")


def begins_formula(name: str) -> bool:
    """Whether a command can be the start of a factor."""
    return name in FUNCTIONS or name in GREEK or name in OPERATORS or name in _READERS


def _constant(_: Parser, name: str) -> Node:
    return (name,)


def _fraction(parser: Parser, _: str) -> Node:
    return quotient(_argument(parser), _argument(parser))


def _binomial(parser: Parser, _: str) -> Node:
    return ("binom", _argument(parser), _argument(parser))


def _root(parser: Parser, _: str) -> Node:
    degree = number("2")
    if parser.peek() == "[":
        parser.take()
        degree = parser.group("[")
    return ("root", _argument(parser), degree)


def _argument(parser: Parser) -> Node:
    r"""A group, or one digit or letter: \frac12 is a half."""
    token = parser.peek()
    if token.isdigit() and len(token) > 1:
        parser.tokens[parser.place] = token[1:]
        return number(token[0])
    return parser.primary()


def _accent(parser: Parser, name: str) -> Node:
    return ("sym", name + parser.raw() + parser.subscript())


def _upright(parser: Parser, _: str) -> Node:
    said = parser.raw().strip("()")
    if len(said) == 1 and said.isalpha():
        return (said,) if said in {"e", "i"} else ("sym", said)
    if said in FUNCTIONS:
        return _function(parser, FUNCTIONS[said])
    raise NotAFormula(f"{said[:20]!r} is a word")


def _function(parser: Parser, name: str) -> Node:
    base: Node | None = None
    power: Node | None = None
    while parser.peek() in {"^", "_"}:
        if parser.take() == "^":
            power = parser.exponent()
        else:
            base = parser.primary()
    node = ("call", name, *_arguments(parser), *([base] if base else []))
    if power == ("neg", number("1")) and name in _INVERTED:
        return ("call", "arc" + name, *node[2:])
    return ("^", node, power) if power else node


def _arguments(parser: Parser) -> tuple[Node, ...]:
    """What a function is applied to; without brackets the product up to the next function."""
    if parser.peek() in {"(", "[", "{", "|", r"\{"}:
        inner = parser.primary()
        return tuple(inner[1:]) if inner[0] == "tuple" else (inner,)
    node = parser.power()
    while parser.begins_factor() and parser.peek() not in {"(", "["}:
        if parser.peek()[1:] in FUNCTIONS:
            break
        node = ("*", node, parser.power())
    return (node,)


def _operator(parser: Parser, name: str) -> Node:
    said = {"^": "", "_": ""}
    while parser.peek() in {"^", "_"}:
        sign = parser.take()
        said[sign] = parser.raw().replace(" ", "")
    body = parser.sum()
    parts = _integrand(body) if name in _INTEGRALS else None
    return ("call", f"?{name}_{said['_']}^{said['^']}", *(parts or (body,)))


def _integrand(body: Node) -> tuple[Node, Node] | None:
    r"""What is integrated and over which name: all of \int x + a dx is, up to its dx."""
    if body[0] == "+":
        last = _integrand(body[2])
        return last and (("+", body[1], last[0]), last[1])
    if body[0] == "neg":
        inner = _integrand(body[1])
        return inner and (("neg", inner[0]), inner[1])
    if body[0] != "*" or body[2][0] != "sym":
        return None
    if body[1] == _DIFFERENTIAL:
        return number("1"), body[2]
    if body[1][0] == "*" and body[1][2] == _DIFFERENTIAL:
        return body[1][1], body[2]
    return None


_READERS: Mapping[str, Callable[[Parser, str], Node]] = {
    **dict.fromkeys(["pi", "infty"], _constant),
    **dict.fromkeys(["overline", "hat", "vec", "tilde", "dot", "mathbb"], _accent),
    **dict.fromkeys(["mathrm", "text", "mbox"], _upright),
    "frac": _fraction,
    "binom": _binomial,
    "sqrt": _root,
}
