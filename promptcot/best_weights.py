"""The weights of the best round so far, kept on disk; a crash at any moment loses none."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from promptcot.store import read_json, write_json

RECORD = "round.json"
"""In the folder, so that weights and what is said of them are renamed together."""


class BestWeights:
    """A folder of weights that is replaced only by those of a round with a larger pass rate.

    Args:
        folder: Where they lie; ``.next`` and ``.old`` beside it are there only during the exchange.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._next = folder.with_name(folder.name + ".next")
        self._old = folder.with_name(folder.name + ".old")

    def offer(self, weights: Path, number: int, pass_rate: float) -> None:
        """Take the folder of round ``number`` away if it is better; what a crash left is finished.

        It may be gone, where it was offered before.
        """
        self._finish()
        best = self.pass_rate
        if weights.exists() and (best is None or pass_rate > best):
            write_json(weights / RECORD, {"round": number, "pass_rate": pass_rate})
            os.replace(weights, self._next)
            self._finish()

    @property
    def pass_rate(self) -> float | None:
        """Of the round whose weights are kept; None where there are none."""
        path = self.folder / RECORD
        return float(read_json(path)["pass_rate"]) if path.exists() else None

    def __str__(self) -> str:
        if self.pass_rate is None:
            return "no round's weights are kept, since none tells its pass rate"
        kept = read_json(self.folder / RECORD)
        return (
            f"the best round so far is {kept['round']}, of whose attempts "
            f"{kept['pass_rate']:.1%} passed; the weights that made it are kept in {self.folder}"
        )

    def _finish(self) -> None:
        if self._next.exists():  # whole, since it was renamed
            shutil.rmtree(self._old, ignore_errors=True)
            if self.folder.exists():
                os.replace(self.folder, self._old)
            os.replace(self._next, self.folder)
        shutil.rmtree(self._old, ignore_errors=True)
