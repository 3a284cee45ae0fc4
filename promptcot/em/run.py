"""The steps of a run as child processes: each an ordinary command that anyone can run alone."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from promptcot.adapters import is_adapter
from promptcot.children import run_child
from promptcot.configs import to_config
from promptcot.corpora import Corpus
from promptcot.em.settings import EM
from promptcot.fingerprints import file_sha256, weights_fingerprint
from promptcot.journal import Journal
from promptcot.recipes import Recipe
from promptcot.store import MANIFEST, check_settings, read_json, read_manifest, write_json

RESOURCES = frozenset(
    [
        "accelerator",
        "devices",
        "num_nodes",
        "strategy",
        "logger",
        "log_every_n_steps",
        "default_root_dir",
        "enable_progress_bar",
        "enable_model_summary",
        "enable_checkpointing",
    ]
)
"""Keys of the trainer that may change within a run."""
WRITING = frozenset(["ExportWeights", "SaveProgress", "Throughput", "WritePredictions"])
"""Callbacks that may change too: nothing that is learned depends on them."""
OWN_FLAGS = (
    "seed_everything",
    "model.weights",
    "data.weights",
    "data.corpus",
    "data.format",
    "data.seed",
    "trainer.default_root_dir",
)
"""Settings of a fit that ``em`` gives itself."""


@dataclass(frozen=True, slots=True)
class Run:
    """Where a run's steps are done.

    Args:
        settings: Of the run.
        cli: Path of ``cli.py``.
        lock: Open file that holds the run's lock; the children inherit it, so that the folder is
            free only when they are gone too.
        journal: The fits that are done; rounds tell it themselves.
    """

    settings: EM
    cli: Path
    lock: int
    journal: Journal = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "journal", Journal(self.folder / "journal.json"))

    @property
    def folder(self) -> Path:
        """Of the run."""
        return self.settings.folder

    def make(self, name: str, recipe: Recipe) -> Path:
        """Make a round by ``cli.py make``, unless it is there; returns its folder."""
        folder = self.folder / name
        if (folder / MANIFEST).exists():
            check_settings(folder, read_manifest(folder)["settings"], recipe.settings())
            return folder
        config = self._write_config(name, to_config(recipe))
        command = recipe.settings()["recipe"]
        self._run(name, ["make", command, "--config", str(config), "--folder", str(folder)])
        return folder

    def fit(self, name: str, configs: Sequence[str], weights: str, rows: Path, seed: int) -> str:
        """Train by ``cli.py fit``, unless it is done; returns the folder of the new weights."""
        folder = self.folder / name
        settings = {
            "config": [[path, _deciding(read_yaml(path))] for path in configs],
            "flags": _without_resources(self.settings.fits.flags, "trainer."),
            "format": self.settings.format.to_row(),
            "weights": weights_fingerprint(weights),
            "rows": file_sha256(rows),
            "seed": seed,
        }
        if self._is_fitted(name, settings):
            return str(folder / "weights")
        given = {
            "seed_everything": seed,
            "model.weights": weights,
            "data.weights": weights,
            "data.corpus": to_config(Corpus(str(rows))),
            "data.format": to_config(self.settings.format),
            "data.seed": seed,
            "trainer.default_root_dir": str(folder),
        }
        assert tuple(given) == OWN_FLAGS
        given |= self.settings.fits.flags
        start = time.monotonic()
        arguments = [argument for path in configs for argument in ("--config", path)]
        self._run(
            name, ["fit", *arguments, *(f"--{key}={_argument(v)}" for key, v in given.items())]
        )
        self.journal.record(name, settings, time.monotonic() - start)
        return str(folder / "weights")

    def _is_fitted(self, name: str, settings: Mapping[str, Any]) -> bool:
        """Whether the weights of a fit are there; else the folder is marked as this fit's.

        The weights appear whole and the progress goes after them, so that a fit whose process was
        killed before the journal knew is not repeated.
        """
        folder = self.folder / name
        weights, progress = folder / "weights", folder / "progress"
        if self.journal.is_done(name, settings):
            return has_weights(weights)
        mark, wanted = folder / "fit.json", json.loads(json.dumps(settings, default=str))
        marked = mark.exists() and read_json(mark) == wanted
        if marked and has_weights(weights) and not progress.exists():
            took = weights.stat().st_mtime - mark.stat().st_mtime
            self.journal.record(name, settings, max(0.0, took))
            return True
        if marked and has_weights(weights):
            return False
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(weights, ignore_errors=True)
        if not marked:  # progress of another fit, perhaps from other weights in the same folder
            shutil.rmtree(progress, ignore_errors=True)
            write_json(mark, wanted)
        return False

    def _run(self, name: str, arguments: Sequence[str]) -> None:
        words = name.replace("/", ", ").replace("_", " ")
        sys.stderr.write(f"\n== {words}\n")
        try:
            run_child([sys.executable, str(self.cli), *arguments], self.lock)
        except ChildProcessError as error:
            raise ChildProcessError(
                f"{words}: {error}. All that is done stays: mend it, and give the same command"
            ) from None

    def _write_config(self, name: str, config: Mapping[str, Any]) -> Path:
        path = self.folder / "steps" / f"{name.replace('/', '-')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        return path


def has_weights(folder: Path) -> bool:
    """Whether a whole model or an adapter is in a folder."""
    return is_adapter(str(folder)) or (folder / "config.json").exists()


def refuse_own_flags(flags: Mapping[str, Any]) -> None:
    """Refuse to have a fit given what ``em`` sets itself.

    Raises:
        ValueError: A flag is one of these.
    """
    for name in flags:
        if any(name == own or name.startswith(f"{own}.") for own in OWN_FLAGS):
            raise ValueError(f"fits.flags has {name}, which em sets itself: leave it out")


def _deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**config, "trainer": _without_resources(config.get("trainer", {}))}


def _without_resources(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Without what says how much of the machine a fit takes, shows or writes, not what it learns.

    Args:
        settings: Of the trainer, or with names that begin with the prefix.
        prefix: Of the trainer's.
    """
    kept = {key: v for key, v in settings.items() if key.removeprefix(prefix) not in RESOURCES}
    name = f"{prefix}callbacks"
    if isinstance(listed := kept.pop(name, None), list):
        listed = [callback for callback in listed if not _only_writes(callback)]
    return {**kept, name: listed} if listed else kept


def _only_writes(callback: object) -> bool:
    path = callback.get("class_path") if isinstance(callback, dict) else callback
    return isinstance(path, str) and path.removeprefix("callbacks.") in WRITING


def _argument(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def read_yaml(path: str) -> Any:  # noqa: ANN401
    """What a YAML file of a fit says.

    Raises:
        FileNotFoundError: It cannot be read.
        ValueError: It is no configuration of a fit.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise ValueError(f"the fit's configuration {path} is no YAML: {said}") from None
    except OSError as error:
        raise FileNotFoundError(
            f"the fit's configuration {path} cannot be read ({error.strerror}): correct its path "
            "in `fits`"
        ) from None
    if not isinstance(found, dict) or not isinstance(found.get("trainer", {}), dict):
        raise ValueError(
            f"the fit's configuration {path} does not hold settings by their names, with those of "
            "the trainer below `trainer`: correct it, or its path in `fits`"
        )
    return found
