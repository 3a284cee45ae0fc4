"""A grammar of formulas: LaTeX or plain text to a tree, without sympy and without evaluating.

The tree is nested tuples ``(operator, operand, ...)``; numbers are ``("num", Fraction, decimals)``
with -1 decimals for a whole number, names ``("sym", name)``. What it does not know is an error.
"""

from __future__ import annotations

from verify.lexing import FUNCTIONS, GREEK, OPERATORS, Node, NotAFormula, number, tokens_of

MAX_DEPTH = 60
"""Nested brackets; a person writes a handful."""
_CLOSERS = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", "|": "|", r"\lfloor": r"\rfloor",
            r"\lceil": r"\rceil", r"\|": r"\|", r"\lbrace": r"\rbrace"}  # fmt: skip
_TIMES = frozenset(["*", r"\cdot", r"\times", r"\ast"])
_OVER = frozenset(["/", r"\div", ":"])
_MOD = frozenset([r"\mod", r"\bmod", r"\pmod"])


def parse(text: str) -> Node:
    """The tree of a formula.

    Raises:
        NotAFormula: It is none, or nested too deep.
    """
    parser = _Parser(tokens_of(text))
    node = parser.sum()
    if parser.peek():
        raise NotAFormula(f"{parser.peek()!r} stands where no formula has it")
    return node


