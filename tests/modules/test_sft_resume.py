"""Supervised fine-tuning killed at any step goes on bit for bit: losses, rates, order, weights."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from random import Random

import pytest
import torch
import yaml
from killed_fits import run
from safetensors.torch import load_file
from tiny import save_tiny_model
from transformers import AutoTokenizer

EPOCHS, ACCUMULATE, BUDGET = 4, 2, 160
TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }}<end>{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A mixture of two sources with lengths of all kinds; dropout; a cosine with warm-up."""
    folder = tmp_path_factory.mktemp("sft")
    model = save_tiny_model(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(model)
    for name, count in (("a", 23), ("b", 40)):
        with open(folder / f"{name}.jsonl", "w") as file:
            file.writelines(json.dumps(row) + "\n" for row in conversations(name, count))
    path = folder / "fit.yaml"
    path.write_text(yaml.safe_dump(settings(folder, str(model))))
    return path


def conversations(name, count):
    random = Random(name)
    for number in range(count):
        turns = [("user", f"{name}{number}?"), ("assistant", "so " * random.choice([1, 9, 21, 40]))]
        if number % 3 == 0:
            turns += [("user", "and?"), ("assistant", "t" * random.randint(1, 9))]
        yield {"messages": [{"role": role, "content": text.strip()} for role, text in turns]}


def settings(folder, model):
    mixture = {
        "a": {"corpus": {"path": str(folder / "a.jsonl")}},
        "b": {"corpus": {"path": str(folder / "b.jsonl")}, "weight": 0.4},
    }
    adam = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-2}}
    return {
        "seed_everything": 5,
        "model": {
            "class_path": "modules.SFTModule",
            "init_args": {
                "weights": model,
                "optimizer": adam,
                "adapter": {"rank": 4, "alpha": 8, "dropout": 0.3},
                "schedule": {"shape": "cosine", "warmup": 0.2, "floor": 0.1},
            },
        },
        "data": {
            "class_path": "datamodules.SolutionDataModule",
            "init_args": {
                "weights": model,
                "mixture": mixture,
                "token_budget": BUDGET,
                "max_tokens": BUDGET,
            },
        },
        "trainer": {
            "max_epochs": EPOCHS,
            "accumulate_grad_batches": ACCUMULATE,
            "precision": "32-true",
            "accelerator": "cpu",
            "devices": 1,
            "gradient_clip_val": 1.0,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "callbacks": [
                {"class_path": "callbacks.ExportWeights"},
                {"class_path": "callbacks.SaveProgress", "init_args": {"every_n_steps": 1}},
            ],
        },
    }


def piece(config, folder, kill_at="", *more, ranks=1):
    """The same command whether it begins or goes on."""
    folder.mkdir(exist_ok=True)
    told = str(folder / "told")
    args = [
        *("fit", "--config", str(config), "--trainer.default_root_dir", str(folder)),
        *("--trainer.callbacks+", "killed_fits.KillAndTell"),
        *("--trainer.callbacks.file", told, *more),
    ]
    return {"args": args, "kill_at": kill_at, "log": str(folder / "log"), "ranks": ranks}


def told(folder, rank=0):
    lines = (folder / f"told.{rank}").read_text().splitlines()
    return [json.loads(line) for line in lines]


def joined(rows):
    """Of a step that was done twice, since it was killed before its end, the later."""
    return list({tuple(row["place"]): row for row in rows}.values())


def weights(folder):
    [file] = (folder / "weights").glob("*.safetensors")
    return load_file(file)


def test_ten_kills_leave_no_trace_in_losses_rates_order_generators_and_weights(config, tmp_path):
    calm, cut = tmp_path / "calm", tmp_path / "cut"
    assert run([piece(config, calm)]) == [0], (calm / "log").read_text()
    whole = told(calm)
    by_epoch = [[r for r in whole if r["place"][0] == e] for e in range(EPOCHS)]
    assert len({len(rows) for rows in by_epoch}) > 1  # of other lengths: the trap
    places = sorted(Random(11).sample(range(1, len(whole)), 9))
    kills = [*map(str, places), "epoch 2"]
    kills.sort(key=lambda at: len(by_epoch[0] + by_epoch[1]) if at[0] == "e" else int(at))
    pieces = [piece(config, cut, at) for at in kills] + [piece(config, cut)]
    assert run(pieces) == [-signal.SIGKILL] * 10 + [0], (cut / "log").read_text()
    assert (cut / "log").read_text().count("going on with the interrupted fit") >= 9
    found = told(cut)
    assert joined(found) == whole
    assert len(found) < len(whole) + 10 * ACCUMULATE  # steps that were done are not repeated
    expected = weights(calm)
    assert all(torch.equal(value, expected[name]) for name, value in weights(cut).items())
    assert len({row["rate"] for row in whole}) > len(whole) / 4


def by_step(rows, accumulate):
    """Rates, and the documents trained on in any micro-batch, of each step of each epoch."""
    rates, found = {}, {}
    for row in rows:
        step = (row["place"][0], row["place"][1] // accumulate)
        edges = pairwise(row["boundaries"] if row["targets"] else [])
        found.setdefault(step, []).extend(row["tokens"][a:b] for a, b in edges)
        rates.setdefault(step, set()).add(row["rate"])
    return rates, {step: sorted(documents) for step, documents in found.items()}


def test_two_processes_killed_at_an_epochs_end_take_the_rows_of_one(config, tmp_path):
    # two times two micro-batches of two processes, and four of one, hold the same rows
    one, two = tmp_path / "one", tmp_path / "two"
    ddp = ("--trainer.devices", "2", "--trainer.strategy", "ddp")
    pieces = [
        piece(config, one, "", "--trainer.accumulate_grad_batches", "4"),
        piece(config, two, "epoch 2", *ddp, ranks=2),
        piece(config, two, "", *ddp, ranks=2),
    ]
    statuses = run(pieces)
    assert statuses[::2] == [0, 0], (two / "log").read_text()
    assert statuses[1] == -signal.SIGKILL
    whole = told(one)
    first, second = (told(two, rank) for rank in (0, 1))
    assert [row["place"] for row in first] == [row["place"] for row in second]
    assert len(first) == len({tuple(row["place"]) for row in first}) == len(whole) / 2
    assert by_step([*first, *second], 2) == by_step(whole, 4)
