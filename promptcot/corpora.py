"""Seed corpora: problems, with or without concepts and rationales, from files or ``datasets``.

Columns may have any names. Every row that cannot be used is an error that names file and line;
nothing is skipped in silence but exact copies, which are counted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from promptcot.fingerprints import fingerprint
from promptcot.records import Annotation, Domain, Problem
from promptcot.row_files import read_json_rows, refuse_round

BUNDLED = "bundled"
SAMPLE_DATA = Path(__file__).parent / "sample_data"

ALIASES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "problem_id", "uuid"),
    "statement": ("statement", "x", "problem", "question", "prompt"),
    "concepts": ("concepts", "c", "foundational_concepts"),
    "rationale": ("rationale", "z"),
    "domain": ("domain",),
    "level": ("level", "difficulty"),
    "reference": ("reference", "answer", "tests"),
}
"""Names under which a column is found without being told, the first that is there."""

log = logging.getLogger(__name__)


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


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Corpus:
    """Where seed problems come from.

    Args:
        path: ``bundled``; a JSON, JSONL or Parquet file; or a path or hub name that
            ``datasets`` knows, such as ``open-r1/codeforces`` or ``AI-MO/NuminaMath-CoT``.
        domain: Of rows that do not name one.
        level: Of rows that do not name one.
        columns: Names of the columns where they are not the usual ones.
        only: Column and value that rows must have, such as ``{source: aops_forum}``.
        limit: Use the first so many rows; None for all.
        split: Of a ``datasets`` path.
    """

    path: str = BUNDLED
    domain: Literal["math", "code"] = "math"
    level: str = "AIME"
    columns: Columns = field(default_factory=Columns)
    only: dict[str, str] | None = None
    limit: int | None = None
    split: str = "train"


@dataclass(frozen=True, slots=True)
class Seeds:
    """A corpus in memory: ``problems`` in order, and of those that have one the rationale."""

    problems: list[Problem]
    rationales: dict[str, str]
    """Rationale by problem id."""
    copies: tuple[str, ...] = ()
    """Ids of the rows that were left out because they are exact copies, one for each."""

    @property
    def annotations(self) -> list[Annotation]:
        """The problems that have a rationale."""
        return [
            Annotation(p, self.rationales[p.id]) for p in self.problems if p.id in self.rationales
        ]


def read_corpus(corpus: Corpus) -> Seeds:
    """Read all rows.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is empty, a row cannot be used, or two rows have one id.
    """
    problems: list[Problem] = []
    rationales: dict[str, str] = {}
    places: dict[str, str] = {}
    copies: list[str] = []
    for place, row in read_rows(corpus):
        problem, rationale, named = _parse(row, place, corpus)
        if problem.id in places and not named:
            copies.append(problem.id)
            continue
        if problem.id in places:
            raise ValueError(
                f"{place}: the id {problem.id!r} is that of {places[problem.id]} too: "
                "give every row an id of its own"
            )
        places[problem.id] = place
        problems.append(problem)
        if rationale:
            rationales[problem.id] = rationale
    if not problems:
        raise ValueError(f"the corpus {corpus.path} has no rows to use: check the file and `only`")
    if copies:
        log.warning("%s: %d exact copies of other rows were left out", corpus.path, len(copies))
    return Seeds(problems, rationales, tuple(copies))


def read_rows(corpus: Corpus) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows as they are, each with its place in words; ``columns``, ``domain`` and ``level`` wait.

    Raises:
        FileNotFoundError: There is no such corpus.
        ValueError: A row is none, or the path is a round's folder.
    """
    return _limited(_rows(corpus), corpus)


def corpus_identity(corpus: Corpus) -> dict[str, Any]:
    """Tells a corpus from others, and a file from what it was before, without reading it."""
    path = Path(corpus.path)
    settings = asdict(corpus)
    if path.is_file():
        status = path.stat()
        settings |= {"path": str(path.resolve()), "bytes": status.st_size}
        settings |= {"changed": status.st_mtime_ns}
    return settings


