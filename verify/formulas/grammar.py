"""A grammar of formulas: LaTeX or plain text to a tree, without sympy and without evaluating.

The tree is nested tuples ``(operator, operand, ...)``; numbers are ``("num", Fraction, decimals)``
with -1 decimals for a whole number, names ``("sym", name)``. What it does not know is an error.
"""

from __future__ import annotations

from verify.formulas.commands import begins_formula, command
from verify.formulas.cursor import Cursor
from verify.formulas.lexing import Node, NotAFormula, number, tokens_of

MAX_DEPTH = 60
"""Nested brackets; a person writes a handful."""
_CLOSERS = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", "|": "|", r"\lfloor": r"\rfloor",
            r"\lceil": r"\rceil", r"\|": r"\|", r"\lbrace": r"\rbrace"}  # fmt: skip
_TIMES = frozenset(["*", r"\cdot", r"\times", r"\ast"])
_OVER = frozenset(["/", r"\div", ":"])
_INVERSE = ["^", "{", "-", "1", "}", "("]
_MOD = frozenset([r"\mod", r"\bmod", r"\pmod"])


def parse(text: str) -> Node:
    """The tree of a formula.

    Raises:
        NotAFormula: It is none, or nested too deep.
    """
    parser = Parser(tokens_of(text))
    node = parser.sum()
    if parser.peek():
        raise NotAFormula(f"{parser.peek()!r} stands where no formula has it")
    return node


class Parser(Cursor):
    """Recursive descent, one method a level of precedence."""

    def __init__(self, tokens: list[str]) -> None:
        super().__init__(tokens)
        self.depth = 0
        self.bars = 0

    def sum(self) -> Node:
        """Terms with signs between them."""
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
        """A term and the signs before it."""
        negative = False
        while self.peek() in {"+", "-"}:
            negative ^= self.take() == "-"
        return self.product(negative)

    def product(self, negative: bool) -> Node:
        """Factors, with or without signs of multiplication and division between them."""
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
        """Whether the next token can begin a factor."""
        token = self.peek()
        if not token or token == "|":
            return token == "|" and not self.bars
        starts = token[0].isalnum() or token[0] == "." or token in {"(", "[", "{", r"\{"}
        if token[0] == "\\" and len(token) > 1:
            return begins_formula(token[1:]) or token in {r"\{", r"\lfloor", r"\lceil"}
        return starts

    def power(self) -> Node:
        """A factor with its powers and what stands behind it."""
        node = self.postfix(self.primary())
        if self.peek() in {"^", "**"}:
            self.take()
            exponent = self.exponent()
            node = self.postfix(("^", node, exponent))
        return node

    def exponent(self) -> Node:
        """What stands in an exponent, which may have exponents of its own."""
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
        """A formula with the factorials, percent and degree signs behind it."""
        while True:
            if self.peek() == "!":
                node = self.factorial(node)
            elif self.peek() in {"%", r"\%"}:
                self.take()
                node = ("/", node, number("100"))
            elif self.peek() == r"\deg":
                self.take()
                node = ("deg", node)
            else:
                return node

    def factorial(self, node: Node) -> Node:
        """One sign is a factorial, two are that of every other number; more mean nothing here."""
        signs = 0
        while self.peek() == "!":
            self.take()
            signs += 1
        if signs > 2:  # noqa: PLR2004
            raise NotAFormula("more than two signs of factorial")
        return ("fact" if signs == 1 else "fact2", node)

    def primary(self) -> Node:
        """A number, a name, a group or a command."""
        token = self.take()
        if not token:
            raise NotAFormula("the formula ends too early")
        if token[0].isdigit() or token[0] == ".":
            return number(token)
        if token in _CLOSERS:
            return self.group(token)
        if token[0] == "\\":
            return command(self, token[1:])
        if token.isalpha():
            return self.name(token)
        raise NotAFormula(f"{token!r} stands where no formula has it")

    def group(self, opening: str) -> Node:
        """What stands in brackets that were just opened."""
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
        """A letter that was just taken: a constant, a function of its own, or a name."""
        if letter == "e" and self.peek() != "_":
            return ("e",)
        if letter == "i" and self.peek() != "_":
            return ("i",)
        if letter in "fghFGPQ" and self.peek() == "{" and self.peek(1) == "(":
            self.take()
            node = self.unknown_function(letter)
            self.expect("}")
            return node
        primes = 0
        while self.peek(primes) == "'":
            primes += 1
        if letter in "fghFGPQ" and self.peek(primes) == "(":
            self.place += primes
            return self.unknown_function(letter + "'" * primes)
        if letter in "fghFGPQ" and self.tokens[self.place : self.place + 6] == _INVERSE:
            self.place += 5
            return self.unknown_function(letter + "^{-1}")
        return ("sym", letter + self.subscript())

    def unknown_function(self, letter: str) -> Node:
        """A function of which only the name is known: f(x)."""
        self.take()
        inner = self.group("(")
        arguments = inner[1:] if inner[0] == "tuple" else (inner,)
        return ("call", "?" + letter, *arguments)

    def subscript(self) -> str:
        """Primes and subscript of a name, as they are written."""
        primes = ""
        while self.peek() == "'":
            primes += self.take()
        if self.peek() != "_":
            return primes
        self.take()
        return primes + "_" + self.raw()


def _is_proper(node: Node) -> bool:
    if node[0] != "/" or any(part[0] != "num" or part[2] != -1 for part in node[1:]):
        return False
    return bool(0 < node[1][1] < node[2][1])
