"""The folder that a fit exports is what an engine then serves."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from quiet_fit import fit
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from callbacks import ExportWeights
from datamodules import ComposeDataModule
from modules import MStepModule
from modules.adapters import LoRA
from promptcot.corpora import Corpus
from promptcot.engines import HFEngine, VLLMEngine
from promptcot.prompts import PromptFormat
from promptcot.protocols import ScoreRequest
from promptcot.records import Domain, Problem

CHECKOUT = Path(__file__).parents[2]
PROBLEM = Problem("a", Domain.MATH, "How many even primes are there?", ("primes", "parity"), "AIME")
RATIONALE = "Step 1: Join primes and parity. Step 2: Ask for a count that surprises."
TOKENS = torch.tensor([tuple(range(40, 60)), tuple(range(70, 90))])
ADAPTERS = {
    "full": None,
    "lora": LoRA(rank=4, alpha=8),
    "lora_bf16": LoRA(rank=4, alpha=8, base="bfloat16"),
    "dora": LoRA(rank=4, alpha=8, dora=True),
    "qlora": LoRA(rank=4, alpha=8, base="nf4"),
    "qdora": LoRA(rank=4, alpha=8, base="nf4", dora=True),
}


def logits(lm):
    with torch.no_grad():
        return lm(TOKENS).logits


def fitted(weights, folder, adapter, merge):
    """The model that a short fit trained and exported."""
    path = folder / "rows.jsonl"
    row = {"statement": PROBLEM.statement, "concepts": PROBLEM.concepts, "rationale": RATIONALE}
    path.write_text(json.dumps(row) + "\n")
    torch.manual_seed(0)
    module = MStepModule(str(weights), partial(torch.optim.AdamW, lr=1e-2), adapter=adapter)
    data = ComposeDataModule(str(weights), Corpus(str(path)), batch_size=1)
    fit(module, data, folder, epochs=3, callbacks=[ExportWeights(merge=merge)])
    return module.policy.lm


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_exported_folder_has_the_trainers_logits(tiny_model, tmp_path, kind):
    trained = fitted(tiny_model, tmp_path, ADAPTERS[kind], merge=False)
    if kind == "full":
        loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "weights")
    else:
        rounded = getattr(trained.config, "quantization_config", None)
        base = AutoModelForCausalLM.from_pretrained(
            tiny_model, dtype=trained.dtype, quantization_config=rounded
        )
        loaded = PeftModel.from_pretrained(base, tmp_path / "weights")
    assert torch.equal(logits(loaded.train()), logits(trained))
    start = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert (logits(trained) - logits(start)).abs().max() > 0.1


@pytest.mark.parametrize("kind", ADAPTERS)
def test_merged_it_is_a_plain_model_with_the_trainers_logits(tiny_model, tmp_path, kind):
    # x (W + B A) and x W + x B A round apart: 1.2e-5 of logits up to 6.4 were measured, with a
    # base of four bits as well, whose rounded numbers are written as they are
    trained = fitted(tiny_model, tmp_path, ADAPTERS[kind], merge=True)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "weights")
    assert "quantization_config" not in json.loads((tmp_path / "weights/config.json").read_text())
    assert (tmp_path / "weights" / "tokenizer.json").is_file()
    assert loaded.dtype == torch.float32
    if kind == "lora_bf16":
        trained = trained.float()  # the same numbers, without bfloat16's arithmetic: 0.14 apart
    assert_close(logits(loaded), logits(trained), atol=2e-5, rtol=1e-5)
    adapter = tmp_path / "weights-adapter" / "adapter_config.json"
    assert adapter.is_file() == (kind != "full")


@pytest.fixture(scope="module")
def exported(embedded_weights, tmp_path_factory):
    """The embedded model after a step at a rate that shows."""
    folder = tmp_path_factory.mktemp("fit")
    rows = folder / "rows.jsonl"
    row = {"statement": PROBLEM.statement, "concepts": PROBLEM.concepts, "rationale": RATIONALE}
    rows.write_text(json.dumps(row) + "\n")
    command = [
        *(sys.executable, "cli.py", "fit", "--config", "configs/cold_start_p.yaml"),
        *("--model.weights", str(embedded_weights), "--data.weights", str(embedded_weights)),
        *("--data.corpus.path", str(rows), "--model.optimizer.lr", "2e-4"),
        *("--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"),
        *("--trainer.accumulate_grad_batches", "1", "--trainer.precision", "32-true"),
        *("--trainer.logger", "false", "--trainer.default_root_dir", str(folder)),
    ]
    ended = subprocess.run(
        command, cwd=CHECKOUT, capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert ended.returncode == 0, ended.stderr
    return folder / "weights"


def scored(engine):
    format = PromptFormat()
    target = format.compose_target(RATIONALE, PROBLEM.statement)
    with closing(engine):
        [(_, segments)] = engine.score([ScoreRequest(format.compose_prompt(PROBLEM), target)])
    return [value for segment in segments for value in segment]


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make setup does it")
def test_vllm_serves_the_weights_that_a_fit_exported(embedded_weights, exported):
    before = scored(HFEngine(str(embedded_weights), dtype="float32", device="cpu"))
    after = scored(HFEngine(str(exported), dtype="float32", device="cpu"))
    served = scored(VLLMEngine(str(exported), dtype="float32", max_model_len=512))
    assert math.fsum(after) > math.fsum(before) + 5  # it has learned the row
    gaps = [abs(ours - theirs) for ours, theirs in zip(served, after, strict=True)]
    assert sum(gaps) / len(gaps) < 0.05