class _Parser:
    """Recursive descent, one method a level of precedence."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [*tokens, ""]
        self.place = 0
        self.depth = 0
        self.bars = 0

    def peek(self, ahead: int = 0) -> str:
        return self.tokens[min(self.place + ahead, len(self.tokens) - 1)]

    def take(self) -> str:
        token = self.peek()
        self.place += 1
        return token

    def expect(self, token: str) -> None:
        if self.take() != token:
            raise NotAFormula(f"a {token!r} is missing")

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise NotAFormula(f"more than {MAX_DEPTH} nested brackets")
        node = self.signed()
        while self.peek() in {"+", "-"}:
            sign = self.take()
            right = self.signed()
            node = ("+", node, right if sign == "+" else ("neg", right))
        self.depth -= 1
        return node

    def signed(self) -> Node:
        negative = False
        while self.peek() in {"+", "-"}:
            negative ^= self.take() == "-"
        return self.product(negative)

    def product(self, negative: bool) -> Node:
        node = self.power()
        while True:
            token = self.peek()
            if token in _TIMES:
                self.take()
                node = ("*", node, self.factor())
            elif token in _OVER:
                self.take()
                node = ("/", node, self.factor())
            elif token in _MOD:
                self.take()
                node = ("mod", ("neg", node) if negative else node, self.factor())
                negative = False
            elif self.begins_factor():
                node = self.implied(node)
            else:
                return ("neg", node) if negative else node

    def implied(self, left: Node) -> Node:
        """A product without a sign; after a whole number a proper fraction makes it mixed."""
        is_fraction = self.peek() == r"\frac"
        after_space_free = left[0] == "num" and left[2] == -1
        right = self.power()
        if left[0] == "num" and right[0] == "num" and not is_fraction:
            raise NotAFormula("two numbers stand side by side")
        if is_fraction and after_space_free and _is_proper(right):
            return ("+", left, right)
        return ("*", left, right)

    def factor(self) -> Node:
        """What follows a sign of multiplication: it may have a sign of its own."""
        if self.peek() in {"-", "+"}:
            sign = self.take()
            inner = self.power()
            return ("neg", inner) if sign == "-" else inner
        return self.power()

    def begins_factor(self) -> bool:
        token = self.peek()
        if not token or token == "|":
            return token == "|" and not self.bars
        starts = token[0].isalnum() or token[0] == "." or token in {"(", "[", "{", r"\{"}
        if token[0] == "\\" and len(token) > 1:
            name = token[1:]
            known = name in FUNCTIONS or name in GREEK or name in OPERATORS
            return known or name in _PRIMARY or token in {r"\{", r"\lfloor", r"\lceil"}
        return starts

    def power(self) -> Node:
        node = self.postfix(self.primary())
        if self.peek() in {"^", "**"}:
            self.take()
            exponent = self.exponent()
            node = self.postfix(("^", node, exponent))
        return node

    def exponent(self) -> Node:
        self.depth += 1  # never taken back: a tower of powers is deep too
        if self.depth > MAX_DEPTH:
            raise NotAFormula(f"more than {MAX_DEPTH} nested powers")
        if self.peek() == "-":
            self.take()
            return ("neg", self.exponent())
        node = self.primary()
        if self.peek() in {"^", "**"}:
            self.take()
            node = ("^", node, self.exponent())
        return node

    def postfix(self, node: Node) -> Node:
        while True:
            if self.peek() == "!":
                self.take()
                node = ("fact", node)
            elif self.peek() in {"%", r"\%"}:
                self.take()
                node = ("/", node, number("100"))
            elif self.peek() == r"\deg":
                self.take()
                node = ("deg", node)
            else:
                return node

    def primary(self) -> Node:
        token = self.take()
        if not token:
            raise NotAFormula("the formula ends too early")
        if token[0].isdigit() or token[0] == ".":
            return number(token)
        if token in _CLOSERS:
            return self.group(token)
        if token[0] == "\\":
            return self.command(token[1:])
        if token.isalpha():
            return self.name(token)
        raise NotAFormula(f"{token!r} stands where no formula has it")

    def group(self, opening: str) -> Node:
        before, self.bars = self.bars, 1 if opening == "|" else 0
        items = [self.sum()]
        while self.peek() == "," and opening in {"(", "[", "{"}:
            self.take()
            items.append(self.sum())
        self.bars = before
        self.expect(_CLOSERS[opening])
        kind = {"|": "abs", r"\lfloor": "floor", r"\lceil": "ceil", r"\|": "abs"}.get(opening)
        if len(items) > 1:
            return ("tuple", *items)
        return ("call", kind, items[0]) if kind else items[0]

    def name(self, letter: str) -> Node:
        if letter == "e" and self.peek() != "_":
            return ("e",)
        if letter == "i" and self.peek() != "_":
            return ("i",)
        if letter in "fghFGPQ" and self.peek() == "{" and self.peek(1) == "(":
            self.take()
            node = self.unknown_function(letter)
            self.expect("}")
            return node
        if letter in "fghFGPQ" and self.peek() == "(":
            return self.unknown_function(letter)
        return ("sym", letter + self.subscript())

    def unknown_function(self, letter: str) -> Node:
        self.take()
        inner = self.group("(")
        arguments = inner[1:] if inner[0] == "tuple" else (inner,)
        return ("call", "?" + letter, *arguments)

    def subscript(self) -> str:
        primes = ""
        while self.peek() == "'":
            primes += self.take()
        if self.peek() != "_":
            return primes
        self.take()
        return primes + "_" + self.raw()

    def raw(self) -> str:
        """The next group or token as it is written, without brackets and commas."""
        if self.peek() not in {"{", "("}:
            return self.take().lstrip("\\")
        depth, said = 0, ""
        while True:
            token = self.take()
            depth += (token in {"{", "("}) - (token in {"}", ")"})
            if not token:
                raise NotAFormula("a '}' is missing")
            said += "" if token in {"{", "}"} else token.lstrip("\\")
            if depth == 0:
                return said

    def command(self, name: str) -> Node:
        if name in _PRIMARY:
            node: Node = getattr(self, _PRIMARY[name])(name)
            return node
        if name in GREEK:
            return ("sym", name + self.subscript())
        if name in OPERATORS:
            return self.operator(name)
        if name in FUNCTIONS:
            return self.function(FUNCTIONS[name])
        raise NotAFormula(f"\\{name} is not known")

    def constant(self, name: str) -> Node:
        return (name,)

    def fraction(self, name: str) -> Node:
        top, bottom = self.argument(), self.argument()
        return ("/", top, bottom) if name == "frac" else ("binom", top, bottom)

    def root(self, _: str) -> Node:
        degree = number("2")
        if self.peek() == "[":
            self.take()
            degree = self.group("[")
        return ("root", self.argument(), degree)

    def argument(self) -> Node:
        r"""A group, or one digit or letter: \frac12 is a half."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.place] = token[1:]
            return number(token[0])
        return self.primary()

    def accent(self, name: str) -> Node:
        return ("sym", name + self.raw() + self.subscript())

    def upright(self, _: str) -> Node:
        said = self.raw().strip("()")
        if len(said) == 1 and said.isalpha():
            return ("e",) if said == "e" else ("i",) if said == "i" else ("sym", said)
        if said in FUNCTIONS:
            return self.function(FUNCTIONS[said])
        raise NotAFormula(f"{said[:20]!r} is a word")

    def function(self, name: str) -> Node:
        base: Node | None = None
        power: Node | None = None
        while self.peek() in {"^", "_"}:
            if self.take() == "^":
                power = self.exponent()
            else:
                base = self.primary()
        node = ("call", name, *self.arguments(), *([base] if base else []))
        if power == ("neg", number("1")) and name in {"sin", "cos", "tan"}:
            return ("call", "arc" + name, *node[2:])
        return ("^", node, power) if power else node

    def arguments(self) -> tuple[Node, ...]:
        if self.peek() in {"(", "[", "{", "|", r"\{"}:
            inner = self.primary()
            return tuple(inner[1:]) if inner[0] == "tuple" else (inner,)
        node = self.power()
        while self.begins_factor() and self.peek() not in {"(", "["}:
            if self.peek()[1:] in FUNCTIONS:
                break
            node = ("*", node, self.power())
        return (node,)

    def operator(self, name: str) -> Node:
        said = {"^": "", "_": ""}
        while self.peek() in {"^", "_"}:
            sign = self.take()
            said[sign] = self.raw().replace(" ", "")
        body = self.sum()
        return ("call", f"?{name}_{said['_']}^{said['^']}", body)


def _is_proper(node: Node) -> bool:
    if node[0] != "/" or any(part[0] != "num" or part[2] != -1 for part in node[1:]):
        return False
    return bool(0 < node[1][1] < node[2][1])


_PRIMARY = {
    "pi": "constant", "infty": "constant", "frac": "fraction", "binom": "fraction", "sqrt": "root",
    "overline": "accent", "hat": "accent", "vec": "accent", "tilde": "accent", "dot": "accent",
    "mathrm": "upright", "text": "upright", "mbox": "upright", "mathbb": "accent",
}  # fmt: skip
