"""Rounds on disk: folders of JSONL that appear whole or not at all.

While a round is being made it lies in ``NAME.partial``: finished rows are appended one at a
time, each under a key that hashes what made it, and a rerun goes on after the last whole line.
When it is done it gets a manifest with counts and checksums and is renamed to ``NAME``.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from promptcot.fingerprints import file_sha256
from promptcot.locks import folder_lock
from promptcot.stage_rows import Row, StageRows

MANIFEST = "manifest.json"
ROWS = "rows"
DROPPED = "dropped"
SYNC_S = 1.0
"""Rows that a power cut may cost are at most this many seconds old; a killed process costs none."""


class Round:
    """One round being made. Use ``open_round``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stages: dict[str, StageRows] = {}
        self._synced = time.monotonic()
        self.figures: Row = {}
        """What else the manifest is to tell of the round: rates, means."""

    def rows(self, stage: str) -> Mapping[str, Row]:
        """Rows of a stage by key, as they are on disk whenever one is asked for."""
        return self._of(stage)

    def append(self, stage: str, key: str, row: Mapping[str, Any]) -> None:
        """Write one finished row; a key that is there already is left as it is."""
        self._of(stage).append(key, row)
        if time.monotonic() - self._synced > SYNC_S:
            self.sync()

    def drop(self, key: str, reason: str, **details: Any) -> None:  # noqa: ANN401
        """Record that a row was left out, and why; the manifest counts the reasons."""
        self.append(DROPPED, key, {"reason": reason, **details})

    def dropped(self) -> dict[str, int]:
        """How many rows were left out, by reason."""
        return dict(Counter(row["reason"] for row in self.rows(DROPPED).values()))

    def sync(self) -> None:
        """Force what was written to the disk."""
        for rows in self._stages.values():
            rows.sync()
        self._synced = time.monotonic()

    def close(self) -> None:
        """Close the files."""
        for rows in self._stages.values():
            rows.close()
        self._stages = {}

    def _of(self, stage: str) -> StageRows:
        if stage not in self._stages:
            self._stages[stage] = StageRows(self.folder / f"{stage}.jsonl")
        return self._stages[stage]


@contextmanager
def open_round(folder: Path, settings: Mapping[str, Any]) -> Iterator[Round | None]:
    """Make the round ``folder``, or go on with the part of it that is there.

    Yields None when the round is whole already. Leaving the block without an error completes it.

    Args:
        folder: Where the round will appear.
        settings: All that decides the rows: recipe, weights, sampling, seed, input.

    Raises:
        ValueError: The folder or its partial form was made with other settings.
        BlockingIOError: Another process is making it.
    """
    partial = folder.with_name(folder.name + ".partial")
    wanted = json.loads(json.dumps(settings, default=str))
    with ExitStack() as stack:
        stack.enter_context(folder_lock(folder.parent / ".locks" / folder.name))
        if folder.exists() and not (folder / MANIFEST).exists():
            raise ValueError(
                f"{folder} is there but holds no round ({MANIFEST} is missing): name another "
                "folder, or remove it"
            )
        if folder.exists():
            refuse_unfinished(folder)
            check_settings(folder, read_manifest(folder)["settings"], wanted)
            yield None
            return
        if (partial / MANIFEST).exists():
            check_settings(partial, read_manifest(partial)["settings"], wanted)
        started, spent = time.time(), _seconds_spent(partial)
        partial.mkdir(parents=True, exist_ok=True)
        state = {"settings": wanted, "started": started, "seconds_before": spent}
        write_json(partial / MANIFEST, state)
        making = Round(partial)
        stack.callback(making.close)
        yield making
        making.sync()
        _complete(making, wanted, time.time() - started + spent)
        _sync_folder(partial)  # else a power cut could leave a round without one of its files
        os.replace(partial, folder)
        _sync_folder(folder.parent)


