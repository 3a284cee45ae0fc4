"""Real fits of a tiny model: the loss is exact to the token, the export is what was trained."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import forked
import pytest
import torch
from quiet_fit import fit, quiet_trainer
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from callbacks import ExportWeights, WritePredictions
from datamodules import ComposeDataModule, RationaleDataModule
from datamodules.packed import micro_batches
from datamodules.planning import Plan
from datamodules.rows import RowsInMemory
from modules import EStepModule, MStepModule
from promptcot.batches import pack
from promptcot.corpora import Corpus, read_corpus
from promptcot.likelihood import TargetLogprobs, load_causal_lm
from promptcot.prompts import PromptFormat
from promptcot.tokens import Example

CHECKOUT = Path(__file__).parents[2]
ROWS = [
    {"statement": "a" * n, "concepts": ["k", "l"], "rationale": "why " * n} for n in range(1, 9)
]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Corpus(str(path))


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


@pytest.mark.parametrize(("accumulate", "ranks"), [(4, 1), (1, 2), (2, 3), (20, 2)])
def test_thirty_two_sequences_have_one_gradient_however_they_are_shared_out(
    tiny_model, accumulate, ranks
):
    # The mean over micro-batches and ranks is what Lightning and the strategies take; of 20 x 2
    # micro-batches eight are empty.
    scorer = TargetLogprobs(load_causal_lm(str(tiny_model), torch.float32))
    examples = [
        Example((65,) * n + tuple(range(1, m)), tuple(range(1, m)), (m - 1,))
        for n, m in [(3 + i % 5, 2 + i * 7 % 30) for i in range(32)]
    ]

    plan = Plan((), seed=0, batch_size=32)

    def gradient(accumulate, ranks):
        scorer.zero_grad()
        for rank in range(ranks):
            share = (accumulate, (rank, ranks))
            for batch in micro_batches(RowsInMemory(examples), plan, range(32), *share, pack):
                (-scorer(batch).sum() / batch.denominator / (accumulate * ranks)).backward()
        return torch.cat([p.grad.flatten() for p in scorer.parameters()])

    whole = gradient(1, 1)
    assert (gradient(accumulate, ranks) - whole).norm() < 1e-5 * whole.norm()


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


@pytest.mark.parametrize(
    "limit", [{"limit_train_batches": 3}, {"limit_train_batches": 0.35}, {"overfit_batches": 5}]
)
def test_a_limit_that_cuts_a_step_is_refused(tiny_model, corpus, tmp_path, limit):
    data = ComposeDataModule(str(tiny_model), corpus, batch_size=2)  # 4 steps of 4 micro-batches
    with pytest.raises(ValueError, match=r"[345] micro-batches an epoch end within a step of 4"):
        fit(MStepModule(str(tiny_model), SGD), data, tmp_path, 4, **limit)


@pytest.mark.parametrize("limit", [{"limit_train_batches": 0.5}, {"fast_dev_run": True}])
def test_a_limit_between_steps_and_a_trial_run_are_taken(tiny_model, corpus, tmp_path, limit):
    data = ComposeDataModule(str(tiny_model), corpus, batch_size=2)
    trainer = fit(MStepModule(str(tiny_model), SGD), data, tmp_path, 4, **limit)
    assert trainer.global_step == (1 if "fast_dev_run" in limit else 2)


@pytest.mark.parametrize("count", [0, -4])
def test_steps_of_nothing_are_refused(tiny_model, corpus, tmp_path, count):
    with pytest.raises(ValueError, match=f"batch_size={count}: a step has at least 1 row"):
        ComposeDataModule(str(tiny_model), corpus, batch_size=count)
    with pytest.raises(ValueError, match=f"max_tokens={count}: a row has at least 2"):
        ComposeDataModule(str(tiny_model), corpus, max_tokens=count)
    data = ComposeDataModule(str(tiny_model), corpus)
    with pytest.raises(ValueError, match=f"batches={count}: a step has at least 1 micro-batch"):
        fit(MStepModule(str(tiny_model), SGD), data, tmp_path, count)


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


def test_rows_beyond_the_models_context_are_left_out_whatever_max_tokens_says(
    tiny_model, tmp_path, caplog
):
    path = tmp_path / "rows.jsonl"
    lengths = (10, 2048)
    path.write_text("".join(json.dumps({**ROWS[0], "statement": "a" * n}) + "\n" for n in lengths))
    data = ComposeDataModule(str(tiny_model), Corpus(str(path)), max_tokens=4096)
    data.setup("fit")
    assert len(data.examples) == 1
    assert "1 of 2 rows are longer than 2048 tokens" in caplog.text


def test_a_corpus_without_rationales_is_refused(tiny_model, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"statement": "one", "concepts": ["k"]}\n')
    data = ComposeDataModule(str(tiny_model), Corpus(str(path)))
    with pytest.raises(ValueError, match="has no row to train on"):
        data.setup("fit")


def test_held_out_rows_are_validated_to_the_token_and_predicted_by_id(tiny_model, corpus, tmp_path):
    module = MStepModule(str(tiny_model))
    data = ComposeDataModule(str(tiny_model), corpus, batch_size=3, held_out=corpus)
    trainer = quiet_trainer(
        tmp_path,
        callbacks=[WritePredictions()],
    )
    [metrics] = trainer.validate(module, data, verbose=False)
    (tmp_path / "predictions-1.jsonl").write_text("of a second rank, before\n")
    trainer.predict(module, data)
    [file] = tmp_path.glob("predictions-*")
    rows = list(map(json.loads, file.read_text().splitlines()))
    ids = [problem.id for problem in read_corpus(corpus).problems]
    assert [row["id"] for row in rows] == ids
    # A row of statement "a" * n: tags, problem and end token; one token a character.
    tags = sum(map(len, PromptFormat().problem_tags))
    assert [row["tokens"][1] for row in rows] == [tags + n + 1 for n in range(1, 9)]
    nats = sum(sum(row["nats"]) for row in rows)
    tokens = sum(sum(row["tokens"]) for row in rows)
    assert metrics["m_step/val_loss"] == pytest.approx(-nats / tokens, rel=1e-5)


def fit_command(tiny_model, corpus, folder, strategy, devices):
    return [
        *(sys.executable, "cli.py", "fit", "--config", "configs/cold_start_p.yaml"),
        *("--model.weights", str(tiny_model), "--data.weights", str(tiny_model)),
        *("--data.corpus.path", corpus.path, "--data.batch_size", "3"),
        *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
        *("--trainer.strategy", strategy, "--trainer.devices", devices),
        *("--trainer.logger", "false", "--trainer.default_root_dir", str(folder)),
    ]


def fit_by_command(tiny_model, corpus, folder, strategy, devices, ranks=1):
    arguments = fit_command(tiny_model, corpus, folder, strategy, devices)[2:]
    return forked.run(arguments, {**os.environ, "OMP_NUM_THREADS": "1"}, ranks=ranks)


@pytest.mark.slow
def test_a_sharded_fit_that_was_killed_goes_on_bit_for_bit(tiny_model, corpus, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ended = fit_by_command(tiny_model, corpus, whole, "fsdp2", "2")
    assert ended.returncode == 0, ended.stderr
    arguments = fit_command(tiny_model, corpus, cut, "fsdp2", "2")[2:]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    forked.killed_when(cut / "progress" / "latest.json", arguments, environment, ranks=2)
    resumed = fit_by_command(tiny_model, corpus, cut, "fsdp2", "2", ranks=2)
    assert resumed.returncode == 0, resumed.stderr
    assert "going on with the interrupted fit" in resumed.stderr
    expected, found = (load_file(f / "weights" / "model.safetensors") for f in (whole, cut))
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_the_first_fsdp_is_refused_by_name(tiny_model, corpus, tmp_path):
    ended = fit_by_command(tiny_model, corpus, tmp_path, "fsdp", "2")
    assert ended.returncode == 2
    assert "the strategy fsdp cannot clip a gradient by its norm" in ended.stderr
    assert "--trainer.strategy fsdp2" in ended.stderr
    assert "Traceback" not in ended.stderr
