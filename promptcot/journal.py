"""Which steps of a run of several steps are done; what ``em`` resumes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from promptcot.store import check_settings, read_json, write_json


class Journal:
    """A small JSON file, replaced whole: the settings and duration of every step that ended.

    Args:
        path: Where it lies; made with the first entry.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps: dict[str, dict[str, Any]] = read_json(path) if path.exists() else {}

    def is_done(self, step: str, settings: Mapping[str, Any]) -> bool:
        """Whether the step ended in an earlier run.

        Raises:
            ValueError: It did, but with other settings than it would be run with now.
        """
        if step not in self.steps:
            return False
        wanted = json.loads(json.dumps(settings, default=str))
        check_settings(self.path.parent, {step: self.steps[step]["settings"]}, {step: wanted})
        return True

    def record(self, step: str, settings: Mapping[str, Any], seconds: float) -> None:
        """Note that the step ended."""
        plain = json.loads(json.dumps(settings, default=str))
        self.steps[step] = {"seconds": round(seconds, 1), "settings": plain}
        write_json(self.path, self.steps)
