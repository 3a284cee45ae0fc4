"""A refreshed fit by a policy gradient: strategies agree, a killed one goes on, all is logged."""

import json
import math
import shutil
from importlib.util import find_spec

import pytest
import torch
from refreshed_fit import arguments, fit, killed_at, weights
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.slow
STEPS = 16
"""Two rounds of two epochs over 32 samples in steps of 8."""


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    ended = fit(arguments(start, policy_gradient=True), folder)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def logged(whole):
    [version] = (whole / "lightning_logs").iterdir()
    events = EventAccumulator(str(version))
    events.Reload()
    return events


def test_two_rounds_of_two_epochs_are_made_and_their_old_policies_kept(whole):
    rounds = sorted(path.name for path in (whole / "rounds").glob("round-*"))
    assert rounds == ["round-0", "round-1"]
    kept = [load_file(path)["logprobs"] for path in (whole / "policy_logprobs").iterdir()]
    rows = [
        list(map(json.loads, (whole / "rounds" / name / "rows.jsonl").read_text().splitlines()))
        for name in rounds
    ]
    sampled = [sum(len(row["sampler_logprobs"]) for row in made) for made in rows]
    assert sorted(map(len, kept)) == sorted(sampled)


TWO = ("--trainer.devices", "2", "--trainer.strategy")
DEEPSPEED = ("cpu_deepspeed.CPUDeepSpeed", "--trainer.strategy.stage", "3")
ADAPTER = ("--model.adapter.rank", "4", "--model.adapter.alpha", "8")


def assert_same_weights(found, expected):
    of_two, of_one = weights(found), weights(expected)
    assert of_two.keys() == of_one.keys()
    for name, value in of_one.items():
        torch.testing.assert_close(of_two[name], value, atol=1e-4, rtol=1e-3)


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="no deepspeed here")
def test_two_processes_under_deepspeed_end_with_the_weights_of_one(whole, start, tmp_path):
    ended = fit(arguments(start, *TWO, *DEEPSPEED, policy_gradient=True), tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert_same_weights(tmp_path, whole)


def test_of_an_adapter_each_round_is_made_by_the_adapter_as_it_is_sharded_or_not(start, tmp_path):
    for name, more in (("one", ()), ("two", (*TWO, "fsdp2"))):
        given = arguments(start, *ADAPTER, *more, policy_gradient=True)
        ended = fit(given, tmp_path / name)
        assert ended.returncode == 0, ended.stderr
    assert_same_weights(tmp_path / "two", tmp_path / "one")
    manifests = [
        json.loads((tmp_path / "one" / "rounds" / f"round-{n}" / "manifest.json").read_text())
        for n in range(2)
    ]
    policies = {manifest["settings"]["rationale_model"] for manifest in manifests}
    assert len(policies) == 2


def test_on_a_base_of_four_bits_the_engine_is_given_what_the_trainer_computes_with(start, tmp_path):
    given = arguments(start, *ADAPTER, "--model.adapter.base", "nf4", policy_gradient=True)
    ended = fit(given, tmp_path)
    assert ended.returncode == 0, ended.stderr
    rounded = load_file(tmp_path / "rounds" / "base" / "model.safetensors")
    whole = load_file(start / "q" / "weights" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(rounded[name], whole[name])
    settings = json.loads((tmp_path / "weights" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(start / "q" / "weights")
    # a fit on another base in the same folder is served that, not the one that is there
    for folder in (tmp_path / "weights", *(tmp_path / "rounds").glob("round-*")):
        shutil.rmtree(folder)
    other = [*given, "--model.weights", str(start / "p"), "--data.weights", str(start / "p")]
    fit(other, tmp_path)
    anew = load_file(tmp_path / "rounds" / "base" / "model.safetensors")
    assert not torch.equal(rounded[name], anew[name])


def test_a_fit_killed_in_the_second_epoch_of_a_round_ends_with_the_undisturbed_weights(
    start, whole, tmp_path
):
    given = arguments(start, policy_gradient=True)
    killed_at(tmp_path / "progress" / "*step-6.ckpt", given, tmp_path)
    resumed = fit(given, tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    for name, value in weights(whole).items():
        assert torch.equal(weights(tmp_path)[name], value), name


def test_every_step_logs_loss_ratio_divergence_and_entropy(logged):
    for name in ("loss", "ratio", "kl", "entropy", "outside_clip", "sampler_weight"):
        values = [event.value for event in logged.Scalars(f"e_step/{name}")]
        assert len(values) == STEPS, name
        assert all(map(math.isfinite, values))
    ratios = [event.value for event in logged.Scalars("e_step/ratio")]
    assert ratios[0] == pytest.approx(1.0, abs=1e-4)  # the policy that was sampled
    assert ratios[1] != pytest.approx(1.0, abs=1e-6)
    kl = [event.value for event in logged.Scalars("e_step/kl")]
    assert kl[0] == pytest.approx(0.0, abs=1e-4)  # the reference is where it began
    assert kl[-1] > 1e-4


def test_every_round_logs_its_rewards_its_mismatch_and_a_table(logged):
    for name in (
        "round/mean_reward_sampled",
        "round/mean_log_rationale",
        "round/mean_log_problem",
        "round/mean_leak_penalty",
        "round/mean_rationale_tokens",
        "round/export_s",
        "round/make_s",
    ):
        assert len(logged.Scalars(name)) == 2, name
    off = [event.value for event in logged.Scalars("sampler/mean_abs_difference")]
    assert len(off) == 4  # of every epoch, though its rows are the same for two
    assert max(off) < 1e-4  # both are float32 on the CPU
    [first, _] = logged.Tensors("round/rows/text_summary")
    table = first.tensor_proto.string_val[0].decode()
    assert table.startswith("| id | reward | log_rationale | log_problem | leak_penalty |")
    assert len(table.splitlines()) == 2 + 4


def test_speed_memory_and_the_share_of_generating_are_logged(logged):
    assert all(event.value > 0 for event in logged.Scalars("throughput/tokens_per_s"))
    shares = [event.value for event in logged.Scalars("throughput/generating")]
    assert len(shares) == STEPS
    assert all(0 < share < 1 for share in shares)
    assert 0.1 < logged.Scalars("throughput/peak_gib")[-1].value < 24
