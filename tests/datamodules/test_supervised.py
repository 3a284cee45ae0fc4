"""Rows of any file are encoded once, and counted by source; what decides them cannot change."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from lightning.pytorch.loggers import CSVLogger
from quiet_fit import fit, quiet_trainer
from tiny import save_tiny_model
from transformers import AutoTokenizer

from callbacks import SaveProgress
from datamodules import SolutionDataModule, supervised
from datamodules.conversations import ConversationEncoder, messages_of
from datamodules.preferences import PairEncoder
from datamodules.supervised import Weighted
from modules import SFTModule
from promptcot.chats import Message, UnusableRow
from promptcot.corpora import Corpus
from promptcot.prompts import PromptFormat

CHECKOUT = Path(__file__).parents[2]
ROWS = [{"prompt": f"{n}+{n}?", "solution": "s" * (n % 7 + 1)} for n in range(20)]


def write_jsonl(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(str(path))


def data_of(model, source, **settings):
    where = {"mixture": source} if isinstance(source, dict) else {"corpus": source}
    return SolutionDataModule(str(model), chat=False, batch_size=4, **where, **settings)


def encoded(model, source, folder, **settings):
    """The rows that a fit would have, without fitting."""
    data = data_of(model, source, **settings)
    trainer = quiet_trainer(folder)
    data.trainer = trainer
    data.setup("fit")
    return data


def stores(folder):
    return {path: path.stat().st_mtime_ns for path in (folder / "encoded").glob("*/rows.arrow")}


def test_files_of_any_kind_give_the_same_rows(tiny_model, tmp_path):
    corpora = {"jsonl": write_jsonl(tmp_path / "rows.jsonl")}
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    corpora["json"] = Corpus(str(tmp_path / "rows.json"))
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
    corpora["parquet"] = Corpus(str(tmp_path / "rows.parquet"))
    for number in (0, 1):
        write_jsonl(tmp_path / f"part-{number}.jsonl", ROWS[10 * number : 10 * number + 10])
    corpora["pattern"] = Corpus(str(tmp_path / "part-*.jsonl"))
    (tmp_path / "folder").mkdir()
    write_jsonl(tmp_path / "folder" / "train.jsonl")
    corpora["folder"] = Corpus(str(tmp_path / "folder"))
    found = {}
    for kind, corpus in corpora.items():
        data = encoded(tiny_model, corpus, tmp_path / f"fit-{kind}")
        assert len(data.examples) == len(ROWS)
        found[kind] = (list(data.examples), data.examples.fingerprint, data.counts)
    assert all(of == found["jsonl"] for of in found.values())
    # one token a character: the prompt, the solution, the end token
    assert [len(row) for row in data.examples] == [
        len(r["prompt"] + r["solution"]) + 1 for r in ROWS
    ]


def test_rows_are_encoded_once_and_anew_when_what_decides_them_changes(
    tiny_model, tmp_path, monkeypatch
):
    corpus = write_jsonl(tmp_path / "rows.jsonl")
    encoded(tiny_model, corpus, tmp_path)
    first = stores(tmp_path)
    assert len(first) == 1
    encoded(tiny_model, corpus, tmp_path)
    assert stores(tmp_path) == first
    write_jsonl(tmp_path / "rows.jsonl", ROWS[:19])
    assert len(encoded(tiny_model, corpus, tmp_path).examples) == 19
    second = stores(tmp_path)
    assert len(second) == 1  # the old one is removed
    assert second.keys() != first.keys()
    encoded(tiny_model, corpus, tmp_path, max_tokens=12, max_unusable=0.5)
    third = stores(tmp_path)
    assert third.keys() != second.keys()
    monkeypatch.setattr(supervised, "ENCODING", supervised.ENCODING + 1)
    encoded(tiny_model, corpus, tmp_path, max_tokens=12, max_unusable=0.5)
    assert stores(tmp_path).keys() != third.keys()


def test_another_tokenizer_or_chat_template_encodes_anew(tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl")
    model = save_tiny_model(tmp_path / "model")
    names = [set(stores_of(model, corpus, tmp_path))]
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}<end>{% endfor %}"
    tokenizer.save_pretrained(model)
    names.append(set(stores_of(model, corpus, tmp_path)))
    tokenizer.add_tokens(["ss"])
    tokenizer.save_pretrained(model)
    names.append(set(stores_of(model, corpus, tmp_path / "other", max_unusable=1)))
    assert len({path.parent.name for of in names for path in of}) == 3


def stores_of(model, corpus, folder, **settings):
    """The store, though rows may have ids that the model does not know."""
    data = data_of(model, corpus, **settings)
    data.trainer = quiet_trainer(folder)
    folder.joinpath("encoded").mkdir(parents=True, exist_ok=True)
    name = data._name(data.mixture)
    return [folder / "encoded" / name / "rows.arrow"]


ENCODE = """
import sys
from pathlib import Path
from datamodules import SolutionDataModule, supervised
from promptcot.corpora import Corpus
from promptcot.prompts import PromptFormat
from quiet_fit import quiet_trainer

