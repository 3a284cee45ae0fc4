"""The command line as a user meets it: real processes, and sentences in place of tracebacks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import forked
import pytest
import yaml
from tiny import save_tiny_model
from tiny_run import CHECKOUT, command, rows, write_jsonl, write_run

from promptcot.locks import folder_lock

FIT = ("fit", "--config", "configs/cold_start_p.yaml", "--trainer.accelerator", "cpu")


def run(*arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return forked.run(arguments, environment)


def refused(*arguments) -> str:
    """The sentence of a command that must fail."""
    ended = run(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def make(tmp_path, *arguments):
    return ("make", "annotate", "--engine", "null", "--folder", str(tmp_path / "out"), *arguments)


def fit(model, corpus, folder, *more):
    flags = {"model.weights": model, "data.weights": model, "data.corpus.path": corpus}
    given = [f"--{name}={value}" for name, value in flags.items()]
    return (*FIT, *given, f"--trainer.default_root_dir={folder}", *more)


# ----------------------------------------------------------------------- help


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        [],
        ["em", "--help"],
        ["make", "--help"],
        ["make", "compose", "--help"],
        ["verify", "--help"],
    ],
    ids=" ".join,
)
def test_help_of_the_light_commands_teaches_and_loads_nothing_heavy(arguments):
    script = "import runpy, sys; sys.argv[0] = 'cli.py'\n"
    script += "try: runpy.run_path('cli.py', run_name='__main__')\n"
    script += "except SystemExit as end: assert not end.code, end.code\n"
    script += (
        "print('HEAVY', [m for m in ('torch', 'lightning', 'transformers') if m in sys.modules])"
    )
    ended = subprocess.run(
        [command()[0], "-c", script, *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "usage:" in ended.stdout.lower()
    assert ended.stdout.endswith("HEAVY []\n")


def test_help_says_what_each_recipe_and_key_is_for():
    told = run("make", "rationales", "--help").stdout
    assert "keeps each problem's best" in told
    assert "the paper draws 8 at temperature 1" in told
    assert "held_out" in run("em", "--help").stdout


# ----------------------------------------------------------------------- keys


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (("em", "--round", "3"), "rounds"),
        (("em", "--e_step.samplin.n", "3"), "e_step.sampling.n"),
        (("make", "compose", "--folder", "x", "--num_set", "3"), "num_sets"),
        ((*FIT, "--trainer.max_epoch", "3"), "trainer.max_epochs"),
        ((*FIT, "--model.weightz", "x"), "weights"),
        ((*FIT, "--data.batchsize", "3"), "batch_size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_unknown_key_fails_and_the_nearest_is_named(arguments, nearest):
    assert f"did you mean '{nearest}'?" in refused(*arguments)


def test_an_unknown_key_of_a_yaml_file_fails_and_the_nearest_is_named(tmp_path):
    (tmp_path / "wrong.yaml").write_text("seeed: 3\n")
    said = refused("em", "--config", str(tmp_path / "wrong.yaml"))
    assert "did you mean 'seed'?" in said
    (tmp_path / "wrong.yaml").write_text("trainer: {max_epoch: 3}\n")
    said = refused(*FIT, "--config", str(tmp_path / "wrong.yaml"))
    assert "did you mean 'trainer.max_epochs'?" in said


def test_callbacks_of_two_files_add_up(tmp_path):
    (tmp_path / "more.yaml").write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.LearningRateMonitor}]}\n"
    )
    printed = run(*FIT, "--config", str(tmp_path / "more.yaml"), "--print_config").stdout
    names = [c["class_path"] for c in yaml.safe_load(printed)["trainer"]["callbacks"]]
    assert names == [
        "callbacks.ExportWeights",
        "callbacks.SaveProgress",
        "callbacks.WritePredictions",
        "lightning.pytorch.callbacks.LearningRateMonitor",
    ]


def test_a_callback_that_a_later_file_names_again_replaces_the_earlier_one(tmp_path):
    (tmp_path / "more.yaml").write_text(
        "trainer: {callbacks: [{class_path: callbacks.SaveProgress, "
        "init_args: {every_n_steps: 7}}]}\n"
    )
    printed = run(*FIT, "--config", str(tmp_path / "more.yaml"), "--print_config").stdout
    callbacks = yaml.safe_load(printed)["trainer"]["callbacks"]
    named = [c for c in callbacks if c["class_path"] == "callbacks.SaveProgress"]
    assert [c["init_args"]["every_n_steps"] for c in named] == [7]
    assert len(callbacks) == 3


@pytest.mark.parametrize(
    "path", sorted((CHECKOUT / "configs").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_configuration_is_one_that_its_command_takes(path):
    name = "em" if path.stem == "em" else "fit"
    assert run(name, "--config", str(path), "--print_config").returncode == 0


@pytest.mark.parametrize("path", sorted((CHECKOUT / "configs/make").glob("*.yaml")), ids=str)
def test_every_configuration_of_a_recipe_is_one_that_it_takes(path):
    assert run("make", path.stem, "--config", str(path), "--print_config").returncode == 0


@pytest.mark.parametrize("name", ["demo", "paper"])
def test_every_preset_is_one_that_em_takes(name):
    path = CHECKOUT / "configs" / name / "em.yaml"
    assert run("em", "--config", str(path), "--print_config").returncode == 0


def test_the_fits_of_the_demo_build():
    fits = yaml.safe_load((CHECKOUT / "configs/demo/em.yaml").read_text())["fits"]
    for files in (fits["cold_start_q"], fits["m_step"]):
        configs = [argument for file in files for argument in ("--config", file)]
        assert run("fit", *configs, "--print_config").returncode == 0


REFRESHED = {"e_step": "e_step", "policy_gradient": "e_step", "self_play": "dpo"}
"""The fit that each overlay with a refresh builds upon."""


@pytest.mark.parametrize(("name", "base"), REFRESHED.items())
def test_every_overlay_that_refreshes_builds_upon_its_fit(name, base):
    assert {path.stem for path in (CHECKOUT / "configs/refresh").iterdir()} == REFRESHED.keys()
    configs = ("--config", f"configs/{base}.yaml", "--config", f"configs/refresh/{name}.yaml")
    shown = run("fit", *configs, "--trainer.callbacks.max_difference=0.01", "--print_config")
    assert shown.returncode == 0, shown.stderr
    callbacks = yaml.safe_load(shown.stdout)["trainer"]["callbacks"]
    names = [callback["class_path"].rpartition(".")[2] for callback in callbacks]
    assert {"ExportWeights", "SaveProgress", "Throughput"} < set(names)
    assert ("CollapseAlarms" in names) == (name == "self_play")
    assert names[-1] == "RefreshTrainingSet"
    assert callbacks[-1]["init_args"]["max_difference"] == 0.01


def test_a_checkpoint_does_not_override_given_flags(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(4))
    short = ("--trainer.precision=32-true", "--trainer.logger=false", "--trainer.max_epochs=1")
    keep = "--trainer.callbacks+={class_path: lightning.pytorch.callbacks.ModelCheckpoint}"
    assert run(*fit(model, corpus, tmp_path / "a", *short, keep)).returncode == 0
    [checkpoint] = (tmp_path / "a").rglob("checkpoints/*.ckpt")
    rate = "--model.optimizer.lr=0.5"
    again = fit(model, corpus, tmp_path / "b", *short, rate, f"--ckpt_path={checkpoint}")
    assert run(*again).returncode == 0
    config = yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())
    assert config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.5


def test_a_trial_run_leaves_weights_and_an_interrupted_fit_alone(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(64))
    short = ("--trainer.precision=32-true", "--trainer.logger=false", "--data.batch_size=4")
    given = fit(model, corpus, tmp_path / "run", *short)
    trial = (*given, "--trainer.fast_dev_run=true")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    forked.killed_when(tmp_path / "run" / "progress" / "latest.json", list(given), environment)
    assert run(*trial).returncode == 0
    assert not (tmp_path / "run" / "weights").exists()
    resumed = run(*given)
    assert "going on with the interrupted fit" in resumed.stderr
    weights = tmp_path / "run" / "weights" / "model.safetensors"
    whole = weights.read_bytes()
    assert run(*trial).returncode == 0
    assert weights.read_bytes() == whole


# ----------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"statement": "a"}\n{"statement": "b', "rows.jsonl line 2: not a whole JSON object"),
        ('{"statement": "a"}\n{"text": "b"}\n', "rows.jsonl line 2: no statement of a problem"),
        ("", "has no rows to use"),
        ('{"id": 1, "statement": "a"}\n{"id": 1, "statement": "b"}\n', "the id '1' is that of"),
        ('{"statement": "a", "concepts": "b"}\n', "line 1: the concepts are 'b', not a list"),
        ("[1]", "is not a JSON object with named fields"),
        ("[1]\n[2]\n", "or is each line a list, where a row is an object?"),
        ("[" * 200_000, "rows.jsonl: not a whole JSON list (maximum recursion depth"),
        (r'{"statement": "a"}' + "\n" + r'{"statement": "b \ud83d"}', r"line 2: \ud83d is half a"),
        (r'[{"statement": "b \udc00 \ud83d\ude00"}]', r"row 1: \udc00 is half a character"),
    ],
)
def test_a_corpus_that_cannot_be_used_names_file_and_line(tmp_path, content, sentence):
    (tmp_path / "rows.jsonl").write_text(content)
    assert sentence in refused(*make(tmp_path, "--corpus.path", str(tmp_path / "rows.jsonl")))


def test_a_missing_file_is_named(tmp_path):
    said = refused(*make(tmp_path, "--corpus.path", "/nowhere/rows.jsonl"))
    assert "there is no file /nowhere/rows.jsonl" in said


@pytest.mark.parametrize("name", ["/nowhere/model", "models/none", "runs/none"])
def test_a_missing_model_folder_is_named(tmp_path, name):
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(2))
    assert f"there is no model folder {name}" in refused(*fit(name, corpus, tmp_path))


def test_a_folder_without_a_model_is_named(tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(2))
    assert "holds no model (no config.json)" in refused(*fit(tmp_path, corpus, tmp_path))


def test_a_tokenizer_without_end_token_is_refused(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        path = model / name
        if path.exists():
            settings = json.loads(path.read_text())
            settings.pop("eos_token", None)
            path.write_text(json.dumps(settings))
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(2))
    assert "has no end token" in refused(*fit(model, corpus, tmp_path))


def test_rows_that_are_all_too_long_are_an_error_with_counts(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(3))
    said = refused(*fit(model, corpus, tmp_path, "--data.max_tokens=50"))
    assert "3 of them longer than 50 tokens" in said


def test_rows_without_a_rationale_are_counted(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    bare = [{"id": "x", "statement": "s", "concepts": ["k"]}]
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(3) + bare)
    ended = run(*fit(model, corpus, tmp_path, "--trainer.fast_dev_run=1"))
    assert ended.returncode == 0, ended.stderr
    assert "1 of 4 rows of" in ended.stderr


def test_em_says_what_the_corpus_lacks_and_who_could_write_it(tmp_path):
    config = write_run(tmp_path)
    bare = [{"statement": f"What is {n} + {n}?"} for n in range(6)]
    write_jsonl(tmp_path / "rows.jsonl", bare)
    said = refused("em", "--config", str(config))
    assert "of the 6 problems" in said
    assert "6 have no concepts and 6 no rationale" in said
    assert "annotate" in said


def test_a_file_of_a_round_that_was_changed_is_refused(tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl", [{"statement": "Count the red balls in a box."}])
    assert run(*make(tmp_path, "--corpus.path", str(corpus))).returncode == 0
    made = tmp_path / "out" / "rows.jsonl"
    made.write_text(made.read_text().replace("red", "blue"))
    said = refused(*make(tmp_path / "b", "--corpus.path", str(made)))
    assert "was changed after it was made" in said


def test_a_full_disk_is_a_sentence_and_what_was_written_stays(tmp_path):
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit, which stands in for a full disk, is not installed")
    problems = [{"statement": f"Count the red balls in box number {n}."} for n in range(200)]
    corpus = write_jsonl(tmp_path / "rows.jsonl", problems)
    arguments = command(*make(tmp_path, "--corpus.path", str(corpus)))
    ended = subprocess.run(
        ["prlimit", "--fsize=20000", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "free some space and run the same command again" in ended.stderr
    assert run(*make(tmp_path, "--corpus.path", str(corpus))).returncode == 0
    lines = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == 200


def test_a_server_that_is_down_is_named_with_the_cure(tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl", [{"statement": "a"}])
    engine = {
        "class_path": "promptcot.engines.ServerEngine",
        "init_args": {"base_url": "http://127.0.0.1:9/v1", "max_retries": 0},
    }
    said = refused(
        *("make", "annotate", "--folder", str(tmp_path / "out"), "--teacher", "t"),
        *("--corpus.path", str(corpus), "--engine", json.dumps(engine)),
    )
    assert "127.0.0.1:9" in said
    assert "start the server there" in said


class Broken(BaseHTTPRequestHandler):
    """A server that is out of order."""

    def do_POST(self):
        self.send_error(500)

    def log_message(self, *_):
        pass


def test_a_server_that_answers_with_errors_is_a_sentence(tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl", [{"statement": "a"}])
    with HTTPServer(("127.0.0.1", 0), Broken) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        said = refused(
            *("make", "annotate", "--folder", str(tmp_path / "out"), "--teacher", "t"),
            *("--corpus.path", str(corpus), "--engine.base_url", url, "--engine.max_retries", "0"),
        )
        server.shutdown()
    assert "status 500" in said


def test_two_fits_in_one_folder_are_refused(tmp_path):
    model = save_tiny_model(tmp_path / "model")
    corpus = write_jsonl(tmp_path / "rows.jsonl", rows(3))
    with folder_lock(tmp_path / "fit"):
        assert "is in use by process" in refused(*fit(model, corpus, tmp_path / "fit"))


def test_em_finds_what_cannot_work_before_it_begins(tmp_path):
    config = str(write_run(tmp_path))
    assert "/nowhere.yaml cannot be read" in refused(
        "em", "--config", config, "--fits.m_step", '["/nowhere.yaml"]'
    )
    assert "there is no model folder" in refused("em", "--config", config, "--weights", "runs/no")
    assert "compose.num_sets=-1" in refused("em", "--config", config, "--compose.num_sets", "-1")
    assert not (tmp_path / "run").exists()


def test_a_second_make_on_the_same_folder_is_refused(tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl", [{"statement": "Count the red balls."}])
    with folder_lock(tmp_path / ".locks" / "out"):
        start = time.monotonic()
        said = refused(*make(tmp_path, "--corpus.path", str(corpus)))
    assert "is in use by process" in said
    assert time.monotonic() - start < 60
    assert not Path(tmp_path / "out").exists()
