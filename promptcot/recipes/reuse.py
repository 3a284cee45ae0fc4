"""Replies that an earlier round has paid for, taken over into one with other filters."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from promptcot.jsonl import parse_line
from promptcot.store import Round, check_round_file, check_settings, read_manifest

ASKED_BY = ("recipe", "teacher", "engine", "format", "seed", "sampling")
"""Settings that decide what a teacher replies to a problem."""


def take_over(
    making: Round, stage: str, folder: Path, settings: Mapping[str, Any], keys: Collection[str]
) -> int:
    """Append the rows of a stage that an earlier round has, whole or not.

    Args:
        making: The round that is made.
        stage: Of both rounds.
        folder: Of the earlier round; it may be a ``.partial`` one.
        settings: Of this round.
        keys: Of the rows that this round needs.

    Returns:
        How many of them the earlier round has.

    Raises:
        FileNotFoundError: There is no such round, or it has no such rows.
        ValueError: Another teacher was asked, or in another way; or the file was changed.
    """
    check_settings(folder, _asking(read_manifest(folder)["settings"]), _asking(settings))
    path = folder / f"{stage}.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {path.name}: name a round of {settings['recipe']}"
        )
    check_round_file(path)
    taken = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):  # torn, in a round that was cut off
                break
            row = parse_line(line, f"{path} line {number}")
            if not isinstance(row, dict) or "key" not in row:
                raise ValueError(f"{path} line {number} is no row of a round: was it edited?")
            if row["key"] in keys:
                making.append(stage, row.pop("key"), row)
                taken += 1
    return taken


def _asking(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without how many traces a problem gets: each is a request of its own."""
    found = json.loads(json.dumps({name: settings.get(name) for name in ASKED_BY}, default=str))
    if isinstance(found["sampling"], dict):
        found["sampling"].pop("n", None)
    return dict(found)
