"""What all commands share: parsers whose errors help, and the light commands ``make`` and ``em``.

Nothing here imports torch or Lightning, so that ``--help`` answers at once.
"""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse

from promptcot.em import EM, run_em
from promptcot.recipes import (
    Annotate,
    Compose,
    Distill,
    Evaluate,
    HeldOut,
    LabelProblems,
    Rationales,
    Recipe,
    Rollouts,
    SelfPlay,
    make_round,
)

RECIPES: dict[str, type[Any]] = {
    "annotate": Annotate,
    "rationales": Rationales,
    "rollouts": Rollouts,
    "compose": Compose,
    "held_out": HeldOut,
    "label": LabelProblems,
    "self_play": SelfPlay,
    "evaluate": Evaluate,
    "distill": Distill,
}
ROOMS = ("callbacks", "datamodules", "modules", "promptcot.engines", "torch.optim", "verify")
"""Where the classes that a YAML names live."""

_KEY = re.compile(r"--([\w.]+)|(?:[Kk]ey|[Oo]ption) ['\"]([\w.]+)['\"]")


class HelpfulErrors:
    """A parser that takes no abbreviation and names the nearest key when one is unknown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        if "did you mean" not in message:  # said already, by the parser of a class's own keys
            nearest = suggestion(message, _own_keys(self))  # before those of other classes
            message += nearest or suggestion(message, known_keys(self))
        if not self.exit_on_error:  # type: ignore[attr-defined]
            super().error(message, ex)  # type: ignore[misc]
        sys.stderr.write(f"error: {message}\nsee {self.prog} --help\n")  # type: ignore[attr-defined]
        sys.exit(2)


class Parser(HelpfulErrors, jsonargparse.ArgumentParser):
    """Of the light commands."""


def known_keys(parser: Any) -> set[str]:  # noqa: ANN401
    """What can be a key: the parser's own, and the parameters of classes that a YAML names."""
    return _own_keys(parser).union(*(inspect.signature(c).parameters for c in _loaded_classes()))


def suggestion(message: str, known: set[str]) -> str:
    """The nearest known key for a message about an unknown one; empty where there is none."""
    names = {key.rpartition(".")[2] for key in known}
    for flag, quoted in _KEY.findall(message):
        key = flag or quoted
        last = key.rpartition(".")[2]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.75)
        near = near or difflib.get_close_matches(last, names, n=1)
        if near and near[0] not in {key, last}:
            return f" (did you mean '{near[0]}'?)"
    return ""


def make_command(args: Sequence[str]) -> None:
    """``cli.py make RECIPE``: weights and rows in, a round of rows out."""
    parser = Parser(prog="cli.py make", description=make_command.__doc__)
    commands = parser.add_subcommands(required=True, dest="recipe")
    for name, kind in RECIPES.items():
        command = Parser(description=inspect.getdoc(kind))
        _add_config(command)
        command.add_argument(
            "--folder", type=Path, required=True, help="Where the round will be; it can go on."
        )
        command.add_class_arguments(kind)
        commands.add_subcommand(name, command, help=(inspect.getdoc(kind) or "").split("\n")[0])
    given = parser.parse_args(list(args))
    built = parser.instantiate(given)[given.recipe]
    chosen = RECIPES[given.recipe]
    recipe: Recipe = chosen(**{f.name: built[f.name] for f in fields(chosen)})
    make_round(recipe, built.folder)


def em_command(args: Sequence[str], cli: Path) -> None:
    """``cli.py em``: cold start, rounds of E-step and M-step, new problems."""
    parser = Parser(prog="cli.py em", description=em_command.__doc__)
    _add_config(parser)
    parser.add_class_arguments(EM)
    built = parser.instantiate(parser.parse_args(list(args)))
    run_em(EM(**{f.name: built[f.name] for f in fields(EM)}), cli)


def _add_config(parser: jsonargparse.ArgumentParser) -> None:
    action: Any = jsonargparse.ActionConfigFile  # type: ignore[attr-defined]
    parser.add_argument("-c", "--config", action=action, help="A YAML file; several add up.")


def _own_keys(parser: Any) -> set[str]:  # noqa: ANN401
    keys = {action.dest for action in parser._actions}
    for action in parser._actions:
        if isinstance(action.choices, Mapping):  # subcommands
            keys = keys.union(*map(_own_keys, action.choices.values()))
    return keys


def _loaded_classes() -> Iterator[type[Any]]:
    for room in ROOMS:
        for value in vars(sys.modules.get(room, object)).values():
            if isinstance(value, type):
                try:
                    inspect.signature(value)
                except ValueError:  # built in C
                    continue
                yield value


class AddingConfigFile(jsonargparse.ActionConfigFile):  # type: ignore[name-defined, misc]
    """``--config`` for Lightning: the callbacks of several files add up.

    A callback of a class that an earlier file names too replaces that one, and so does everything
    else that a later file says.
    """

    @staticmethod
    def apply_config(parser: Any, cfg: Any, dest: str, value: Any) -> None:  # noqa: ANN401
        """Merge a file into what is there."""
        before = _callbacks(cfg)
        jsonargparse.ActionConfigFile.apply_config(parser, cfg, dest, value)  # type: ignore[attr-defined]
        after = _callbacks(cfg)
        if before and after[: len(before)] != before:
            named = [callback["class_path"] for callback in after]
            kept = [callback for callback in before if callback["class_path"] not in named]
            cfg["trainer.callbacks"] = [*kept, *after]


def _callbacks(cfg: Any) -> list[Any]:  # noqa: ANN401
    found = cfg.get("trainer.callbacks")
    return list(found) if isinstance(found, list | tuple) else []
