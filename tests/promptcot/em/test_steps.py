"""What a run does with its fits, when it stops, what it chooses and how it tells; no model."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from promptcot.corpora import Corpus
from promptcot.em.loop import best_of, check_settings, has_stalled, move_aside
from promptcot.em.points import Point
from promptcot.em.report import COLUMNS, write_report
from promptcot.em.run import OWN_FLAGS, Run
from promptcot.em.settings import EM, Composition, Evaluation, Fits, MStep
from promptcot.engines import ScriptedEngine
from promptcot.journal import Journal
from promptcot.locks import folder_lock
from promptcot.protocols import Sampling
from promptcot.recipes import Compose
from promptcot.store import open_round, read_round

FIT = '''
"""Notes that it was called; leaves weights, or with a file "die" beside it dies before."""
import json, os, sys
from pathlib import Path
given = dict(a.removeprefix("--").split("=", 1) for a in sys.argv[2:] if "=" in a)
folder = Path(given["trainer.default_root_dir"])
with open("calls", "a") as file:
    file.write(folder.name + "\\n")
(folder / "progress").mkdir(parents=True, exist_ok=True)
if os.path.exists("die"):
    sys.exit(1)
(folder / "weights").mkdir()
(folder / "weights" / os.environ["CONFIG"]).write_text("{}")
(folder / "progress").rmdir()
'''
ROW = {
    "bound": -10.0,
    "effective_samples": 2.0,
    "log_problem": -5.0,
    "log_rationale": -6.0,
    "own_log_problem": -7.0,
    "problem_tokens": 5,
    "rationale_tokens": 3,
    "overlap": 0.25,
    "longest_run": 3,
    "flaw": None,
    "compose_flaw": None,
}


def point(number, bounds):
    rows = [{**ROW, "id": str(name), "bound": bound} for name, bound in enumerate(bounds)]
    return Point(number, f"q-{number}", f"p-{number}", rows)


# ----------------------------------------------------------------------- fits


@pytest.fixture
def fitted(tmp_path, monkeypatch):
    """Runs a fit of the settings as a command of the above; returns how many have run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cli.py").write_text(FIT)
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "config.json").write_text("{}")

    def fitted(config="config.json", configs=("a.yaml",), **flags):
        monkeypatch.setenv("CONFIG", config)
        settings = EM(folder=tmp_path / "run", weights="start", fits=Fits(flags=flags))
        with folder_lock(settings.folder) as lock:
            run = Run(settings, tmp_path / "cli.py", lock)
            run.fit("round-0/q", configs, "start", Path("rows.jsonl"), 1)
        return (tmp_path / "calls").read_text().count("q")

    (tmp_path / "a.yaml").write_text("{trainer: {max_epochs: 1}}")
    (tmp_path / "b.yaml").write_text("{trainer: {max_epochs: 2}}")
    return fitted


@pytest.mark.parametrize("config", ["config.json", "adapter_config.json"])
def test_a_fit_that_is_done_is_not_repeated_be_it_of_a_model_or_an_adapter(fitted, config):
    assert [fitted(config) for _ in range(3)] == [1, 1, 1]


def test_progress_of_other_start_weights_is_not_gone_on_with(fitted, tmp_path):
    (tmp_path / "die").touch()
    with pytest.raises(ChildProcessError):
        fitted()
    progress = tmp_path / "run" / "round-0" / "q" / "progress"
    (progress / "latest.json").touch()
    with pytest.raises(ChildProcessError):
        fitted()
    assert (progress / "latest.json").exists()  # the same fit goes on
    (tmp_path / "start" / "config.json").write_text('{"other": 1}')
    with pytest.raises(ChildProcessError):
        fitted()
    assert not (progress / "latest.json").exists()


def test_the_order_of_the_files_decides(fitted):
    fitted(configs=("a.yaml", "b.yaml"))
    with pytest.raises(ValueError, match=r"was made with round-0/q\.config"):
        fitted(configs=("b.yaml", "a.yaml"))


def callbacks(*names, **more):
    return [{"class_path": f"callbacks.{name}", **more} for name in names]


