"""What became of the rows of a source: nothing is left out unseen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from promptcot.chats import UnusableRow

SHOWN = 3
"""Rows of one kind that a message names."""


@dataclass
class Tally:
    """Counts of a source's rows.

    Args:
        path: Of the source.
        limit: Tokens of the longest sequence.
    """

    path: str
    limit: int
    rows: int = 0
    sequences: int = 0
    too_long: int = 0
    cut: int = 0
    unusable: Counter[str] = field(default_factory=Counter)
    """By reason."""
    firsts: dict[str, list[str]] = field(default_factory=dict)
    """Of each kind the first rows."""

    def note_unusable(self, error: UnusableRow) -> None:
        """Count a row that nothing can be learned from."""
        self.unusable[error.reason] += 1
        self._show(error.reason, str(error))

    def note_long(self, place: str, is_cut: bool) -> None:
        """Count a sequence that is too long, and was cut or dropped."""
        self.too_long += not is_cut
        self.cut += is_cut
        self._show("long", place)

    def counts(self) -> dict[str, int]:
        """For the logs, under names without blanks."""
        found = {
            "rows": self.rows,
            "sequences": self.sequences,
            "rows_too_long": self.too_long,
            "rows_cut": self.cut,
            "rows_unusable": self.unusable.total(),
        }
        reasons = {f"unusable_{r.replace(' ', '_')}": n for r, n in self.unusable.items()}
        return {**found, **reasons}

    def conclude(self, max_unusable: float) -> list[str]:
        """Sentences on what was left out.

        Args:
            max_unusable: Share of the rows.

        Raises:
            ValueError: Nothing is left, or more than that share cannot be used.
        """
        said = [
            f"{count} of {self.rows} rows of {self.path} have nothing to learn from "
            f"({reason}): {'; '.join(self.firsts[reason])}"
            for reason, count in self.unusable.most_common()
        ]
        if long := self.too_long + self.cut:
            done = "cut" if self.cut else "left out"
            said.append(
                f"{long} of {self.rows} rows are longer than {self.limit} tokens and were {done}: "
                f"{', '.join(self.firsts['long'])}"
            )
        if self.unusable.total() > max_unusable * self.rows:
            raise ValueError(
                f"{'; '.join(said)}. That is more than data.max_unusable={max_unusable} of them: "
                "mend or delete these rows, or raise it"
            )
        if not self.sequences:
            why = f" ({'; '.join(said)})" if said else ""
            raise ValueError(
                f"the corpus {self.path} has no row to train on{why}: give rows with messages, or "
                "with a problem and its solution (python cli.py make distill), or raise max_tokens"
            )
        return said

    def _show(self, kind: str, what: str) -> None:
        shown = self.firsts.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(what)
