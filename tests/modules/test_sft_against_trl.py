"""Loss curves of supervised fine-tuning by our fit and by TRL's SFTTrainer."""

from __future__ import annotations

import json
import os
from functools import partial
from importlib.util import find_spec
from random import Random
from unittest.mock import patch

import pytest
import torch
from lightning.pytorch import Callback
from quiet_fit import fit
from tiny import save_tiny_adapter, save_tiny_chat_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from datamodules import SolutionDataModule
from datamodules.planning import Plan, Source
from modules import SFTModule
from promptcot.corpora import Corpus

pytestmark = pytest.mark.skipif(
    find_spec("trl") is None, reason="TRL is not installed: make test installs it"
)
STEPS, BATCH, RATE, TOLERANCE = 20, 4, 3e-3, 1e-4
ADAMW = partial(torch.optim.AdamW, lr=RATE, weight_decay=0.0)


class Losses(Callback):
    """Of each optimizer step."""

    def __init__(self):
        self.found = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self.found.append(float(trainer.callback_metrics["sft/loss"]))


@pytest.fixture(autouse=True)
def _only_here(monkeypatch):
    """TRL sets environment variables and reports to its makers: neither leaves this test."""
    with patch.dict(os.environ):
        from trl import SFTTrainer  # seconds to import

        monkeypatch.setattr(SFTTrainer, "_send_telemetry", lambda self: None)
        yield


def conversations(turns):
    random = Random(turns)
    said = [
        "".join(random.choices("abcdef 123.", k=random.randint(1, 40)))
        for _ in range(2 * turns * STEPS * BATCH)
    ]
    listed = [
        {"role": ("user", "assistant")[n % 2], "content": f"x{words}"}
        for n, words in enumerate(said)
    ]
    size = 2 * turns
    return [{"messages": listed[n : n + size]} for n in range(0, len(listed), size)]


def by_us(weights, rows, folder):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    losses = Losses()
    data = SolutionDataModule(str(weights), Corpus(str(path)), batch_size=BATCH)
    fit(
        SFTModule(str(weights), ADAMW),
        data,
        folder / "run",
        2,
        callbacks=[losses],
        gradient_clip_val=1.0,
    )
    return losses.found, data


def by_trl(model, tokenizer, rows, folder, **settings):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    trainer = SFTTrainer(
        model,
        SFTConfig(
            output_dir=str(folder / "trl"),
            per_device_train_batch_size=BATCH // 2,
            gradient_accumulation_steps=2,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            max_grad_norm=1.0,
            optim="adamw_torch",
            logging_steps=1,
            max_length=None,
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            train_sampling_strategy="sequential",
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


@pytest.mark.parametrize("kind", ["solutions", "conversations", "adapter"])
def test_twenty_losses_are_those_of_trl(tmp_path, kind):
    base = save_tiny_chat_model(tmp_path / "model")
    weights = save_tiny_adapter(base, tmp_path / "adapter") if kind == "adapter" else base
    rows = conversations(3 if kind == "conversations" else 1)
    ours, data = by_us(weights, rows, tmp_path)

    # in our order, where it matters not how a step is cut into micro-batches
    order = Plan((Source("rows", 0, len(rows)),), data.seed, BATCH).order(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if kind == "adapter":
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, weights, is_trainable=True)
    if kind == "conversations":
        given, settings = [rows[n] for n in order], {"assistant_only_loss": True}
    else:
        given, settings = [ready(rows[n]) for n in order], {}
    theirs = by_trl(model, tokenizer, given, tmp_path, **settings)
    assert len(ours) == len(theirs) == STEPS
    furthest = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    assert furthest < TOLERANCE
    assert abs(ours[0] - ours[-1]) > 0.1  # the weights have moved


def ready(row):
    """Ids and labels, letter by letter."""
    question, answer = (m["content"] for m in row["messages"])
    before, target = [*map(ord, f"u:{question}"), 0, *map(ord, "\na:")], [*map(ord, answer), 0]
    return {"input_ids": before + target, "labels": [-100] * len(before) + target}
