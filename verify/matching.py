"""Pairing off the parts of two collections."""

from __future__ import annotations


def pairs_off(allowed: list[list[bool]]) -> bool:
    """Whether each row can have a column of its own among those that it allows (Kuhn 1955)."""
    owner: dict[int, int] = {}

    def place(row: int, tried: set[int]) -> bool:
        for column, is_allowed in enumerate(allowed[row]):
            if is_allowed and column not in tried:
                tried.add(column)
                if column not in owner or place(owner[column], tried):
                    owner[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(allowed)))
