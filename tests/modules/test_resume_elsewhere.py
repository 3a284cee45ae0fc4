"""A fit that was cut off within an epoch goes on with more or fewer processes, or says why not."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from importlib.util import find_spec

import pytest
import yaml
from killed_fits import run
from safetensors.torch import load_file
from tiny import save_tiny_chat_model
from tiny_run import write_jsonl
from torch.testing import assert_close

EPOCHS, ACCUMULATE, BATCH, BUDGET = 2, 2, 5, 140
KILL_AT = "5"
"""Micro-batch of the first epoch: the second step's checkpoint is there, the third is at work."""
LOSS, WEIGHT = 1e-5, 2e-5
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Start:
    """How a fit begins, and how it goes on after it was killed.

    Args:
        before: Strategy and number of processes.
        after: The same after the kill.
        adapter: Train a LoRA.
        micro_batches: Of a step after the kill.
        budget: Let a step take as many rows as its micro-batches hold.
    """

    before: tuple[str, int]
    after: tuple[str, int]
    adapter: bool = False
    micro_batches: int = ACCUMULATE
    budget: bool = False

    def __str__(self):
        (old, m), (new, n) = self.before, self.after
        more = f"{'-adapter' * self.adapter}{'-budget' * self.budget}"
        return f"{old}-{m}-to-{new}-{n}{more}"


GOING_ON = [
    Start(("fsdp2", 2), ("fsdp2", 1)),
    Start(("fsdp2", 1), ("fsdp2", 2), adapter=True),
    Start(("fsdp2", 2), ("fsdp2", 3)),
    Start(("fsdp2_file", 2), ("fsdp2_file", 1), adapter=True),
    Start(("auto", 1), ("fsdp2", 2)),
    Start(("fsdp2", 2), ("auto", 1), adapter=True),
    Start(("ddp", 2), ("auto", 1), micro_batches=2 * ACCUMULATE, budget=True),
]
REFUSED = {
    Start(("zero-2", 2), ("zero-2", 1)): "by DeepSpeed on 2 devices, .* but this fit has 1: give",
    Start(("zero-3", 2), ("zero-3", 3)): "by DeepSpeed on 2 devices, .* but this fit has 3: give",
    Start(("zero-2", 2), ("zero-3", 2)): "give --trainer.strategy deepspeed_stage_2, or start",
    Start(("zero-3", 2), ("fsdp2", 2)): "deepspeed_stage_3 and 2 devices as before, or start",
    Start(("ddp", 2), ("zero-2", 2)): "not written by DeepSpeed, .* auto, ddp or fsdp2",
}
STRATEGIES = {
    "auto": "auto",
    "ddp": "ddp",
    "fsdp2": "fsdp2",
    "fsdp2_file": {
        "class_path": "modules.strategies.FSDP2Strategy",
        "init_args": {"save_distributed_checkpoint": False},
    },
    "zero-2": {"class_path": "cpu_deepspeed.CPUDeepSpeed", "init_args": {"stage": 2}},
    "zero-3": {"class_path": "cpu_deepspeed.CPUDeepSpeed", "init_args": {"stage": 3}},
}


