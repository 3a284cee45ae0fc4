"""What the processes say about a pair of answers."""

from verify.formulas.deciding import Decision

__all__ = ["Decision"]
