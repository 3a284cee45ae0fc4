"""Settings as plain values: what a YAML file holds, and what a manifest records of a making."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any


def to_config(value: Any, *, deciding: bool = False) -> Any:  # noqa: ANN401
    """A value as dicts, lists, texts and numbers from which jsonargparse builds it again.

    A class to be called later, or a ``partial`` of one, becomes its ``class_path`` and all its
    ``init_args``, those left at their defaults included. An object that is called itself names
    what makes it as ``MADE_BY``, and as ``DECIDED_BY`` the argument that it keeps.

    Args:
        value: A dataclass of such values, say.
        deciding: Leave out what a class lists in ``RESOURCES``: how much of the machine it takes
            and where it asks, which do not decide what it answers; and for an object that is called
            itself put that argument.
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_config(getattr(value, f.name), deciding=deciding) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_config(item, deciding=deciding) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_config(item, deciding=deciding) for item in value]
    if isinstance(value, str | Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if callable(value):
        return _opener_config(value, deciding=deciding)
    raise TypeError(f"{value!r} is no setting: it cannot be written to a YAML file")


def _opener_config(opener: Any, *, deciding: bool) -> Any:  # noqa: ANN401
    if isinstance(opener, partial | type) or inspect.isroutine(opener):
        return _class_config(opener, deciding=deciding)
    if not (name := getattr(opener, "DECIDED_BY", "")):
        raise TypeError(f"{opener!r} is no setting: it opens no class that YAML could name")
    decisive = to_config(getattr(opener, name), deciding=deciding)
    return decisive if deciding else {"class_path": opener.MADE_BY, "init_args": {name: decisive}}


def _class_config(opener: Callable[..., Any], *, deciding: bool) -> dict[str, Any]:
    given: Mapping[str, Any] = {}
    if isinstance(opener, partial):
        given = opener.keywords
        # jsonargparse writes partial(instantiator, class, ...), Python users partial(class, ...)
        parts = (*opener.args, opener.func)
        opener = next((part for part in parts if isinstance(part, type)), opener)
    if isinstance(opener, partial):
        raise TypeError(f"{opener!r} is no setting: it opens no class that YAML could name")
    left_out: set[str] = set(getattr(opener, "RESOURCES", ())) if deciding else set()
    parameters = inspect.signature(opener).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    # What engines are opened on, the caller gives.
    init_args = {n: v for n, v in {**defaults, **given}.items() if n not in left_out | {"weights"}}
    return {
        "class_path": f"{opener.__module__}.{opener.__qualname__}",
        "init_args": to_config(init_args, deciding=deciding),
    }
