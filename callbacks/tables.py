"""Rows as a table in Markdown, which TensorBoard shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "id",
    "reward",
    "log_rationale",
    "log_problem",
    "leak_penalty",
    "concepts",
    "rationale",
    "statement",
)
"""Fields that are shown, in this order, where a row has them."""
WIDTH = 600
"""Characters of a cell."""


def markdown_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = COLUMNS) -> str:
    """A table of the columns that a row has; long texts end in an ellipsis."""
    shown = [name for name in columns if any(name in row for row in rows)]
    lines = [shown, ["---"] * len(shown)]
    lines += [[_cell(row.get(name)) for name in shown] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.1f}"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if len(text) > WIDTH:
        text = text[: WIDTH - 1] + "…"
    # markup of theirs would break the table, or be shown as a page's own
    for mark, instead in (("&", "&amp;"), ("<", "&lt;"), ("|", "&#124;"), ("\n", "<br>")):
        text = text.replace(mark, instead)
    return text