def test_callbacks_decide_but_for_those_that_only_write(fitted, tmp_path):
    refreshing = callbacks("RefreshTrainingSet", init_args={"every_n_epochs": 1})

    def with_callbacks(listed):
        (tmp_path / "a.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": listed}}))
        return fitted(**{"trainer.devices": len(listed)})

    assert with_callbacks([*callbacks("ExportWeights"), *refreshing]) == 1
    assert with_callbacks([*callbacks("SaveProgress", "Throughput"), *refreshing]) == 1
    assert with_callbacks(["ExportWeights", *refreshing]) == 1
    refreshing[0]["init_args"]["every_n_epochs"] = 2
    with pytest.raises(ValueError, match=r"was made with round-0/q\.config"):
        with_callbacks(refreshing)


def test_callbacks_that_only_write_are_as_none(fitted, tmp_path):
    assert fitted() == 1
    listed = callbacks("ExportWeights", "SaveProgress")
    (tmp_path / "a.yaml").write_text(
        yaml.safe_dump({"trainer": {"max_epochs": 1, "callbacks": listed}})
    )
    assert fitted() == 1
    assert fitted(**{"trainer.callbacks": listed}) == 1
    with pytest.raises(ValueError, match=r"was made with round-0/q\.flags"):
        fitted(**{"trainer.callbacks": callbacks("CollapseAlarms")})


def test_a_fit_that_ended_before_its_run_knew_has_its_seconds(fitted, tmp_path):
    fitted()
    journal = tmp_path / "run" / "journal.json"
    journal.unlink()
    assert fitted() == 1
    assert json.loads(journal.read_text())["round-0/q"]["seconds"] >= 0


# ----------------------------------------------------------------------- settings


@pytest.mark.parametrize("flag", [*OWN_FLAGS, "data.corpus.path"])
def test_what_em_sets_itself_cannot_be_a_flag(tiny_model, flag):
    settings = EM(weights=str(tiny_model), fits=Fits(flags={flag: "other"}))
    with pytest.raises(ValueError, match=f"fits.flags has {flag}, which em sets itself"):
        check_settings(settings)


@pytest.mark.parametrize("text", ["", "[1]", "text", "{trainer: null}", "{trainer: [1]}", "{"])
def test_a_file_that_is_no_configuration_of_a_fit_is_named_first(tiny_model, tmp_path, text):
    (tmp_path / "fit.yaml").write_text(text)
    settings = EM(weights=str(tiny_model), fits=Fits(m_step=[str(tmp_path / "fit.yaml")]))
    with pytest.raises(ValueError, match=r"the fit's configuration .*fit.yaml "):
        check_settings(settings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"held_out": float("inf")}, "held_out=inf: it is a share"),
        ({"held_out": -0.1}, "held_out=-0.1: it is a share"),
        ({"min_improvement": float("nan")}, "min_improvement=nan"),
        ({"rounds": -1}, "rounds=-1"),
        ({"m_step": MStep(Sampling(n=2))}, "sampling n=2 rationales needs a prompt model"),
        ({"compose": Composition(shown=-1)}, r"compose.shown=-1"),
        ({"compose": Composition(num_concepts=0)}, "num_concepts=0"),
        ({"compose": Composition(concept_temperature=-1.0)}, "concept_temperature=-1.0"),
        ({"evaluation": Evaluation(max_tokens=0)}, "max_tokens=0"),
        ({"evaluation": Evaluation(compose_max_tokens=-5)}, "max_tokens=-5"),
    ],
)
def test_what_cannot_work_is_told_before_the_first_step(tiny_model, changes, said):
    with pytest.raises(ValueError, match=said):
        check_settings(replace(EM(weights=str(tiny_model)), **changes))


# ----------------------------------------------------------------------- rounds


@pytest.mark.parametrize(
    ("before", "after", "stalled"),
    [
        ([-10.0, -12.0], [-9.0, -11.0], ""),  # a gain of 1, 0.11 are asked for
        ([-10.0, -12.0], [-9.95, -11.95], "gained 0.05 nats per problem, less than 0.11"),
        ([-10.0, -12.0], [-11.0, -13.0], "gained -1.00 nats per problem, less than 0.11"),
        ([-10.0, None], [-11.0, -90.0], ""),  # one more has a bound
        ([-10.0, -12.0], [-1.0, None], "1 held-out problems have a bound, 2 had one before"),
        ([None, None], [None, None], ""),
    ],
)
def test_a_run_stops_by_the_order_in_which_it_chooses(before, after, stalled, capsys):
    points = [point(0, before), point(1, after)]
    assert has_stalled(points, 0.01) == bool(stalled)
    assert stalled in capsys.readouterr().err
    if stalled:
        assert best_of(points) is points[0] or "gained 0.05" in stalled
    assert not has_stalled(points[:1], 0.01)


