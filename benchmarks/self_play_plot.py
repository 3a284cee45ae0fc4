"""The self-play experiment's numbers in one JSON object, and the figure drawn from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from promptcot.metrics import bootstrap_interval
from promptcot.store import MANIFEST, ROWS, read_json, read_manifest, read_round

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {
    "self_play": "self-play (DPO on verified pairs)",
    "shuffled": "the same pairs, chosen by lot",
    "sft_right": "SFT on the right ones",
}
COLOURS = {"self_play": "#1b6ca8", "shuffled": "#5b6770", "sft_right": "#d9822b"}
WATCHED = {
    "answer_entropy": "entropy of the answers to a problem (nats)",
    "distinct_4": "distinct 4-grams of the rollouts",
}
"""What the alarms of collapse watch, of each round's rollouts."""

Row = dict[str, Any]


def collect(folder: Path) -> Row:
    """The points of every seed and arm, and their means over seeds.

    Raises:
        FileNotFoundError: Nothing is evaluated yet.
    """
    seeds = sorted(folder.glob("seed-*"))
    evaluated = [seed for seed in seeds if (seed / "evaluations" / "warm_up" / MANIFEST).exists()]
    if not evaluated:
        raise FileNotFoundError(f"{folder} has no evaluation: `prepare` and `run` come first")
    found = {seed.name.removeprefix("seed-"): of_seed(seed) for seed in evaluated}
    return {
        "settings": read_json(evaluated[0] / "settings.json"),
        "machine": read_json(evaluated[0] / "machine.json"),
        "over_seeds": over_seeds([seed["arms"] for seed in found.values()]),
        "seeds": found,
    }


def of_seed(folder: Path) -> Row:
    """Warm-up, points by arm, the rounds' figures, and what each step took."""
    warm_up = folder / "evaluations" / "warm_up"
    arms = {name: points(folder, name, warm_up) for name in LABELS}
    with open(folder / "steps.jsonl", encoding="utf-8") as file:
        steps = [json.loads(line) for line in file]
    return {
        "warm_up": point(warm_up),
        "arms": {name: some for name, some in arms.items() if len(some) > 1},
        "rounds": {name: list(rounds(folder / name / "rounds")) for name in LABELS},
        "steps": steps,
    }


def points(folder: Path, arm: str, warm_up: Path) -> list[Row]:
    """Of the warm-up model, then after each round that is evaluated."""
    found = [{"round": 0, **point(warm_up)}]
    number = 1
    while (evaluation := folder / "evaluations" / arm / f"round-{number}").exists():
        found.append({"round": number, **point(evaluation), "gain": gain(evaluation, warm_up)})
        number += 1
    return found


def point(evaluation: Path) -> Row:
    """The figures of an evaluation."""
    manifest = read_manifest(evaluation)
    return {**manifest["figures"], "problems": manifest["rows"][ROWS]}


def gain(evaluation: Path, before: Path) -> Row:
    """By how much pass@1 is larger, with its interval, paired by problem."""
    rates = [
        {row["id"]: row["passed"] / row["attempts"] for row in read_round(folder)}
        for folder in (evaluation, before)
    ]
    differences = [rates[0][name] - rates[1][name] for name in sorted(rates[0])]
    low, high = bootstrap_interval(differences)
    return {"pass_at_1": fmean(differences), "low": low, "high": high}


def rounds(folder: Path) -> Iterator[Row]:
    """What the manifests of an arm's rounds tell."""
    number = 0
    while (folder / f"round-{number}" / MANIFEST).exists():
        manifest = read_manifest(folder / f"round-{number}")
        told = {"rows": manifest["rows"][ROWS], "dropped": manifest["dropped"]}
        yield {"round": number, **manifest["figures"], **told, "seconds": manifest["seconds"]}
        number += 1


def over_seeds(seeds: Sequence[Mapping[str, Sequence[Row]]]) -> dict[str, list[Row]]:
    """Mean, least and largest pass@1 and gain of the seeds that have a point."""
    found: dict[str, list[Row]] = {}
    for arm in LABELS:
        having = [seed[arm] for seed in seeds if arm in seed]
        for number in range(max(map(len, having), default=0)):
            some = [points[number] for points in having if number < len(points)]
            row: Row = {"round": number, "seeds": len(some)}
            row["pass_at_1"] = spread([point["pass_at_1"] for point in some])
            if number:
                row["gain"] = spread([point["gain"]["pass_at_1"] for point in some])
            found.setdefault(arm, []).append(row)
    return found


def spread(values: Sequence[float]) -> Row:
    """Mean, least and largest."""
    return {"mean": fmean(values), "min": min(values), "max": max(values)}


def plot(collected: Mapping[str, Any], output: Path) -> None:
    """Write ``self_play.svg``: pass@1 by round, and what the alarms watch."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": "self_play", "font.size": 9})
    from matplotlib import pyplot

    width = 4 + 3 * len(WATCHED)
    figure, (first, *others) = pyplot.subplots(
        1, 1 + len(WATCHED), figsize=(width, 3.6), layout="constrained"
    )
    for arm, label in LABELS.items():
        seeds = [seed["arms"][arm] for seed in collected["seeds"].values() if arm in seed["arms"]]
        _draw_pass_rates(first, arm, label, seeds)
        made = [seed["rounds"][arm] for seed in collected["seeds"].values()]
        for axes, name in zip(others, WATCHED, strict=True):
            for some in made:
                _line(axes, arm, [row["round"] for row in some], [row[name] for row in some])
    first.set_ylabel("pass@1 on held-out problems")
    first.set_ylim(bottom=0)
    if first.lines:
        first.legend(frameon=False)
    for axes, title in zip(others, WATCHED.values(), strict=True):
        axes.set_title(title, fontsize=9)
    first.set_title("bars: 95 % intervals over problems", fontsize=9)
    for axes in (first, *others):
        axes.set_xlabel("round" if axes is not first else "rounds trained on")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(output / "self_play.svg", metadata={"Date": None})
    pyplot.close(figure)


def _draw_pass_rates(axes: Axes, arm: str, label: str, seeds: Sequence[Sequence[Row]]) -> None:
    """A thin line with intervals for each seed, a thick one for their mean."""
    for points in seeds:
        numbers, rates = [p["round"] for p in points], [p["pass_at_1"] for p in points]
        _line(axes, arm, numbers, rates)
        below = [p["pass_at_1"] - p["pass_at_1_low"] for p in points]
        above = [p["pass_at_1_high"] - p["pass_at_1"] for p in points]
        style = {"fmt": "none", "ecolor": COLOURS[arm], "elinewidth": 0.8, "capsize": 2}
        axes.errorbar(numbers, rates, yerr=[below, above], alpha=0.6, **style)
    if seeds:
        whole = range(min(map(len, seeds)))
        means = [fmean(points[number]["pass_at_1"] for points in seeds) for number in whole]
        axes.plot(list(whole), means, color=COLOURS[arm], linewidth=2.2, label=label)


def _line(axes: Axes, arm: str, numbers: Sequence[int], values: Sequence[float]) -> None:
    axes.plot(numbers, values, color=COLOURS[arm], linewidth=0.8, marker="o", markersize=2.5)
