"""Which problems are held out: by problem, so that no row of a held-out problem is trained on."""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import sha256

from promptcot.curation import spelling
from promptcot.records import Problem


def statement_key(statement: str) -> str:
    """Equal for statements that differ in case and white space alone."""
    return " ".join(statement.casefold().split())


def held_out_statements(problems: Iterable[Problem], fraction: float, seed: int) -> set[str]:
    """Keys of the statements to hold out: the fraction rounded up, at least one.

    Beyond that all that differ from one of them in marks and spaces alone, as ``$12$`` and ``12``.
    Each statement's place depends on itself and the seed alone, not on the order of rows.

    Raises:
        ValueError: Fewer than two different problems, or a fraction that leaves none to train on.
    """
    keys = sorted(
        {statement_key(problem.statement) for problem in problems},
        key=lambda key: sha256(f"{seed}/{key}".encode()).digest(),
    )
    count = math.ceil(round(fraction * len(keys), 9))  # 0.07 * 100 is above 7
    if not 0 < count < len(keys):
        raise ValueError(
            f"holding out a fraction {fraction} of {len(keys)} different problems leaves "
            f"{len(keys) - count} to train on and {count} to test on: both need at least one"
        )
    chosen = set(keys[:count])
    # one problem in two spellings is not to be on both sides
    spellings = {spelling(key) for key in chosen}
    return chosen | {key for key in keys if spelling(key) in spellings}
