"""The EM figure's points of all seeds in one JSON file, and the figure drawn from that file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from promptcot.metrics import standard_error
from promptcot.store import read_json, write_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABELS = {
    "e_step": "with E-step",
    "policy_gradient": "E-step by policy gradient",
    "fixed": "rationales sampled once",
    "none": "without rationale",
}
COLOURS = {"e_step": "#1b6ca8", "fixed": "#d9822b", "none": "#5b6770", "policy_gradient": "#7a3e9d"}
PANELS = {
    "nll": "$-\\log p(x\\,|\\,c)$: bound with rationale, exact without",
    "nll_given_rationale": "$-\\log p(x\\,|\\,z,c)$, $z$ written greedily by $q$",
}
OTHER_NLLS = ("nll_given_own_rationale", "rationale_nll")

Row = dict[str, Any]


def collect(folder: Path, output: Path) -> Row:
    """Write ``em_figure.json``: the points of every seed, and their means over seeds.

    Raises:
        FileNotFoundError: There are no points yet.
    """
    files = [read_json(path) for path in sorted((folder / "points").glob("seed-*.json"))]
    if not files:
        raise FileNotFoundError(f"{folder}/points is empty: `run` comes first")
    arms: dict[str, dict[str, list[Row]]] = {}
    for file in files:
        arms.setdefault(file["arm"], {})[str(file["seed"])] = file["points"]
    collected = {
        "settings": files[0]["settings"],
        "over_seeds": {arm: over_seeds(list(seeds.values())) for arm, seeds in arms.items()},
        "differences": differences(arms),
        "seeds": {
            arm: {seed: [without_values(p) for p in points] for seed, points in seeds.items()}
            for arm, seeds in arms.items()
        },
    }
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "em_figure.json", collected)
    return collected


def without_values(point: Row) -> Row:
    """A point without what it has for each problem."""
    return {name: value for name, value in point.items() if name != "values"}


def differences(arms: Mapping[str, Mapping[str, Sequence[Row]]]) -> list[Row]:
    """For every two arms and round, how much larger the first one's ``nll`` is, by problem.

    The same problem's values are averaged over the seeds that both arms have, then the mean over
    problems and its standard error are taken of the differences: how hard each problem is, which
    varies far more than the arms, falls out. Nats per problem.
    """
    return [
        {"first": first, "second": second, **point}
        for first, second in combinations(arms, 2)
        for point in _paired(arms[first], arms[second])
    ]


def _paired(first: Mapping[str, Sequence[Row]], second: Mapping[str, Sequence[Row]]) -> list[Row]:
    pairs = [list(zip(first[seed], second[seed], strict=False)) for seed in first if seed in second]
    rows = []
    for points in zip(*pairs, strict=False):  # one pair a seed
        by_problem: dict[str, list[float]] = {}
        for a, b in points:
            for name in a["values"].keys() & b["values"].keys():
                by_problem.setdefault(name, []).append(a["values"][name] - b["values"][name])
        means = [fmean(values) for _, values in sorted(by_problem.items())]
        rows.append(
            {
                "steps": points[0][0]["steps"],
                "seeds": len(points),
                "problems": len(means),
                "nll": fmean(means),
                "error": standard_error(means),
            }
        )
    return rows


def over_seeds(seeds: Sequence[Sequence[Row]]) -> list[Row]:
    """Mean, least and largest over the seeds that have a point, point by point."""
    rounds = range(max(map(len, seeds)))
    return [
        _over([points[number] for points in seeds if number < len(points)]) for number in rounds
    ]


def _over(points: Sequence[Row]) -> Row:
    found: Row = {"steps": points[0]["steps"], "seeds": len(points)}
    for name in (*PANELS, *OTHER_NLLS):
        having = [point[name] for point in points if point.get(name)]
        for unit in ("per_problem", "per_token") if having else ():
            values = [nll[unit] for nll in having]
            error = fmean(nll[f"{unit}_error"] for nll in having)
            spread = {"mean": fmean(values), "min": min(values), "max": max(values)}
            found.setdefault(name, {})[unit] = {**spread, "error_over_problems": error}
    for name in ("overlap", "longest_run", "rationale_tokens", "parse_rate", "compose_parse_rate"):
        if points[0].get(name) is not None:
            found[name] = fmean(point[name] for point in points)
    return found


def plot(collected: Mapping[str, Any], output: Path, unit: str = "per_token") -> None:
    """Write ``em_figure.svg`` and ``.png``: a panel a quantity, a line an arm, a band its seeds."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": "em_figure", "font.size": 9})
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(PANELS), figsize=(9, 3.6), layout="constrained")
    for axes, (name, title) in zip(panels, PANELS.items(), strict=True):
        for arm, points in collected["over_seeds"].items():
            # without a rationale both quantities are the same
            _draw(axes, arm, points, "nll" if arm == "none" else name, unit)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("optimizer steps of the prompt model")
        axes.set_ylabel(f"nats {unit.replace('_', ' ')} of held-out problems")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 160})):
        figure.savefig(output / f"em_figure.{kind}", **options)
    pyplot.close(figure)


def _draw(axes: Axes, arm: str, points: Sequence[Row], name: str, unit: str) -> None:
    having = [point for point in points if name in point]
    if not having:
        return
    steps = [point["steps"] for point in having]
    mean, least, largest = (
        [point[name][unit][key] for point in having] for key in ("mean", "min", "max")
    )
    colour = COLOURS.get(arm)
    axes.plot(steps, mean, marker="o", markersize=3.5, color=colour, label=LABELS.get(arm, arm))
    axes.fill_between(steps, least, largest, color=colour, alpha=0.18, linewidth=0)
