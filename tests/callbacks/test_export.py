"""The folder that a fit exports is what an engine then serves."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from promptcot.engines import HFEngine, VLLMEngine
from promptcot.prompts import PromptFormat
from promptcot.protocols import ScoreRequest
from promptcot.records import Domain, Problem

CHECKOUT = Path(__file__).parents[2]
PROBLEM = Problem("a", Domain.MATH, "How many even primes are there?", ("primes", "parity"), "AIME")
RATIONALE = "Step 1: Join primes and parity. Step 2: Ask for a count that surprises."


@pytest.fixture(scope="module")
def exported(embedded_weights, tmp_path_factory):
    """The embedded model after three steps at a rate that shows."""
    folder = tmp_path_factory.mktemp("fit")
    rows = folder / "rows.jsonl"
    row = {"statement": PROBLEM.statement, "concepts": PROBLEM.concepts, "rationale": RATIONALE}
    rows.write_text(json.dumps(row) + "\n")
    command = [
        *(sys.executable, "cli.py", "fit", "--config", "configs/cold_start_p.yaml"),
        *("--model.weights", str(embedded_weights), "--data.weights", str(embedded_weights)),
        *("--data.corpus.path", str(rows), "--model.optimizer.lr", "1e-4"),
        *("--trainer.accelerator", "cpu", "--trainer.max_epochs", "3"),
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
