"""Rows in files of JSON, each with its place in words; files of rounds are checked."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from promptcot.jsonl import parse_line
from promptcot.store import ROWS, check_round_file, refuse_unfinished, round_manifest

HEAD = 4096
"""Bytes in which the first sign of a file stands."""
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")
"""How JSON spells half a character of those beyond 16 bits."""


def read_json_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows of a JSONL file, or of a JSON file that holds one list, each with its place in words.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A line is not a whole JSON object; the file and the line are named. Or the file
            belongs to a round and was changed, or to one that is not finished, or the path is a
            round's folder. Or a text has half of a surrogate pair.
    """
    refuse_round(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: check the path")
    check_round_file(path)
    refuse_unfinished(path.parent)
    with open(path, "rb") as file:
        if file.read(HEAD).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"["):
            yield from _json_list(path)
            return
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.removeprefix(codecs.BOM_UTF8).strip():
                place = f"{path} line {number}"
                row = _mapping(parse_line(line, place), place)
                if SURROGATE.search(line):
                    _refuse_halves(row, place)
                yield place, row


def refuse_round(path: Path) -> None:
    """Refuse a round's folder where one of its files is meant.

    Raises:
        ValueError: It is one.
    """
    refuse_unfinished(path)
    if round_manifest(path):
        raise ValueError(f"{path} is the folder of a round: give its rows, {path / ROWS}.jsonl")


def _json_list(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    content = path.read_bytes()
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: not a whole JSON list ({error}): is it cut off, or is each line a list, "
            "where a row is an object?"
        ) from None
    has_surrogates = SURROGATE.search(content)
    del content
    for number, row in enumerate(rows, 1):
        place = f"{path} row {number}"
        found = _mapping(row, place)
        if has_surrogates:
            _refuse_halves(found, place)
        yield place, found


def _refuse_halves(row: Mapping[str, Any], place: str) -> None:
    """Refuse half a character without its other half: no tokenizer and no file takes it."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start].encode("ascii", "backslashreplace").decode()
        raise ValueError(f"{place}: {half} is half a character: mend or delete the row") from None


def _mapping(row: object, place: str) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise ValueError(f"{place}: {str(row)[:60]!r} is not a JSON object with named fields")
    return row
