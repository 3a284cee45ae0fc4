"""A corpus's columns, whatever their names, as problems and rationales."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptcot.fingerprints import fingerprint
from promptcot.records import Domain, Problem

ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "problem_id", "uuid"),
    "statement": ("statement", "problem", "question", "prompt", "x"),
    "concepts": ("concepts", "foundational_concepts", "c"),
    "rationale": ("rationale", "z"),
    "domain": ("domain",),
    "level": ("level", "difficulty"),
    "reference": ("reference", "answer", "tests"),
    "reference of code": ("reference", "tests", "answer"),
}
"""Names under which a column is found without being told, the first that is there."""


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Columns:
    """Names of a corpus's columns; empty: the first of the usual names that is there.

    Args:
        id: Unique name of a row; rows without one are named by a hash of their content.
        statement: The problem x; several names are joined by blank lines.
        concepts: A list of strings.
        rationale: The rationale z.
        domain: "math" or "code".
        level: Difficulty, as the prompts will name it.
        reference: Final answer.
    """

    id: str = ""
    statement: str | list[str] = ""
    concepts: str = ""
    rationale: str = ""
    domain: str = ""
    level: str = ""
    reference: str = ""


def parse_row(
    row: Mapping[str, Any], place: str, columns: Columns, domain: str, level: str
) -> tuple[Problem, str | None, bool]:
    """The row's problem, its rationale if any, and whether the row itself names its id.

    Args:
        row: Of a corpus.
        place: In words, for errors.
        columns: Names of what it holds.
        domain: Where the row names none.
        level: Likewise.

    Raises:
        ValueError: The row cannot be used.
    """
    statement = statement_of(row, place, columns.statement)
    concepts = _concepts(_column(row, "concepts", columns.concepts, place), place)
    rationale = _text(_column(row, "rationale", columns.rationale, place), place, "rationale")
    named = _column(row, "id", columns.id, place)
    found_level = _column(row, "level", columns.level, place)
    found_domain = _domain(_column(row, "domain", columns.domain, place), place, domain)
    role = "reference of code" if found_domain is Domain.CODE else "reference"
    problem = Problem(
        id=str(named) if named is not None else fingerprint(statement, concepts, rationale),
        domain=found_domain,
        statement=statement,
        concepts=concepts,
        level=level if found_level in (None, "") else str(found_level),
        reference=_reference(_column(row, role, columns.reference, place), place),
        vote_share=_share(row.get("vote_share"), place),
    )
    return problem, rationale, named is not None


def _column(row: Mapping[str, Any], role: str, name: str, place: str) -> Any:  # noqa: ANN401
    if name:
        if name not in row:
            raise ValueError(f"{place}: no field {name!r} (for {role}), but {_fields(row)}")
        return _known(row[name])
    values = (_known(row.get(alias)) for alias in ALIASES[role])
    return next((value for value in values if value is not None), None)


def _known(value: Any) -> Any:  # noqa: ANN401
    """None for NaN too: tables have it where a value is missing."""
    return None if isinstance(value, float) and math.isnan(value) else value


def statement_of(row: Mapping[str, Any], place: str, names: str | Sequence[str] = "") -> str:
    """The problem in a row.

    Args:
        row: Of a corpus.
        place: In words, for errors.
        names: Of its columns; empty for the first of the usual names.

    Raises:
        ValueError: There is none.
    """
    if isinstance(names, str):
        values = [_column(row, "statement", names, place)]
    else:
        values = [_column(row, "statement", name, place) for name in names]
    parts = [part for value in values if (part := _text(value, place, "statement"))]
    if not parts:
        raise ValueError(
            f"{place}: no statement of a problem, but {_fields(row)}: name its field with "
            "corpus.columns.statement"
        )
    return "\n\n".join(parts)


def _text(value: object, place: str, role: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError(f"{place}: the {role} is {str(value)[:60]!r}, which is no text")
    return value.strip() or None


def _concepts(value: object, place: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(concept, str) and concept.strip() for concept in value
    ):
        raise ValueError(
            f"{place}: the concepts are {str(value)[:60]!r}, not a list of non-empty strings"
        )
    return tuple(concept.strip() for concept in value)


def _domain(value: object, place: str, default: str) -> Domain:
    if value is None:
        return Domain(default)
    if value not in list(Domain):
        raise ValueError(f"{place}: the domain is {value!r}, but it can be 'math' or 'code'")
    return Domain(str(value))


def _reference(value: object, place: str) -> str | None:
    if isinstance(value, str) or value is None:
        return value
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"{place}: the reference is {str(value)[:60]!r} ({type(value).__name__}): give a text, "
            "a finite number, or tests as JSON has them"
        ) from None


def _share(value: object, place: str) -> float | None:
    if value is not None and not (isinstance(value, float | int) and 0 <= value <= 1):
        raise ValueError(f"{place}: the vote_share is {str(value)[:60]!r}, not a share in [0, 1]")
    return value if value is None else float(value)


def _fields(row: Mapping[str, Any]) -> str:
    return f"the fields {', '.join(map(repr, list(row)[:12])) or 'none'}"
