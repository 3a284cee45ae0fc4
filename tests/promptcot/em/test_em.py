"""Whole runs of ``em`` as a user starts them: real processes, a tiny model, kill -9."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest
from tiny_run import CHECKOUT, command, files_of, write_run

# More threads than a model of two layers can use would only wait for each other.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def run(*arguments, timeout=300):
    return subprocess.run(
        command(*arguments),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder of a run that nothing interrupted, and what it printed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    ended = run("em", "--config", str(write_run(folder)))
    assert ended.returncode == 0, ended.stderr
    return folder / "run", ended


def test_a_run_ends_with_its_table_its_models_and_new_problems(undisturbed):
    folder, ended = undisturbed
    found = files_of(folder)
    assert [figures["round"] for figures in found["figures"]] == [0, 1]
    assert "the cold start" in ended.stdout
    assert "round 1" in ended.stdout
    assert found["problems/rows.jsonl"]
    new = next(iter(found["problems/rows.jsonl"].values()))
    assert new["statement"] in ended.stdout
    for name in ("rationale_model", "prompt_model"):
        assert (folder / "round-1" / name / "weights" / "config.json").exists()


def test_held_out_problems_are_in_no_row_that_is_trained_on(undisturbed):
    found = files_of(undisturbed[0])
    held_out = {row["statement"] for row in found["seeds/held_out.jsonl"].values()}
    assert len(held_out) == 3
    for name in ("seeds/train.jsonl", "round-1/e_step/rows.jsonl", "round-1/m_step/rows.jsonl"):
        assert found[name]
        assert held_out.isdisjoint(row["statement"] for row in found[name].values())


def test_a_run_that_is_over_does_nothing_more(undisturbed):
    folder, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    again = run("em", "--config", str(folder.parent / "em.yaml"))
    assert again.returncode == 0
    assert "==" not in again.stderr  # no step was begun
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")} == before


def test_another_setting_in_the_same_folder_is_refused_by_name(undisturbed):
    folder, _ = undisturbed
    ended = run("em", "--config", str(folder.parent / "em.yaml"), "--evaluation.num_samples", "2")
    assert ended.returncode == 2
    assert "was made with num_samples = 3, now it is 2" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_fit_that_ended_before_its_run_knew_is_not_repeated(undisturbed, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(undisturbed[0], folder)
    config = str(undisturbed[0].parent / "em.yaml")
    journal = json.loads((folder / "journal.json").read_text())
    last = journal.pop("round-1/prompt_model")
    (folder / "journal.json").write_text(json.dumps(journal))
    again = run("em", "--config", config, "--folder", str(folder))
    assert again.returncode == 0, again.stderr
    assert "==" not in again.stderr
    # Devices and what is shown may change, what is learned may not.
    assert run("em", "--config", config, "--fits.flags", '{"trainer.devices": 1}').returncode == 0
    other = run("em", "--config", config, "--fits.flags", '{"trainer.max_epochs": 1}')
    assert other.returncode == 2
    assert "trainer.max_epochs = None, now it is 1" in other.stderr
    assert last["settings"]["flags"] == {}


def test_killed_at_ten_random_points_it_ends_as_if_undisturbed(undisturbed, tmp_path):
    config = str(write_run(tmp_path))
    flags = [f"--fits.{name}+={tmp_path / 'save.yaml'}" for name in ("e_step", "m_step")]
    chance = random.Random(7)
    kills = 0
    while kills < 10:
        process = subprocess.Popen(
            command("em", "--config", config, *flags),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=ENVIRONMENT,
        )
        try:
            process.wait(chance.uniform(1.0, 12.0))
            break  # it was over before the blow
        except subprocess.TimeoutExpired:
            # One time the parent alone, whose children must follow it, one time all at once.
            kill = os.kill if kills % 2 else os.killpg
            kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills == 10, "the run was over too soon: nothing was shown"
    ended = run("em", "--config", config, *flags)
    assert ended.returncode == 0, ended.stderr
    disturbed, calm = files_of(tmp_path / "run"), files_of(undisturbed[0])
    assert disturbed.keys() == calm.keys()
    for name, content in calm.items():
        assert disturbed[name] == content, name


def test_a_second_run_on_the_same_folder_is_refused(tmp_path):
    config = str(write_run(tmp_path))
    first = subprocess.Popen(
        command("em", "--config", config),
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=ENVIRONMENT,
    )
    try:
        while not (tmp_path / "run" / "seeds").exists():
            time.sleep(0.1)
        second = run("em", "--config", config)
        assert second.returncode == 2
        assert "is in use by process" in second.stderr
    finally:
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