def test_the_chosen_point_has_a_bound_of_the_most_problems_and_the_largest():
    cold, few, best, same = (
        point(n, bounds)
        for n, bounds in enumerate([[-9.0, -9.0], [-1.0, None], [-8.0, -8.0], [-8.0, -8.0]])
    )
    assert best_of([cold, few, best, same]) is best


def test_problems_of_the_model_chosen_before_are_kept(tmp_path):
    folder = tmp_path / "problems"
    first, second = (
        Compose(name, Corpus("bundled"), engine=ScriptedEngine) for name in ("p-1", "p-2")
    )
    for recipe in (first, second, first, second):
        move_aside(folder, recipe)
        if not folder.exists():
            with open_round(folder, recipe.settings()) as making:
                making.append("rows", "a", {"by": recipe.prompt_model})
        assert read_round(folder)[0]["by"] == recipe.prompt_model
    assert len(list(tmp_path.glob("problems*"))) == 2


def reported(settings, points, problems=None):
    settings.folder.mkdir(exist_ok=True)
    best = best_of(points)
    write_report(settings, points, best, problems, Journal(settings.folder / "journal.json"))
    return (settings.folder / "report.md").read_text()


def test_the_table_has_each_figure_below_its_name(tmp_path):
    settings = EM(folder=tmp_path / "run")
    text = reported(settings, [point(0, [-10.0, -12.0, None]), point(1, [-8.0, -11.0, -3.0])])
    lines = [
        [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in text.splitlines()
        if line.startswith("|")
    ]
    assert tuple(lines[0]) == COLUMNS
    cold, after = (dict(zip(COLUMNS, line, strict=True)) for line in lines[2:])
    assert cold["bound of log p(x|c)"] == "-11.00 ± 1.00 (2 of 3)"
    assert after["after"] == "round 1"
    # gains 2 and 1 of the two that have both, and 12.706 / 1.96 * sqrt(2) times 0.5 on both sides
    assert after["gain [95 % interval]"] == "+1.50 [-3.08, +6.08] (2 of 3)"
    assert (after["log p(x|z,c)"], after["log p(z|c)"]) == ("-1.000", "-2.000")
    assert (after["by p's own z"], after["overlap"]) == ("-1.400", "25.0%")
    assert "Chosen: after round 1, whose bound is of the most held-out problems" in text
    rounds = json.loads((settings.folder / "figures.json").read_text())
    assert [found["round"] for found in rounds] == [0, 1]
    events = settings.folder / "tensorboard"
    before = {path.name for path in events.iterdir()}
    reported(settings, [point(0, [-10.0, None, None])])
    assert before.isdisjoint(path.name for path in events.iterdir())  # no point of before is left


def test_no_bound_at_all_is_told(tmp_path):
    text = reported(EM(folder=tmp_path / "run"), [point(0, [None, None])])
    assert "Chosen: after the cold start, as no held-out problem ever had a bound." in text


def test_new_problems_are_shown_as_they_are_and_counted_by_what_was_written(tmp_path, capsys):
    folder = tmp_path / "run" / "problems"
    statement = "The ratio 1:100:3, and :x: [b]bold[/b] " + "word " * 60
    with open_round(folder, {"sampling": {"n": 4}}) as making:
        making.append("rows", "a", {"id": "n", "concepts": ["k"], "statement": statement})
        making.figures = {"concept_sets": 3}
    reported(EM(folder=tmp_path / "run"), [point(0, [-1.0])], folder)
    said = capsys.readouterr().out
    assert statement in said
    assert "New problems: 1 of 12 that were written for 3 concept sets, in " in said
    assert f"{folder / 'rows.jsonl'} (dropped: none)" in said