def settings(folder, model):
    # Adam's step is that of the gradient's sign where both are small: not with this epsilon
    adam = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-2, "eps": 1e-3}}
    return {
        "seed_everything": 5,
        "model": {
            "class_path": "modules.SFTModule",
            "init_args": {
                "weights": model,
                "optimizer": adam,
                "schedule": {"shape": "cosine", "warmup": 0.2, "floor": 0.1},
            },
        },
        "data": {
            "class_path": "datamodules.SolutionDataModule",
            "init_args": {
                "weights": model,
                "corpus": {"path": str(folder / "rows.jsonl")},
                "batch_size": BATCH,
                "max_tokens": BUDGET,
            },
        },
        "trainer": {
            "max_epochs": EPOCHS,
            "precision": "32-true",
            "accelerator": "cpu",
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


def conversation(number):
    said = {"user": f"{number}?", "assistant": ("so " * (1 + 11 * number % 40)).strip()}
    return {"messages": [{"role": role, "content": text} for role, text in said.items()]}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Folder of model, rows and configurations."""
    folder = tmp_path_factory.mktemp("start")
    model = save_tiny_chat_model(folder / "model")
    write_jsonl(folder / "rows.jsonl", [conversation(number) for number in range(23)])
    (folder / "fit.yaml").write_text(yaml.safe_dump(settings(folder, str(model))))
    for name, strategy in STRATEGIES.items():
        overlay = {"trainer": {"strategy": strategy}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(overlay))
    return folder


def piece(start, folder, on, case, kill_at="", accumulate=ACCUMULATE):
    """One command for ``killed_fits.run``, by as many processes as ``on`` says."""
    strategy, ranks = on
    folder.mkdir(exist_ok=True)
    args = [
        *("fit", "--config", str(start / "fit.yaml"), "--config", str(start / f"{strategy}.yaml")),
        *("--trainer.default_root_dir", str(folder), "--trainer.devices", str(ranks)),
        *("--trainer.accumulate_grad_batches", str(accumulate)),
        *("--trainer.callbacks+", "killed_fits.KillAndTell"),
        *("--trainer.callbacks.file", str(folder / "told")),
        *(("--model.adapter.rank", "4", "--model.adapter.alpha", "8") if case.adapter else ()),
        *(("--data.token_budget", str(BUDGET)) if case.budget else ()),
    ]
    return {"args": args, "kill_at": kill_at, "log": str(folder / "log"), "ranks": ranks}


def pairs(statuses):
    """Of the killed part and of the rest."""
    return list(zip(statuses[::2], statuses[1::2], strict=True))


def losses(folder):
    """Of each step by epoch and number."""
    lines = (folder / "told.0").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    steps = [row for row in rows if row["mean"]]
    found = {(row["place"][0], row["step"]): float.fromhex(row["mean"]) for row in steps}
    assert len(found) == len(steps)  # none was done twice
    return found


def weights(folder):
    [file] = (folder / "weights").glob("*.safetensors")
    return load_file(file)


@pytest.fixture(scope="module")
def gone_on(start):
    """Each case, killed and gone on, and the undisturbed fits of one process."""
    calm = {
        (False, False): Start(("auto", 1), ("auto", 1)),
        (True, False): Start(("auto", 1), ("auto", 1), adapter=True),
        (False, True): Start(("auto", 1), ("auto", 1), budget=True),
    }
    pieces = [
        piece(start, start / str(case), ("auto", 1), case, "", ACCUMULATE * (1 + case.budget))
        for case in calm.values()
    ]
    for case in GOING_ON:
        folder = start / str(case)
        pieces.append(piece(start, folder, case.before, case, KILL_AT))
        pieces.append(piece(start, folder, case.after, case, "", case.micro_batches))
    statuses = run(pieces)
    assert statuses[: len(calm)] == [0, 0, 0]
    by_case = zip(GOING_ON, pairs(statuses[len(calm) :]), strict=True)
    folders = {key: start / str(case) for key, case in calm.items()}
    return folders, dict(by_case)


@pytest.mark.parametrize("case", GOING_ON, ids=str)
def test_it_takes_the_steps_of_the_undisturbed_fit(start, gone_on, case):
    calm, statuses = gone_on
    folder = start / str(case)
    log = (folder / "log").read_text()
    assert statuses[case] == (-signal.SIGKILL, 0), log
    assert "going on with the interrupted fit" in log
    undisturbed = calm[case.adapter, case.budget]
    expected, found = losses(undisturbed), losses(folder)
    assert found.keys() == expected.keys()
    assert sum(epoch == 0 for epoch, _ in found) > int(KILL_AT) // ACCUMULATE  # killed within it
    assert max(found)[0] == EPOCHS - 1
    for step, loss in expected.items():
        assert found[step] == pytest.approx(loss, abs=LOSS), step
    for name, value in weights(undisturbed).items():
        assert_close(weights(folder)[name], value, atol=WEIGHT, rtol=0)


@pytest.mark.skipif(find_spec("deepspeed") is None, reason="no deepspeed here")
def test_what_cannot_be_read_is_refused_with_its_cure(start, tmp_path):
    written = {case.before: case for case in REFUSED}
    pieces = [piece(start, tmp_path / on[0], on, case, "3") for on, case in written.items()]
    pieces += [piece(start, tmp_path / case.before[0], case.after, case) for case in REFUSED]
    for case, found in zip(REFUSED, pieces[len(written) :], strict=True):
        found["log"] = str(tmp_path / f"{case}.log")
    statuses = run(pieces)
    assert statuses == [-signal.SIGKILL] * len(written) + [2] * len(REFUSED)
    for case, sentence in REFUSED.items():
        said = (tmp_path / f"{case}.log").read_text()
        assert re.search(f"^error: .*{sentence}.* --trainer.default_root_dir$", said, re.M), said
        assert "Traceback" not in said