def read_round(folder: Path, stage: str = ROWS) -> list[Row]:
    """All rows of a whole round.

    Raises:
        FileNotFoundError: There is no such round, or it is not finished.
        ValueError: The file is not what the manifest says was written, or the folder is the
            ``.partial`` one of a round.
    """
    manifest = read_manifest(folder)
    refuse_unfinished(folder)
    path = folder / f"{stage}.jsonl"
    if stage not in manifest["sha256"]:
        raise FileNotFoundError(
            f"{folder} has no rows called '{stage}', but {', '.join(manifest['sha256']) or 'none'}"
        )
    check_round_file(path)
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def check_round_file(path: Path) -> None:
    """Refuse a file of a round that is not what was written; any other file passes.

    Raises:
        ValueError: Its checksum is not the manifest's.
    """
    sha256 = round_manifest(path.parent).get("sha256", {}).get(path.stem)
    if sha256 is not None and file_sha256(path) != sha256:
        raise ValueError(
            f"{path} was changed after it was made (its checksum differs from {MANIFEST}): "
            "restore it, or delete the folder and make the round again"
        )


def read_manifest(folder: Path) -> Row:
    """What the manifest of a round says.

    Raises:
        FileNotFoundError: There is no such round.
        ValueError: The file is there but no manifest of a round.
    """
    path = folder / MANIFEST
    if not path.exists():
        unfinished = folder.with_name(folder.name + ".partial").exists()
        state = (
            "it is not finished: run the command that makes it again"
            if unfinished
            else ("make it first, or correct the path")
        )
        raise FileNotFoundError(f"no round of rows at {folder}: {state}")
    if not (found := round_manifest(folder)):
        raise ValueError(f"{path} is no manifest of a round: name another folder")
    return found


def round_manifest(folder: Path) -> Row:
    """The manifest of a round, finished or not; empty where the folder is that of none.

    A file of the same name may be another program's.
    """
    path = folder / MANIFEST
    found: object = read_json(path) if path.is_file() else None
    return found if isinstance(found, dict) and "settings" in found else {}


def refuse_unfinished(folder: Path) -> None:
    """Refuse a folder in which a round is still being made; any other passes.

    Raises:
        ValueError: It is one.
    """
    found = round_manifest(folder)
    if found and "sha256" not in found:
        raise ValueError(
            f"{folder} holds a round that is not finished: give the command that makes it again, "
            f"with --folder {str(folder).removesuffix('.partial')}"
        )


def check_settings(folder: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to mix rows made in two ways.

    Raises:
        ValueError: Names the first setting that differs, both values and the cure.
    """
    for name, old, new in _differences(there, wanted):
        raise ValueError(
            f"{folder} was made with {name} = {_short(old)}, now it is {_short(new)}: "
            "give the old value, name another folder, or delete this one"
        )


def write_json(path: Path, value: object) -> None:
    """Write JSON so that the file is whole, old or new, at every moment."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(value, file, ensure_ascii=False, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot write {path} ({error.strerror}): free some space and give the same command "
            "again; what was written before is safe",
        ) from error


def read_json(path: Path) -> Row:
    """The JSON object in a file that ``write_json`` wrote.

    Raises:
        ValueError: It is not whole; the file is named.
    """
    try:
        value: Row = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): restore it, or delete {path.parent} and begin anew"
        ) from error
    return value


def _seconds_spent(partial: Path) -> float:
    """Of earlier commands on the same round: from its begin to the last that each wrote."""
    if not (partial / MANIFEST).exists():
        return 0.0
    state = read_manifest(partial)
    started = state.get("started", math.inf)
    last = max(path.stat().st_mtime for path in partial.iterdir())
    return float(state.get("seconds_before", 0.0) + max(0.0, last - started))


def _complete(making: Round, settings: Mapping[str, Any], seconds: float) -> None:
    stages = sorted(path.stem for path in making.folder.glob("*.jsonl"))
    manifest = {
        "settings": settings,
        "rows": {stage: len(making.rows(stage)) for stage in stages},
        "dropped": making.dropped() if DROPPED in stages else {},
        "figures": making.figures,
        "sha256": {stage: file_sha256(making.folder / f"{stage}.jsonl") for stage in stages},
        "seconds": round(seconds, 1),
    }
    write_json(making.folder / MANIFEST, manifest)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{prefix}{name}.")
        elif a != b:
            yield f"{prefix}{name}", a, b


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[:limit] + "..."
