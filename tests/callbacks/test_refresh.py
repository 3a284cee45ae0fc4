"""A training set made inside the fit: the same rounds and weights however often it is cut off."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tiny import save_tiny_model
from tiny_run import CHECKOUT, FIT, FORMAT, rows, write_jsonl

pytestmark = pytest.mark.slow
EPOCHS = 3


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A rationale model that writes rationales, the prompt model, and the corpus."""
    folder = tmp_path_factory.mktemp("start")
    save_tiny_model(folder / "p")
    write_jsonl(folder / "rows.jsonl", rows(8))
    overlay = folder / "cold.yaml"
    overlay.write_text(yaml.safe_dump(FIT))
    given = [*data_flags(folder / "p", folder), "--config", str(overlay)]
    given += ["--data.corpus.path", str(folder / "rows.jsonl")]
    ended = fit(["--config", "configs/cold_start_q.yaml", *given], folder / "q")
    assert ended.returncode == 0, ended.stderr
    return folder


def data_flags(weights, folder):
    return [
        *("--model.weights", str(weights), "--data.weights", str(weights)),
        *("--data.format", json.dumps(FORMAT)),
    ]


def arguments(start, *more, max_tokens=24):
    """Of a fit whose training set is refreshed before every epoch."""
    recipe = {
        "class_path": "promptcot.recipes.Rationales",
        "init_args": {
            "prompt_model": str(start / "p"),
            "corpus": {"path": str(start / "rows.jsonl")},
            "sampling": {"n": 2, "temperature": 0.5, "max_tokens": max_tokens},
            "format": FORMAT,
            "engine": {
                "class_path": "promptcot.engines.HFEngine",
                "init_args": {"dtype": "float32", "device": "cpu"},
            },
        },
    }
    overlay = start / f"online-{max_tokens}.yaml"
    trainer = {
        **FIT["trainer"],
        "max_epochs": EPOCHS,
        "accumulate_grad_batches": 1,
        "callbacks": [
            {"class_path": "callbacks.RefreshTrainingSet", "init_args": {"recipe": recipe}}
        ],
    }
    overlay.write_text(yaml.safe_dump({**FIT, "trainer": trainer}))
    configs = ("configs/e_step.yaml", "configs/refresh/e_step.yaml", str(overlay))
    named = [part for config in configs for part in ("--config", config)]
    return [*named, *data_flags(start / "q" / "weights", start), *more]


def command(given, folder):
    return [sys.executable, "cli.py", "fit", *given, "--trainer.default_root_dir", str(folder)]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def fit(given, folder):
    return subprocess.run(
        command(given, folder),
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )


def rounds(folder):
    """Problem and rationale of each row of each round."""
    found = []
    for number in range(EPOCHS):
        lines = (folder / "rounds" / f"round-{number}" / "rows.jsonl").read_text().splitlines()
        made = [json.loads(line) for line in lines]
        found.append([(row["id"], row["rationale"]) for row in made])
    return found


def weights(folder):
    return load_file(folder / "weights" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    ended = fit(arguments(start), folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_each_epoch_trains_on_a_round_of_the_policy_before_it(whole, start):
    made = rounds(whole)
    assert all(made)
    assert made[0] != made[1]  # each round draws anew
    manifests = [
        json.loads((whole / "rounds" / f"round-{n}" / "manifest.json").read_text())
        for n in range(EPOCHS)
    ]
    policies = [manifest["settings"]["rationale_model"] for manifest in manifests]
    assert len(set(policies)) == EPOCHS
    assert len({manifest["settings"]["prompt_model"] for manifest in manifests}) == 1
    assert not list((whole / "rounds").glob("weights-*"))


SHARDED = ("--trainer.strategy", "fsdp2", "--trainer.devices", "2")


@pytest.fixture(scope="module")
def sharded(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    ended = fit(arguments(start, *SHARDED), folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def assert_as_one(found, whole):
    assert rounds(found) == rounds(whole)
    of_two = weights(found)
    for name, value in weights(whole).items():
        torch.testing.assert_close(of_two[name], value, atol=2e-5, rtol=1e-4)


def test_two_sharded_processes_make_the_rounds_and_the_weights_of_one(whole, sharded):
    assert_as_one(sharded, whole)


def test_two_processes_that_hold_all_the_weights_do_too(whole, start, tmp_path):
    ended = fit(arguments(start, "--trainer.strategy", "ddp", "--trainer.devices", "2"), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert_as_one(tmp_path, whole)


@pytest.mark.parametrize("moment", ["round-1.partial", "round-1", "round-2.partial/rewards.jsonl"])
def test_a_fit_that_was_killed_in_any_phase_ends_with_the_undisturbed_weights(
    sharded, start, tmp_path, moment
):
    with subprocess.Popen(
        command(arguments(start, *SHARDED), tmp_path),
        cwd=CHECKOUT,
        env=ENVIRONMENT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as child:
        while not (tmp_path / "rounds" / moment).exists():
            assert child.poll() is None
            time.sleep(0.002)
        os.killpg(child.pid, signal.SIGKILL)
    resumed = fit(arguments(start, *SHARDED), tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert rounds(tmp_path) == rounds(sharded)
    found = weights(tmp_path)
    for name, value in weights(sharded).items():
        assert torch.equal(found[name], value), name


def test_a_round_that_fails_on_rank_0_is_one_error_of_every_rank(start, tmp_path):
    more = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    ended = fit(arguments(start, *more, max_tokens=1), tmp_path)
    assert ended.returncode == 2
    assert "round 0 of the training set was not made: ValueError: no row is left" in ended.stderr
    assert "8 no usable rationale" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_reloading_it_is_said_what_to_set(start, tmp_path):
    ended = fit(arguments(start, "--trainer.reload_dataloaders_every_n_epochs", "0"), tmp_path)
    assert ended.returncode == 2
    assert "reload_dataloaders_every_n_epochs is 0: set it to 1" in ended.stderr
