"""Real fits of a tiny model: the loss is exact to the token, the export is what was trained."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from callbacks import ExportWeights
from datamodules import ComposeDataModule, RationaleDataModule
from modules import EStepModule, MStepModule
from promptcot.corpora import Corpus

CHECKOUT = Path(__file__).parents[2]
ROWS = [
    {"statement": "a" * n, "concepts": ["k", "l"], "rationale": "why " * n} for n in range(1, 9)
]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Corpus(str(path))


def fit(module, data, folder, accumulate=1, epochs=1, callbacks=()):
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )
    trainer.fit(module, data)
    return trainer


def fit_command(*flags):
    command = [sys.executable, "cli.py", "fit", "--config", "configs/m_step.yaml", *flags]
    return subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120
    )


SGD = partial(torch.optim.SGD, lr=1.0)


@pytest.mark.parametrize("accumulate", [2, 3, 8, 11])
def test_accumulated_micro_batches_step_as_one_batch(tiny_model, corpus, tmp_path, accumulate):
    # One step of plain SGD at rate 1 moves the weights by the gradient itself; 8 rows of ragged
    # lengths; 11 micro-batches leave three of them empty.
    moved = []
    for parts in (1, accumulate):
        module = MStepModule(str(tiny_model), SGD)
        data = ComposeDataModule(str(tiny_model), corpus, batch_size=8)
        fit(module, data, tmp_path, parts)
        moved.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert_close(moved[1], moved[0], atol=1e-6, rtol=1e-5)


def test_the_step_is_the_gradient_of_the_mean_over_target_tokens(tiny_model, corpus, tmp_path):
    module = EStepModule(str(tiny_model), SGD)
    data = RationaleDataModule(str(tiny_model), corpus, batch_size=8)
    fit(module, data, tmp_path, 3)
    lm = AutoModelForCausalLM.from_pretrained(tiny_model)
    nll = []
    for example in data.examples:
        tokens = torch.tensor([example.tokens])
        logprobs = lm(tokens).logits[0].log_softmax(-1)
        start = len(example.prompt)
        nll += [-logprobs[i - 1, tokens[0, i]] for i in range(start, len(example))]
    torch.stack(nll).mean().backward()
    for (name, ours), theirs in zip(
        module.policy.lm.named_parameters(), lm.parameters(), strict=True
    ):
        assert_close(ours, theirs - theirs.grad, atol=1e-5, rtol=1e-5, msg=name)


def test_a_fit_exports_what_it_trained(tiny_model, corpus, tmp_path):
    module = MStepModule(str(tiny_model), partial(torch.optim.AdamW, lr=1e-2))
    data = ComposeDataModule(str(tiny_model), corpus, batch_size=4)
    fit(module, data, tmp_path, epochs=2, callbacks=[ExportWeights()])
    there = AutoModelForCausalLM.from_pretrained(tmp_path / "weights").state_dict()
    here = module.policy.lm.state_dict()
    start = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    assert there.keys() == here.keys()
    for name, value in here.items():
        assert torch.equal(there[name], value)
    assert not torch.equal(start["model.embed_tokens.weight"], here["model.embed_tokens.weight"])


def test_rows_that_are_too_long_are_counted_and_named(tiny_model, corpus, caplog):
    data = ComposeDataModule(str(tiny_model), corpus, max_tokens=330)
    data.setup("fit")
    assert 0 < len(data.examples) < 8
    assert all(len(example) <= 330 for example in data.examples)
    assert f"{8 - len(data.examples)} of 8 rows are longer than 330 tokens" in caplog.text


def test_a_corpus_without_rationales_is_refused(tiny_model, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"statement": "one", "concepts": ["k"]}\n')
    data = ComposeDataModule(str(tiny_model), Corpus(str(path)))
    with pytest.raises(ValueError, match="has no row to train on"):
        data.setup("fit")


def test_a_missing_model_folder_is_one_sentence_and_no_traceback():
    run = fit_command("--model.weights", "/nowhere/model", "--data.weights", "/nowhere/model")
    assert run.returncode == 2
    assert "there is no model folder /nowhere/model" in run.stderr
    assert "Traceback" not in run.stderr


def test_an_unknown_key_fails_and_the_nearest_one_is_named():
    run = fit_command("--model.weightz", "x")
    assert run.returncode == 2
    assert "did you mean 'weights'?" in run.stderr
