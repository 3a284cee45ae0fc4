"""A recipe, and how a round is made by one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from promptcot.corpora import Seeds
from promptcot.fingerprints import fingerprint
from promptcot.protocols import ScoreRequest
from promptcot.records import Problem
from promptcot.stage_rows import Row
from promptcot.store import ROWS, Round, open_round, read_manifest

COPY = "exact copy of another row"


@runtime_checkable
class Recipe(Protocol):
    """Makes a round of rows from weights and rows: a dataclass of all that decides them."""

    def settings(self) -> dict[str, Any]:
        """What the manifest records, and what must be equal for a partial round to go on."""
        ...

    def make(self, making: Round) -> None:
        """Append the rows, drop with a reason what cannot be used, note the figures.

        Called again after a crash, it asks only for what is not on disk yet.
        """
        ...


@runtime_checkable
class PolicyRecipe(Protocol):
    """Makes rounds with a model that is being trained."""

    def of_policy(self, weights: str, number: int) -> Recipe:
        """The recipe of one round.

        Args:
            weights: Folder of the weights as they are now.
            number: Of the round; each draws anew.
        """
        ...

    def probes(self) -> list[ScoreRequest]:
        """A few short sequences on which trainer and engine are compared after each export.

        The nearer to what is trained, the smaller the update that shows on them.
        """
        ...


@runtime_checkable
class Hardening(Protocol):
    """A recipe of rounds that can be made harder, when the policy solves too much of them."""

    def harder(self, steps: int, rounds: Sequence[Path]) -> PolicyRecipe:
        """The recipe at a raised temperature, without what earlier rounds solved in all attempts.

        Args:
            steps: How much harder than this recipe, from 1 on.
            rounds: Folders of the whole rounds before the one that is to be made, in order. Where
                each takes a part of a corpus, the last alone says nothing of the next one's.
        """
        ...


def make_round(recipe: Recipe, folder: Path) -> Row:
    """Make the round ``folder``, go on with it, or find it whole; returns its manifest.

    Raises:
        ValueError: No row was left, or the folder was made with other settings.
    """
    with open_round(folder, recipe.settings()) as making:
        if making is not None:
            recipe.make(making)
            if not making.rows(ROWS):
                raise ValueError(
                    f"no row is left for {folder}, dropped were {_counts(making.dropped())}: "
                    "check the input, the sampling's max_tokens and the model; to begin anew, "
                    f"delete {making.folder}"
                )
    manifest = read_manifest(folder)
    sys.stderr.write(f"{folder}: {manifest['rows'].get(ROWS, 0)} rows{_tail(manifest)}\n")
    if figures := _figures(manifest["figures"]):
        sys.stderr.write(f"  {figures}\n")
    return manifest


def seeds_fingerprint(seeds: Seeds) -> str:
    """Names the rows of a corpus by their content."""
    return fingerprint([problem.to_row() for problem in seeds.problems], seeds.rationales)


def drop_copies(making: Round, copies: Sequence[str]) -> None:
    """Count the rows of a corpus that are in no round because they are copies of others."""
    for number, copy in enumerate(copies):
        making.drop(f"copy-{number}", COPY, id=copy)


def with_concepts(making: Round, seeds: Seeds) -> dict[str, Problem]:
    """The problems that have concepts, by key; the others are dropped and counted."""
    drop_copies(making, seeds.copies)
    keyed = {fingerprint(problem.to_row()): problem for problem in seeds.problems}
    for key, problem in keyed.items():
        if not problem.concepts:
            making.drop(key, "no concepts", id=problem.id)
    return {key: problem for key, problem in keyed.items() if problem.concepts}


def _counts(dropped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "none"


def _tail(manifest: Row) -> str:
    return f" (dropped: {_counts(manifest['dropped'])})" if manifest["dropped"] else ""


def _figures(figures: Row) -> str:
    """Those that are numbers, on one line."""
    numbers = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    return ", ".join(f"{name} {value:.6g}" for name, value in numbers.items())
