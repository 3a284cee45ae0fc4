"""AdamW with moments of 8 bits, from the command line: its groups, its states, its checkpoints."""

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from bitsandbytes.optim import AdamW8bit
from lightning.pytorch import Callback
from lightning.pytorch.strategies import SingleDeviceStrategy
from quiet_fit import fit
from tiny import save_tiny_model
from torch import nn
from torch.testing import assert_close

import cli
from callbacks import SaveProgress
from datamodules import ComposeDataModule
from modules import MStepModule, Schedule
from modules.eight_bit import prepare
from modules.strategies import FSDP2Strategy
from promptcot.corpora import Corpus

CHECKOUT = Path(__file__).parents[2]
ROWS = [
    {"statement": "a" * n, "concepts": ["k", "l"], "rationale": "why " * n} for n in range(1, 9)
]

CONFIG = {"seed_everything": 1, "model": {}, "data": {}, "trainer": {}}


class Blow(Callback):
    """Ends a fit before one of its steps."""

    def __init__(self, step: int = -1) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, *_):
        if trainer.global_step == self.step:
            raise KeyError("cut off")


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Model with matrices of 4096 numbers and more: smaller ones keep 32 bits in any case."""
    return save_tiny_model(tmp_path_factory.mktemp("wide"), hidden=64)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Corpus(str(path))


@pytest.fixture
def command(wide, corpus, monkeypatch):
    """Runs ``cli.py fit`` in this process."""
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # so that the command's own does not stay

    def run(folder, *flags):
        arguments = [
            *("--config", "configs/m_step.yaml", "--config", "configs/optimizer/adamw_8bit.yaml"),
            *("--model.weights", str(wide), "--data.weights", str(wide)),
            *("--data.corpus.path", corpus.path, "--data.batch_size", "2"),
            *("--model.optimizer.weight_decay", "0.1"),
            *("--model.schedule.shape", "linear", "--trainer.accelerator", "cpu"),
            *("--trainer.precision", "32-true", "--trainer.accumulate_grad_batches", "1"),
            *("--trainer.max_epochs", "2", "--trainer.logger", "false"),
            *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
            *("--trainer.default_root_dir", str(folder), *flags),
        ]
        monkeypatch.setattr(sys, "argv", ["cli.py", "fit", *arguments])
        return cli.train()

    return run


def test_the_command_trains_by_groups_and_a_schedule(command, tmp_path):
    calm = command(tmp_path)
    [optimizer] = calm.trainer.optimizers
    assert type(optimizer) is AdamW8bit
    bits = {}
    for group in optimizer.param_groups:
        assert 0 < group["lr"] < group["initial_lr"] == 2e-6  # that of configs/m_step.yaml
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.dim() >= 2 else 0.0)
            bits[parameter] = optimizer.state[parameter]["state1"].dtype
    for name, parameter in calm.model.named_parameters():
        whole = "embed_tokens" in name or parameter.numel() < 4096
        assert bits[parameter] == (torch.float32 if whole else torch.uint8), name
    assert torch.uint8 in bits.values()


def test_a_fit_that_was_cut_off_goes_on_bit_for_bit(wide, corpus, tmp_path):
    def run(folder, blow_at=-1):
        optimizer = partial(AdamW8bit, lr=1e-2, weight_decay=0.1)
        module = MStepModule(str(wide), optimizer, schedule=Schedule("linear"))
        saver = SaveProgress(every_n_steps=1)
        settings = {
            "callbacks": [Blow(blow_at), saver],
            "enable_checkpointing": True,
            "ckpt_path": saver.resume(folder, CONFIG),
        }
        data = ComposeDataModule(str(wide), corpus, batch_size=2)
        trainer = fit(module, data, folder, epochs=2, **settings)
        return module, trainer.optimizers[0]

    calm, optimizer = run(tmp_path / "calm")
    for step in (3, 4):  # within an epoch and at its end
        folder = tmp_path / f"cut-{step}"
        with pytest.raises(KeyError, match="cut off"):
            run(folder, step)
        resumed, its = run(folder)
        for ours, theirs in zip(resumed.parameters(), calm.parameters(), strict=True):
            assert torch.equal(ours, theirs)
            here, there = its.state[ours], optimizer.state[theirs]
            assert here["step"] == there["step"] == 8
            assert all(torch.equal(here[key], there[key]) for key in here if key != "step")


def test_a_first_step_is_adamws(wide, corpus, tmp_path):
    # moments are rounded after they have moved the weights
    moved = []
    for kind in (torch.optim.AdamW, AdamW8bit):
        module = MStepModule(str(wide), partial(kind, lr=1e-2, weight_decay=0.1))
        data = ComposeDataModule(str(wide), corpus, batch_size=8)
        fit(module, data, tmp_path, max_steps=1)
        moved.append(dict(module.named_parameters()))
    for name, value in moved[0].items():
        assert_close(moved[1][name], value, atol=1e-5, rtol=1e-5)


def test_embeddings_have_32_bits_here_and_nowhere_else():
    model = nn.Sequential(nn.Embedding(100, 64), nn.Linear(64, 100, bias=False))
    optimizer = AdamW8bit(model.parameters(), lr=1e-2)
    prepare(optimizer, model, SingleDeviceStrategy())
    other = AdamW8bit(model.parameters(), lr=1e-2)
    model(torch.arange(9)).sum().backward()
    for each in (optimizer, other):
        each.step()
    bits = [[o.state[p]["state1"].dtype for p in model.parameters()] for o in (optimizer, other)]
    assert bits == [[torch.float32, torch.uint8], [torch.uint8, torch.uint8]]


def test_fsdp2_is_refused():
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"AdamW8bit .* fsdp2 shards: use .*deepspeed_stage_2"):
        prepare(AdamW8bit(model.parameters()), model, FSDP2Strategy())
    prepare(torch.optim.AdamW(model.parameters()), model, FSDP2Strategy())
