"""Where the memory is full, the settings that need less are named, as they are."""

import os
from pathlib import Path

import forked
import pytest
from greedy_fit import Greedy
from quiet_fit import quiet_trainer
from tiny_run import write_jsonl

from datamodules import ComposeDataModule
from modules.adapters import LoRA
from modules.memory import cures_of
from promptcot.corpora import Corpus

HERE = Path(__file__).parents[1]
SMALLER = "trainer.accumulate_grad_batches=4 (now 2), the same steps in smaller micro-batches"
SHORTER = "a lower data.max_tokens (now 999), which costs the longer rows"
RECOMPUTED = "model.gradient_checkpointing=true (now {})"
SHARDED = "trainer.strategy=fsdp2 on several GPUs, which share the weights out"
ADAPTER = "model.adapter, to train a LoRA instead of all weights"


@pytest.fixture
def corpus(tmp_path):
    texts = {"statement": "So?", "concepts": ["k"], "rationale": "as it is"}
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"id": f"r{n}", **texts} for n in range(6)])
    return Corpus(str(path))


def cures(run, folder, module, data, **settings):
    trainer = quiet_trainer(folder, **settings)
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        getattr(trainer, run)(module, data)
    return cures_of(trainer, module, data)


def rows(model, corpus, **settings):
    return ComposeDataModule(str(model), corpus, **{"max_tokens": 999, **settings})


@pytest.mark.parametrize(
    ("model", "data", "named"),
    [
        ({}, {"batch_size": 3}, [SMALLER, RECOMPUTED.format("false"), SHARDED, ADAPTER, SHORTER]),
        (
            {"gradient_checkpointing": 0.5},
            {"batch_size": 2},  # of one row each
            [RECOMPUTED.format("0.5"), SHARDED, ADAPTER, SHORTER],
        ),
        (
            {"gradient_checkpointing": True, "adapter": LoRA()},
            {"token_budget": 1200},
            ["data.token_budget=999 (now 1200)", SHARDED, SHORTER],
        ),
        ({}, {"token_budget": 999}, [RECOMPUTED.format("false"), SHARDED, ADAPTER, SHORTER]),
    ],
)
def test_a_fit_is_told_what_it_does_not_do_yet(tiny_model, corpus, tmp_path, model, data, named):
    module = Greedy(str(tiny_model), **model)
    given = {"accumulate_grad_batches": 2, "max_epochs": 1, "enable_checkpointing": False}
    assert cures("fit", tmp_path, module, rows(tiny_model, corpus, **data), **given) == named


def test_an_evaluation_keeps_nothing_for_a_backward_pass(tiny_model, corpus, tmp_path):
    data = rows(tiny_model, corpus, batch_size=3, held_out=corpus)
    found = cures("validate", tmp_path, Greedy(str(tiny_model)), data, accumulate_grad_batches=2)
    assert found == [SMALLER, SHARDED, SHORTER]


def test_a_command_ends_with_torchs_sentence_and_the_cures(tiny_model, corpus, tmp_path):
    given = {
        "model": "greedy_fit.Greedy",
        "model.weights": tiny_model,
        "data.weights": tiny_model,
        "data.corpus.path": corpus.path,
        "trainer.accelerator": "cpu",
        "trainer.default_root_dir": tmp_path / "out",
    }
    flags = [f"--{key}={value}" for key, value in given.items()]
    ended = forked.run(
        ("fit", "--config=configs/m_step.yaml", *flags),
        {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("error: [enforce fail at alloc_cpu.cpp")
    assert "you tried to allocate 4611686018427387904 bytes" in last
    assert "What needs less, cheapest first: trainer.accumulate_grad_batches=8 (now 4)" in last
    assert "Traceback" not in ended.stderr