def read_statements(path: str) -> list[str]:
    """The statements in a file alone, whatever else its rows hold.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row has no statement, or there is no row.
    """
    found = [_statement(row, place, "") for place, row in read_rows(Corpus(path))]
    if not found:
        raise ValueError(f"{path} has no statements: check the file")
    return found


def _rows(corpus: Corpus) -> Iterator[tuple[str, Mapping[str, Any]]]:
    refuse_round(Path(corpus.path))
    if corpus.path == BUNDLED:
        for path in sorted(SAMPLE_DATA.glob("*.jsonl")):
            yield from read_json_rows(path)
    elif corpus.path.endswith((".jsonl", ".json")):
        yield from read_json_rows(Path(corpus.path))
    elif corpus.path.endswith(".parquet"):
        if not Path(corpus.path).is_file():
            raise FileNotFoundError(f"there is no file {corpus.path}: check the path")
        yield from _dataset_rows("parquet", corpus, data_files=corpus.path)
    else:
        yield from _dataset_rows(corpus.path, corpus)


def _dataset_rows(
    name: str, corpus: Corpus, data_files: str | None = None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    from datasets import load_dataset  # seconds to import, and only this source needs it

    try:
        rows = load_dataset(name, data_files=data_files, split=corpus.split, streaming=True)
    except Exception as error:
        raise FileNotFoundError(
            f"the corpus {corpus.path!r} is neither a .jsonl, .json or .parquet file nor a dataset "
            f"that can be opened ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    for number, row in enumerate(rows, 1):
        yield f"{corpus.path} row {number}", row


def _limited(
    rows: Iterable[tuple[str, Mapping[str, Any]]], corpus: Corpus
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    used = 0
    for place, row in rows:
        if corpus.limit is not None and used >= corpus.limit:
            return
        if all(str(row.get(name)) == value for name, value in (corpus.only or {}).items()):
            used += 1
            yield place, row


def _parse(row: Mapping[str, Any], place: str, corpus: Corpus) -> tuple[Problem, str | None, bool]:
    """The row's problem, its rationale if any, and whether the row itself names its id."""
    columns = corpus.columns
    statement = _statement(row, place, columns.statement)
    concepts = _concepts(_column(row, "concepts", columns.concepts, place), place)
    rationale = _text(_column(row, "rationale", columns.rationale, place), place, "rationale")
    named = _column(row, "id", columns.id, place)
    problem = Problem(
        id=str(named) if named is not None else fingerprint(statement, concepts, rationale),
        domain=_domain(_column(row, "domain", columns.domain, place), place, corpus.domain),
        statement=statement,
        concepts=concepts,
        level=str(_column(row, "level", columns.level, place) or corpus.level),
        reference=_reference(_column(row, "reference", columns.reference, place)),
        vote_share=_share(row.get("vote_share"), place),
    )
    return problem, rationale, named is not None


def _column(row: Mapping[str, Any], role: str, name: str, place: str) -> Any:  # noqa: ANN401
    if name:
        if name not in row:
            raise ValueError(f"{place}: no field {name!r} (for {role}), but {_fields(row)}")
        return row[name]
    return next((row[alias] for alias in ALIASES[role] if row.get(alias) is not None), None)


def _statement(row: Mapping[str, Any], place: str, names: str | Sequence[str]) -> str:
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


def _reference(value: object) -> str | None:
    return value if isinstance(value, str) or value is None else json.dumps(value)


def _share(value: object, place: str) -> float | None:
    if value is not None and not (isinstance(value, float | int) and 0 <= value <= 1):
        raise ValueError(f"{place}: the vote_share is {str(value)[:60]!r}, not a share in [0, 1]")
    return value if value is None else float(value)


def _fields(row: Mapping[str, Any]) -> str:
    return f"the fields {', '.join(map(repr, list(row)[:12])) or 'none'}"
