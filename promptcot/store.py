"""Rounds on disk: folders of JSONL that appear whole or not at all.

While a round is being made it lies in ``NAME.partial``: finished rows are appended one at a
time, each under a key that hashes what made it, and a rerun goes on after the last whole line.
When it is done it gets a manifest with counts and checksums and is renamed to ``NAME``.
"""

from __future__ import annotations

import json
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
            check_settings(folder, read_manifest(folder)["settings"], wanted)
            yield None
            return
        if (partial / MANIFEST).exists():
            check_settings(partial, read_manifest(partial)["settings"], wanted)
        partial.mkdir(parents=True, exist_ok=True)
        write_json(partial / MANIFEST, {"settings": wanted})
        making = Round(partial)
        stack.callback(making.close)
        started = time.time()
        yield making
        making.sync()
        _complete(making, wanted, started)
        _sync_folder(partial)  # else a power cut could leave a round without one of its files
        os.replace(partial, folder)
        _sync_folder(folder.parent)


def read_round(folder: Path, stage: str = ROWS) -> list[Row]:
    """All rows of a whole round.

    Raises:
        FileNotFoundError: There is no such round, or it is not finished.
        ValueError: The file is not what the manifest says was written.
    """
    manifest = read_manifest(folder)
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
    if not (path.parent / MANIFEST).is_file():
        return
    sha256 = read_manifest(path.parent).get("sha256", {}).get(path.stem)
    if sha256 is not None and file_sha256(path) != sha256:
        raise ValueError(
            f"{path} was changed after it was made (its checksum differs from {MANIFEST}): "
            "restore it, or delete the folder and make the round again"
        )


def read_manifest(folder: Path) -> Row:
    """What the manifest of a round says.

    Raises:
        FileNotFoundError: There is no such round.
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
    return read_json(path)


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


def _complete(making: Round, settings: Mapping[str, Any], started: float) -> None:
    stages = sorted(path.stem for path in making.folder.glob("*.jsonl"))
    manifest = {
        "settings": settings,
        "rows": {stage: len(making.rows(stage)) for stage in stages},
        "dropped": making.dropped() if DROPPED in stages else {},
        "figures": making.figures,
        "sha256": {stage: file_sha256(making.folder / f"{stage}.jsonl") for stage in stages},
        "seconds": round(time.time() - started, 1),
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