model, corpus, folder = sys.argv[1:]
written = supervised.write_rows

def told(*arguments):
    print("encodes", flush=True)
    return written(*arguments)

supervised.write_rows = told
data = SolutionDataModule(model, corpus=Corpus(corpus), chat=False)
data.trainer = quiet_trainer(Path(folder))
print("ready", flush=True)
sys.stdin.readline()
data.setup("fit")
print(data.examples.fingerprint, len(data.examples))
"""


def test_two_processes_that_start_at_once_encode_once(tiny_model, tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl", ROWS * 200)
    command = [sys.executable, "-c", ENCODE, str(tiny_model), corpus.path, str(tmp_path / "fit")]
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests")])
    both = [
        subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for _ in range(2)
    ]
    for child in both:
        assert "ready\n" in iter(child.stdout.readline, "")
    for child in both:
        child.stdin.write("\n")
        child.stdin.flush()
    said = [child.communicate(timeout=60)[0].splitlines() for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert sum("encodes" in lines for lines in said) == 1
    assert said[0][-1] == said[1][-1]
    assert said[0][-1].endswith(" 4000")


def mixture(tmp_path):
    a = write_jsonl(tmp_path / "a.jsonl", ROWS[:8])
    b = write_jsonl(tmp_path / "b.jsonl", [*ROWS[8:], {"prompt": "p", "solution": ""}])
    return {"a": Weighted(a, 2.0), "b": Weighted(b, 0.5)}


def test_rows_and_tokens_of_each_source_are_in_the_logs_of_each_epoch(tiny_model, tmp_path):
    logger = CSVLogger(tmp_path / "logs")
    data = data_of(tiny_model, mixture(tmp_path), max_unusable=0.1)
    fit(
        *(SFTModule(str(tiny_model)), data, tmp_path),
        epochs=2,
        logger=logger,
        log_every_n_steps=1,
    )
    with open(Path(logger.log_dir) / "metrics.csv") as file:
        lines = list(csv.DictReader(file))

    def logged(name):
        return [float(line[name]) for line in lines if line.get(name)]

    assert logged("data/a/rows") == [8]
    assert logged("data/b/rows") == [13]
    assert logged("data/b/sequences") == [12]
    assert logged("data/b/rows_unusable") == logged("data/b/unusable_no_solution") == [1]
    assert logged("epoch/a/rows") == [16, 16]
    assert logged("epoch/b/rows") == [6, 6]
    targets = [len(row["solution"]) + 1 for row in ROWS]
    tokens = [len(row["prompt"]) + count for row, count in zip(ROWS, targets, strict=True)]
    assert logged("epoch/a/tokens") == [2 * sum(tokens[:8])] * 2
    assert logged("epoch/a/target_tokens") == [2 * sum(targets[:8])] * 2
    # of b each epoch has the other half
    assert sum(logged("epoch/b/tokens")) == sum(tokens[8:])
    assert sum(logged("epoch/b/target_tokens")) == sum(targets[8:])


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_above_zero_is_refused(weight):
    with pytest.raises(ValueError, match="must be above 0"):
        Weighted(Corpus("rows.jsonl"), weight)


def test_rows_come_from_one_corpus_or_from_a_mixture(tiny_model):
    for both in ({}, {"corpus": Corpus(), "mixture": {"a": Weighted(Corpus())}}):
        with pytest.raises(ValueError, match=r"data\.corpus or as data\.mixture"):
            SolutionDataModule(str(tiny_model), **both)


class KeepProgress(SaveProgress):
    """Leaves the last checkpoint, as a fit does that is killed before its end."""

    def on_fit_end(self, trainer, pl_module):
        pass


def cut_off_fit(model, source, folder, accumulate=2, **settings):
    """A fit that stops in its first epoch, or one that goes on from there."""
    saver = KeepProgress()
    config = {"seed_everything": 1, "model": {}, "data": {}, "trainer": {}}
    found = saver.resume(folder, config)
    trainer = quiet_trainer(
        folder,
        max_epochs=2 if found else 1,
        accumulate_grad_batches=accumulate,
        callbacks=[saver],
    )
    trainer.fit(
        SFTModule(str(model)),
        data_of(model, source, **settings),
        ckpt_path=found,
        weights_only=True,
    )
    return trainer


def test_a_fit_goes_on_with_the_same_rows_alone(tiny_model, tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl")
    cut_off_fit(tiny_model, corpus, tmp_path)
    write_jsonl(tmp_path / "rows.jsonl", ROWS[::-1])
    with pytest.raises(ValueError, match="are not those that the checkpoint was trained on"):
        cut_off_fit(tiny_model, corpus, tmp_path)


def test_a_fit_within_a_token_budget_goes_on_with_as_many_micro_batches(tiny_model, tmp_path):
    corpus = write_jsonl(tmp_path / "rows.jsonl")
    budget = {"token_budget": 40, "max_tokens": 40}
    cut_off_fit(tiny_model, corpus, tmp_path, **budget)
    with pytest.raises(ValueError, match=r"had 2 micro-batches in a step, .* would now have 4"):
        cut_off_fit(tiny_model, corpus, tmp_path, accumulate=4, **budget)
    assert cut_off_fit(tiny_model, corpus, tmp_path, **budget).current_epoch == 2


def test_several_processes_encode_as_one_does(tiny_model, tmp_path):
    rows = [*ROWS, {"prompt": "empty?", "solution": ""}] * 20
    one, two = (
        encoded(
            tiny_model,
            write_jsonl(tmp_path / "rows.jsonl", rows),
            tmp_path / str(workers),
            num_workers=workers,
            max_unusable=0.1,
        )
        for workers in (1, 2)
    )
    assert one.counts == two.counts
    assert one.counts["unusable_no_solution"] == 20
    assert one.examples.fingerprint == two.examples.fingerprint


@pytest.mark.parametrize("part", ["tool_calls", "reasoning_content", "thinking"])
def test_what_a_message_says_beside_its_content_is_not_left_out_without_a_word(part):
    plain = {"role": "assistant", "content": "4"}
    assert list(messages_of([plain | {part: None}], "row 1")) == [Message("assistant", "4")]
    with pytest.raises(UnusableRow, match=rf"row 1 message 1 has {part}, which would be left out"):
        list(messages_of([plain | {part: "2 + 2"}], "row 1"))


def test_an_answer_of_weight_0_stands_in_the_sequence_and_is_not_learned(embedded_weights):
    tokenizer = AutoTokenizer.from_pretrained(embedded_weights)
    encoder = ConversationEncoder(tokenizer, PromptFormat(), chat=True)
    said = [
        {"role": role, "content": content}
        for role, content in zip(
            ["user", "assistant"] * 2, ["1+1?", "3", "Sure?", "2"], strict=True
        )
    ]
    [whole] = encoder.encode({"messages": said}, "row 1")
    [last] = encoder.encode({"messages": [said[0], said[1] | {"weight": 0}, *said[2:]]}, "row 1")
    [first] = encoder.encode({"messages": [*said[:3], said[3] | {"weight": 0}]}, "row 1")
    assert whole.tokens == last.tokens == first.tokens
    assert first.spans + last.spans == whole.spans
    assert encoder.encode({"messages": [m | {"weight": 1} for m in said]}, "row 1") == (whole,)
    for weight, what in ((0, "all the answers have weight 0"), (0.5, "message 2 has weight 0.5")):
        with pytest.raises(UnusableRow, match=rf"^row 1.*{what}"):
            encoder.encode({"messages": [said[0], said[1] | {"weight": weight}]}, "row 1")


def test_a_row_with_tools_is_not_learned_without_them(embedded_weights):
    tokenizer = AutoTokenizer.from_pretrained(embedded_weights)
    row = {"prompt": "1+1?", "solution": "2", "chosen": "2", "rejected": "3"}
    sft = ConversationEncoder(tokenizer, PromptFormat(), chat=True).encode
    dpo = PairEncoder(tokenizer, PromptFormat(), chat=True).pair
    for encode in (sft, dpo):
        assert encode(row | {"tools": []}, "row 1") == encode(row | {"tools": None}, "row 1")
        with pytest.raises(UnusableRow, match=r"row 1 has tools, .*calculator"):
            encode(row | {"tools": [{"name": "calculator"}]}, "row 1")
