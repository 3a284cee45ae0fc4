"""What a formula's tree holds: names, and parts of some kind."""

from __future__ import annotations

from verify.formulas.lexing import Node


def names_of(node: Node) -> frozenset[str]:
    """The names in a formula."""
    if node[0] == "sym":
        return frozenset([str(node[1])])
    return frozenset().union(*(names_of(child) for child in node[1:] if isinstance(child, tuple)))


def renamed(node: Node, old: str, new: str) -> Node:
    """The formula with one name replaced."""
    if node == ("sym", old):
        return ("sym", new)
    return tuple(renamed(child, old, new) if isinstance(child, tuple) else child for child in node)


def has_kind(node: Node, kind: str) -> bool:
    """Whether a formula has a part of a kind, such as ``deg``."""
    return node[0] == kind or any(has_kind(c, kind) for c in node[1:] if isinstance(c, tuple))
