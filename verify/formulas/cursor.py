"""A place among the tokens of a formula, from which a parser reads on."""

from __future__ import annotations

from verify.formulas.lexing import NotAFormula


class Cursor:
    """Tokens and the place of the next one; beyond the last there are empty ones."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [*tokens, ""]
        self.place = 0

    def peek(self, ahead: int = 0) -> str:
        """The token at the place, or some way ahead."""
        return self.tokens[min(self.place + ahead, len(self.tokens) - 1)]

    def take(self) -> str:
        """The next token, which is then behind."""
        token = self.peek()
        self.place += 1
        return token

    def expect(self, token: str) -> None:
        """Take a token that must be there."""
        if self.take() != token:
            raise NotAFormula(f"a {token!r} is missing")

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
