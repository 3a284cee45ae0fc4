"""Seed corpora: problems, with or without concepts and rationales, from files or ``datasets``.

Columns may have any names. Every row that cannot be used is an error that names file and line;
nothing is skipped in silence but exact copies, which are counted.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from glob import glob
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from promptcot.columns import Columns, parse_row, statement_of
from promptcot.records import Annotation, Problem
from promptcot.row_files import read_json_rows, refuse_round

BUNDLED = "bundled"
SAMPLE_DATA = Path(__file__).parent / "sample_data"

log = logging.getLogger(__name__)


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Corpus:
    """Where seed problems come from.

    Args:
        path: ``bundled``; a JSON, JSONL or Parquet file, or several named by a pattern with ``*``,
            read in order of their names; or a path or hub name that ``datasets`` knows, such as
            ``open-r1/codeforces`` or ``AI-MO/NuminaMath-CoT``.
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

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(
                f"limit={self.limit} of the corpus {self.path}: give 1 row or more, or null for all"
            )


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
    copies: list[tuple[str, Problem]] = []
    for place, row in read_rows(corpus):
        problem, rationale, named = parse_row(
            row, place, corpus.columns, corpus.domain, corpus.level
        )
        if problem.id in places and not named:
            copies.append((place, problem))
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
    _tell_copies(corpus.path, copies, {problem.id: problem for problem in problems})
    return Seeds(problems, rationales, tuple(problem.id for _, problem in copies))


def _tell_copies(path: str, copies: list[tuple[str, Problem]], kept: dict[str, Problem]) -> None:
    """Log how many rows are copies, and those that are but for what no id is made of."""
    if copies:
        log.warning("%s: %d exact copies of other rows were left out", path, len(copies))
    if other := [place for place, problem in copies if problem != kept[problem.id]]:
        log.warning(
            "%d of them have another reference, level or domain than the row that was kept (%s): "
            "correct them, or give every row an id of its own",
            len(other),
            ", ".join(other[:3]),
        )


def read_rows(corpus: Corpus) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows as they are, each with its place in words; ``columns``, ``domain`` and ``level`` wait.

    Raises:
        FileNotFoundError: There is no such corpus.
        ValueError: A row is none, or the path is a round's folder.
    """
    if "*" not in corpus.path or Path(corpus.path).is_file():
        return _limited(_rows(corpus), corpus)
    if not (files := _files(corpus.path)):
        raise FileNotFoundError(f"no file is named by {corpus.path}: check the pattern")
    every = chain.from_iterable(_rows(replace(corpus, path=path)) for path in files)
    return _limited(every, corpus)


def corpus_identity(corpus: Corpus) -> dict[str, Any]:
    """Tells a corpus from others, and a file from what it was before, without reading it."""
    files = [Path(path) for path in _files(corpus.path)]
    found = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return {**asdict(corpus), "files": found}


def _files(path: str) -> list[str]:
    """Those that a path or a pattern names."""
    if Path(path).is_file():
        return [path]
    return sorted(glob(re.sub(r"[\[?]", r"[\g<0>]", path))) if "*" in path else []


def read_statements(path: str) -> list[str]:
    """The statements in a file alone, whatever else its rows hold.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A row has no statement, or there is no row.
    """
    found = [statement_of(row, place) for place, row in read_rows(Corpus(path))]
    if not found:
        raise ValueError(f"{path} has no statements: check the file")
    return found


def _rows(corpus: Corpus) -> Iterator[tuple[str, Mapping[str, Any]]]:
    refuse_round(Path(corpus.path))
    if corpus.path == BUNDLED:
        for path in sorted(SAMPLE_DATA.glob("*.jsonl")):
            yield from read_json_rows(path)
    elif corpus.path.lower().endswith((".jsonl", ".json")):
        yield from read_json_rows(Path(corpus.path))
    elif corpus.path.lower().endswith(".parquet"):
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
