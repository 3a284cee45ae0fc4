"""Self-play in one fit: verified pairs, kills, two processes, separate steps, programs."""

import json
from functools import partial

import pytest
import torch
import yaml
from lightning.pytorch import seed_everything
from quiet_fit import quiet_trainer
from refreshed_fit import SHARDED, fit, killed_at, weights
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import save_tiny_model
from tiny_run import FIT, write_jsonl

from callbacks import ExportWeights
from datamodules import SolutionDataModule
from modules import SFTModule
from promptcot.command_line import make_command
from promptcot.corpora import Corpus
from promptcot.fingerprints import weights_fingerprint
from promptcot.prompts import PromptFormat
from promptcot.store import read_manifest, read_round

pytestmark = pytest.mark.slow
ENGINE = {
    "class_path": "promptcot.engines.HFEngine",
    "init_args": {"dtype": "float32", "device": "cpu"},
}
ROUNDS = 2


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A policy that boxes or prints some digit, and problems that a digit solves."""
    folder = tmp_path_factory.mktemp("start")
    save_tiny_model(folder / "base")
    templates = folder / "templates"
    templates.mkdir()
    (templates / "solve_math.txt").write_text("$statement\n")
    (templates / "solve_code.txt").write_text("$statement\n")
    problems = [
        {"id": f"p{n}", "statement": f"digit {n}?", "reference": str(2 + n % 8)} for n in range(16)
    ]
    programs = [
        {
            "id": f"c{n}",
            "domain": "code",
            "statement": f"print {n}",
            "reference": json.dumps([{"stdin": "", "stdout": str(n % 4)}]),
        }
        for n in range(8)
    ]
    write_jsonl(folder / "problems.jsonl", problems)
    write_jsonl(folder / "programs.jsonl", programs)
    traces = [
        {**problem, "solution": f"\\boxed{{{2 + (n + k) % 8}}}"}
        for k in range(3)
        for n, problem in enumerate(problems)
    ]
    traces += [
        {**program, "solution": f"```\nprint({(n + k) % 4})\n```"}
        for k in range(3)
        for n, program in enumerate(programs)
    ]
    write_jsonl(folder / "traces.jsonl", traces)
    warm_up(folder)
    return folder


def warm_up(folder):
    """Have the model learn the form of solutions, and of their digits only which there are."""
    seed_everything(42)
    module = SFTModule(str(folder / "base"), partial(torch.optim.AdamW, lr=1e-2))
    data = SolutionDataModule(
        str(folder / "base"),
        Corpus(str(folder / "traces.jsonl")),
        chat=False,
        format=PromptFormat(folder / "templates"),
        batch_size=12,
    )
    trainer = quiet_trainer(
        folder / "warm",
        max_epochs=30,
        enable_checkpointing=False,
        callbacks=[ExportWeights()],
    )
    trainer.fit(module, data)


def model_flags(model, folder):
    form = json.dumps({"templates": str(folder / "templates")})
    return [
        *("--model.weights", str(model), "--data.weights", str(model)),
        *("--data.format", form, "--data.chat", "false"),
    ]


def recipe(start):
    return {
        "verifier": {"class_path": "verify.ByDomain", "init_args": {"num_workers": 1}},
        "corpus": {"path": str(start / "problems.jsonl")},
        "sampling": {"n": 8, "temperature": 1.0, "max_tokens": 16},
        "format": {"templates": str(start / "templates")},
        "engine": ENGINE,
    }


def arguments(start, *more):
    """Of a fit by self-play that begins with the warmed-up policy."""
    settings = {**FIT, "trainer": {**FIT["trainer"]}}
    settings["model"] = {
        "init_args": {
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
            # as it is in the first round, then falling
            "schedule": {"shape": "wsd", "warmup": 0.0, "decay": 0.5},
        }
    }
    settings["data"] = {"init_args": {"batch_size": 4}}
    made = {"class_path": "promptcot.recipes.SelfPlay", "init_args": recipe(start)}
    settings["trainer"] |= {
        "max_epochs": ROUNDS,
        "logger": True,
        "callbacks": [
            {
                "class_path": "callbacks.RefreshTrainingSet",
                "init_args": {"recipe": made, "max_difference": 1e-3},
            }
        ],
    }
    (start / "self_play.yaml").write_text(yaml.safe_dump(settings))
    configs = ("configs/dpo.yaml", "configs/refresh/self_play.yaml", str(start / "self_play.yaml"))
    named = [part for config in configs for part in ("--config", config)]
    return [*named, *model_flags(start / "warm" / "weights", start), *more]


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    ended = fit(arguments(start), folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_each_round_is_made_by_the_policy_as_it_is_and_counts_all_problems(whole):
    for number in range(ROUNDS):
        folder = whole / "rounds" / f"round-{number}"
        manifest = read_manifest(folder)
        figures = manifest["figures"]
        assert figures["attempts"] == 16 * 8
        assert figures["problems_kept"] + sum(manifest["dropped"].values()) == 16
        assert 0 < figures["pass_rate"] < 1
        assert read_round(folder, "attempts")
        [reference] = (folder / "reference_logprobs").iterdir()
        assert reference.suffix == ".safetensors"
    policies = {
        read_manifest(whole / "rounds" / f"round-{n}")["settings"]["policy"] for n in range(ROUNDS)
    }
    assert len(policies) == ROUNDS


def test_losses_figures_and_alarms_are_logged(whole):
    [version] = (whole / "lightning_logs").iterdir()
    events = EventAccumulator(str(version))
    events.Reload()
    losses = [event.value for event in events.Scalars("dpo/preference")]
    assert losses[0] == pytest.approx(0.6931472, abs=1e-4)  # the reference is the policy
    for name in ("dpo/accuracy", "dpo/rate", "dpo/chosen_log_ratio", "round/pass_rate"):
        assert events.Scalars(name), name
    assert len(events.Scalars("round/pass_rate")) == ROUNDS
    assert len(events.Scalars("alarms/mostly_solved")) == ROUNDS
    assert any(tag.startswith("round/dropped_") for tag in events.Tags()["scalars"])


def test_a_fit_killed_between_two_steps_of_a_round_ends_with_the_undisturbed_weights(
    start, whole, tmp_path
):
    killed_at(tmp_path / "progress" / "*step-4*", arguments(start), tmp_path)
    resumed = fit(arguments(start), tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    for name, value in weights(whole).items():
        assert torch.equal(weights(tmp_path)[name], value), name


def test_two_processes_end_with_the_weights_of_one(start, whole, tmp_path):
    ended = fit(arguments(start, *SHARDED), tmp_path)
    assert ended.returncode == 0, ended.stderr
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(tmp_path)[name], value, atol=1e-4, rtol=1e-3)


def test_making_and_training_apart_give_the_same_rows_and_weights(start, whole, tmp_path):
    policy = start / "warm" / "weights"
    settings = tmp_path / "make.yaml"
    settings.write_text(yaml.safe_dump({**recipe(start), "policy": str(policy)}))
    given = ["--config", str(settings), "--folder", str(tmp_path / "r")]
    make_command(["self_play", *given])
    first = whole / "rounds" / "round-0" / "rows.jsonl"
    rows = tmp_path / "r" / "rows.jsonl"
    assert rows.read_bytes() == first.read_bytes()
    overlay = tmp_path / "fit.yaml"
    single = yaml.safe_load((start / "self_play.yaml").read_text())
    del single["trainer"]["callbacks"]
    overlay.write_text(yaml.safe_dump(single))
    given = ["--config", "configs/dpo.yaml", "--config", str(overlay)]
    given += [*model_flags(policy, start), "--data.corpus.path", str(rows)]
    given += ["--trainer.max_epochs", "1", "--data.chat", "null"]
    given += ["--model.schedule.shape", "constant"]
    ended = fit(given, tmp_path / "fit")
    assert ended.returncode == 0, ended.stderr
    next_round = read_manifest(whole / "rounds" / "round-1")
    assert (
        weights_fingerprint(str(tmp_path / "fit" / "weights")) == next_round["settings"]["policy"]
    )


def test_a_round_in_which_nothing_survives_ends_the_fit_with_the_counts(start, tmp_path):
    flags = ("--trainer.callbacks.recipe.max_pass_rate", "0.01")
    ended = fit(arguments(start, *flags), tmp_path)
    assert ended.returncode == 2
    assert "no row is left for" in ended.stderr
    assert "solved too often" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_programs_are_played_by_their_tests(start, tmp_path):
    corpus = ("--trainer.callbacks.recipe.corpus.path", str(start / "programs.jsonl"))
    tokens = ("--trainer.callbacks.recipe.sampling.max_tokens", "32")
    ended = fit(arguments(start, *corpus, *tokens, "--trainer.max_epochs", "1"), tmp_path)
    assert ended.returncode == 0, ended.stderr
    made = tmp_path / "rounds" / "round-0"
    assert 0 < read_manifest(made)["figures"]["pass_rate"] < 1
    answers = {v["answer"] for row in read_round(made, "attempts") for v in row["verdicts"]}
    assert {"AC", "WA"} <= answers
    trained, before = weights(tmp_path), weights(start / "warm")
    assert any(not torch.equal(trained[name], value) for name, value in before.items())
