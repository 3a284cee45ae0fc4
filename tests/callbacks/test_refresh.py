"""A training set made inside the fit: the same rounds and weights however often it is cut off."""

import json
import shutil

import pytest
import torch
from refreshed_fit import EPOCHS, SHARDED, arguments, fit, killed_at, weights

pytestmark = pytest.mark.slow


def rounds(folder):
    """Problem and rationale of each row of each round."""
    found = []
    for number in range(EPOCHS):
        lines = (folder / "rounds" / f"round-{number}" / "rows.jsonl").read_text().splitlines()
        made = [json.loads(line) for line in lines]
        found.append([(row["id"], row["rationale"]) for row in made])
    return found


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
    killed_at(tmp_path / "rounds" / moment, arguments(start, *SHARDED), tmp_path)
    resumed = fit(arguments(start, *SHARDED), tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert rounds(tmp_path) == rounds(sharded)
    found = weights(tmp_path)
    for name, value in weights(sharded).items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("flag", "value", "refused"),
    [
        ("recipe.sampling.temperature", "2.0", "recipe.sampling.temperature = 0.5, now it is 2.0"),
        ("every_n_epochs", "2", "every_n_epochs = 1, now it is 2"),
    ],
)
def test_an_interrupted_fit_does_not_go_on_with_rounds_of_another_making(
    start, tmp_path, flag, value, refused
):
    killed_at(tmp_path / "rounds" / "round-1", arguments(start), tmp_path)
    ended = fit(arguments(start, f"--trainer.callbacks.{flag}", value), tmp_path)
    assert ended.returncode == 2
    assert f"the interrupted fit was made with {refused}" in ended.stderr


def test_a_round_that_fails_on_rank_0_is_one_error_of_every_rank(start, tmp_path):
    more = ("--trainer.strategy", "ddp", "--trainer.devices", "2")
    ended = fit(arguments(start, *more, max_tokens=1), tmp_path)
    assert ended.returncode == 2
    assert "round 0 of the training set was not made: ValueError: no row is left" in ended.stderr
    assert "8 no usable rationale" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_round_may_take_longer_than_any_other_collective(start, tmp_path):
    hasty = ("modules.strategies.FSDP2Strategy", "--trainer.strategy.timeout", "0:00:12")
    more = ("--trainer.max_epochs", "1", "--trainer.devices", "2", "--trainer.strategy", *hasty)
    # a round takes 16 seconds; the ranks meet under the same time-out, however busy the machine is
    ended = fit(arguments(start, *more, engine="slow_engine.SlowEngine"), tmp_path)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("flag", "value", "refused"),
    [
        ("--model.optimizer.lr", "1e-3", "round-1 was made with rationale_model"),
        ("--trainer.callbacks.recipe.sampling.n", "3", "round-0 was made with sampling.n = 2"),
    ],
)
def test_rounds_that_an_earlier_fit_in_the_folder_made_otherwise_are_refused(
    whole, start, tmp_path, flag, value, refused
):
    shutil.copytree(whole / "rounds", tmp_path / "rounds")
    ended = fit(arguments(start, flag, value), tmp_path)
    assert ended.returncode == 2
    assert refused in ended.stderr
    assert not list((tmp_path / "rounds").glob("checked-*"))


def test_the_same_fit_once_more_takes_the_rounds_that_are_there(whole, start, tmp_path):
    shutil.copytree(whole / "rounds", tmp_path / "rounds")
    ended = fit(arguments(start), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "sampled rationales" not in ended.stderr
    found = weights(tmp_path)
    for name, value in weights(whole).items():
        assert torch.equal(found[name], value), name
    assert not list((tmp_path / "rounds").glob("checked-*"))


def test_without_reloading_it_is_said_what_to_set(start, tmp_path):
    ended = fit(arguments(start, "--trainer.reload_dataloaders_every_n_epochs", "0"), tmp_path)
    assert ended.returncode == 2
    assert "reload_dataloaders_every_n_epochs is 0: set it to 1" in ended.stderr
