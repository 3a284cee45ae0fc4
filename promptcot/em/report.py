"""What a run came to: a table on the terminal, Markdown and TensorBoard in its folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from promptcot.em.points import Point
from promptcot.em.settings import EM
from promptcot.figures import Figures, compared, held_out_figures, improvement
from promptcot.journal import Journal
from promptcot.store import read_manifest, read_round, write_json

COLUMNS = (
    "after",
    "bound of log p(x|c)",
    "gain [95 % interval]",
    "log p(x|z,c)",
    "log p(z|c)",
    "by p's own z",
    "overlap",
    "tokens of z",
    "parsed q, p",
)
NOTE = (
    "Nats on {problems} held-out problems. Bound: per problem, importance-weighted from {samples} "
    "samples of q, ± its standard error over problems; gain: to the row above, paired by problem, "
    "bootstrap with Student's t. The next three: per token, the first two under q's greedy z. "
    "Tokens with tags."
)


def write_report(
    settings: EM,
    points: Sequence[Point],
    best: Point,
    problems: Path | None,
    journal: Journal,
) -> None:
    """Print the closing table and some of the new problems, and write them to the folder."""
    figures = [held_out_figures(point.rows) for point in points]
    table = [_cells(points, figures, index) for index in range(len(points))]
    note = NOTE.format(problems=figures[0].problems, samples=settings.evaluation.num_samples)
    shown = _new_problems(problems, settings.compose.shown)
    closing = _closing(best, problems)
    _print(table, note, shown, closing)
    text = "\n\n".join(
        ["# EM run", markdown(table), note, closing, *shown, "## Seconds per fit", _times(journal)]
    )
    (settings.folder / "report.md").write_text(text + "\n", encoding="utf-8")
    rounds = [{"round": p.round, **f.to_row()} for p, f in zip(points, figures, strict=True)]
    write_json(settings.folder / "figures.json", rounds)
    _write_tensorboard(settings.folder / "tensorboard", rounds)


def in_a_line(point: Point) -> str:
    """The figures that matter most, as soon as they are there."""
    found = held_out_figures(point.rows)
    return (
        f"bound {_number(found.bound, 2)} ± {_number(found.bound_error, 2)} nats per problem"
        f"{_share(found.bounded, found)}, log p(x|z,c) {_number(found.log_problem_per_token, 3)} "
        f"per token, {found.parse_rate:.0%} of rationales parse"
    )


def markdown(table: Sequence[Sequence[str]]) -> str:
    """The table with ``COLUMNS`` as its head."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *table]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def _cells(points: Sequence[Point], figures: Sequence[Figures], index: int) -> list[str]:
    found = figures[index]
    bound = f"{_number(found.bound, 2)} ± {_number(found.bound_error, 2)}"
    return [
        points[index].name,
        bound + _share(found.bounded, found),
        _gain(points[index - 1], points[index]) if index else "",
        _number(found.log_problem_per_token, 3),
        _number(found.log_rationale_per_token, 3),
        f"{_number(found.own_log_problem_per_token, 3)}{_share(found.own_rationales, found)}",
        f"{found.overlap:.1%}",
        _number(found.rationale_tokens, 0),
        f"{found.parse_rate:.0%}, {found.compose_parse_rate:.0%}",
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _share(having: int, found: Figures) -> str:
    return "" if having == found.problems else f" ({having} of {found.problems})"


def _gain(before: Point, after: Point) -> str:
    found = improvement(before.rows, after.rows)
    if found is None:
        return "-"
    mean, (low, high) = found
    having = len(compared(before.rows, after.rows))
    of = "" if having == len(after.rows) else f" ({having} of {len(after.rows)})"
    if low == high:  # a single problem: nothing is known of the spread
        return f"{mean:+.2f}{of}"
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]{of}"


def _new_problems(folder: Path | None, shown: int) -> list[str]:
    if folder is None:
        return []
    rows = read_round(folder)[:shown]
    return [
        f"## New problem {row['id']}\n\n"
        f"Concepts: {'; '.join(row['concepts'])}\n\n{row['statement']}"
        for row in rows
    ]


def _closing(best: Point, problems: Path | None) -> str:
    lines = [
        f"Chosen: after {best.name}, "
        + (
            "whose bound is of the most held-out problems and of those the largest."
            if best.bounded
            else "as no held-out problem ever had a bound."
        ),
        f"Rationale model: {best.rationale_model}",
        f"Prompt model: {best.prompt_model}",
    ]
    if problems is not None:
        manifest = read_manifest(problems)
        dropped = ", ".join(f"{n} {why}" for why, n in manifest["dropped"].items()) or "none"
        sets, each = manifest["figures"]["concept_sets"], manifest["settings"]["sampling"]["n"]
        lines.append(
            f"New problems: {manifest['rows']['rows']} of {sets * each} that were written for "
            f"{sets} concept sets, in {problems / 'rows.jsonl'} (dropped: {dropped})"
        )
    return "\n".join(lines)


def _times(journal: Journal) -> str:
    return "\n".join(f"- {name}: {step['seconds']} s" for name, step in journal.steps.items())


def _print(table: Sequence[Sequence[str]], note: str, shown: Sequence[str], closing: str) -> None:
    from rich.console import Console
    from rich.table import Table

    drawn = Table(*COLUMNS)
    for row in table:
        drawn.add_row(*row)
    console = Console(width=None if Console().is_terminal else 140)
    as_it_is = partial(console.print, markup=False, highlight=False, emoji=False, soft_wrap=True)
    for text in shown:
        as_it_is(f"{text}\n")
    console.print(drawn)
    as_it_is(note)
    as_it_is(closing)


def _write_tensorboard(folder: Path, rounds: Sequence[dict[str, Any]]) -> None:
    from tensorboard.summary import Writer

    shutil.rmtree(folder, ignore_errors=True)  # else a rerun would add the same points again
    writer = Writer(str(folder))
    for figures in rounds:
        for name, value in figures.items():
            if name != "round" and value is not None:
                writer.add_scalar(f"held_out/{name}", value, figures["round"])
    writer.close()
