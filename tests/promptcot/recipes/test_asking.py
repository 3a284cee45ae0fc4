"""Asking: what is on disk is not asked again, what cannot be asked is named, nothing is mixed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
import yaml

from promptcot.chunks import chunks
from promptcot.command_line import make_command
from promptcot.configs import to_config
from promptcot.engines import HFEngine, ScriptedEngine, ServerEngine
from promptcot.prompts import PromptFormat
from promptcot.protocols import Sampling
from promptcot.recipes import Annotate, Rationales, make_round
from promptcot.recipes.asking import LONG_PROMPT, seed_of
from promptcot.store import DROPPED, Row, read_manifest, read_round

CHECKOUT = Path(__file__).parents[3]
FORMAT = PromptFormat(rationale_tags=("<z>", "</z>"), problem_tags=("[", "</x>"))
NAMES = ["sum", "root", "tree", "dice", "area", "line", "loop"]
ROWS = [{"id": name, "statement": f"Find the {name}.", "concepts": [name]} for name in NAMES]
STAGES = ("sampled_rationales", "rewards", "rows")


class Stopping(HFEngine):
    """Fails after so many results, and notes what it was asked and when it was opened and closed.

    Args:
        weights: Folder of the model.
        stop_after: Results of all calls of one engine, then an error; None: never.
        notes: Gets "open", ("ask", number of requests) and "close".
    """

    RESOURCES = HFEngine.RESOURCES | {"stop_after", "notes"}

    def __init__(
        self, weights: str, stop_after: int | None = None, notes: Sequence[object] = ()
    ) -> None:
        super().__init__(weights, dtype="float32", batch_size=3)
        self.left = stop_after
        self.notes = notes if isinstance(notes, list) else []
        self.notes.append("open")

    def generate(self, requests, sampling):
        self.notes.append([request.prompt for request in requests])
        return self._counted(super().generate(requests, sampling))

    def score(self, requests):
        self.notes.append([request.prompt for request in requests])
        return self._counted(super().score(requests))

    def close(self) -> None:
        super().close()
        self.notes.append("close")

    def _counted(self, results) -> Iterator:
        for result in results:
            if self.left == 0:
                raise ConnectionAbortedError("stopped")
            self.left = None if self.left is None else self.left - 1
            yield result


@pytest.fixture
def recipe(models, write_corpus):
    """Seven problems, four samples each, in batches of three, three and one."""
    return partial(
        Rationales,
        rationale_model=models[0],
        prompt_model=models[1],
        corpus=write_corpus(ROWS),
        sampling=Sampling(n=4, max_tokens=60),
        engine=Stopping,
        format=FORMAT,
    )


def lines(path: Path) -> list[Row]:
    """Every line of a file, each a whole JSON object."""
    content = path.read_bytes() if path.exists() else b""
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def timeless(folder: Path) -> Row:
    """A manifest without how long it took."""
    return {k: v for k, v in read_manifest(folder).items() if k != "seconds"}


@pytest.mark.parametrize("stop_after", [0, 1, 3, 5, 7])
def test_an_interrupted_sampling_asks_only_for_the_batches_that_are_missing(
    recipe, tmp_path, stop_after
):
    make_round(recipe(), tmp_path / "whole")
    stopping = partial(Stopping, stop_after=stop_after)
    with pytest.raises(ConnectionAbortedError):
        make_round(recipe(engine=stopping), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    there = lines(tmp_path / "cut.partial" / "sampled_rationales.jsonl")
    assert len(there) == stop_after  # each was on disk as soon as it came
    assert lines(tmp_path / "cut.partial" / "rows.jsonl") == []

    notes: list[object] = []
    make_round(recipe(engine=partial(Stopping, notes=notes)), tmp_path / "cut")
    # Of the batches {0, 1, 2}, {3, 4, 5}, {6} those that are whole are not asked again.
    missing = [i for batch in chunks(7, 3) if batch[-1] >= stop_after for i in batch]
    asked = [note for note in notes if isinstance(note, list)]
    if missing:
        assert [next(n for n in NAMES if f"the {n}." in p) for p in asked.pop(0)] == [
            NAMES[i] for i in missing
        ]
    assert len(asked) == 1  # and once to score
    for stage in STAGES:
        a, b = (tmp_path / name / f"{stage}.jsonl" for name in ("whole", "cut"))
        assert a.read_bytes() == b.read_bytes()
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")


@pytest.mark.parametrize("stop_after", [1, 4])
def test_an_interrupted_scoring_does_not_open_the_rationale_model_again(
    recipe, models, tmp_path, stop_after
):
    make_round(recipe(), tmp_path / "whole")

    def stop_at_p(weights: str) -> Stopping:
        return Stopping(weights, stop_after if weights == models[1] else None)

    stop_at_p.__module__, stop_at_p.__qualname__ = Stopping.__module__, Stopping.__qualname__
    with pytest.raises(ConnectionAbortedError):
        make_round(recipe(engine=stop_at_p), tmp_path / "cut")
    assert len(lines(tmp_path / "cut.partial" / "rewards.jsonl")) == stop_after

    notes: list[object] = []
    make_round(recipe(engine=partial(Stopping, notes=notes)), tmp_path / "cut")
    total = len(read_round(tmp_path / "whole", "rewards"))
    opened, asked, closed = notes  # once, of p
    assert (opened, len(asked), closed) == ("open", total - stop_after // 3 * 3, "close")
    assert timeless(tmp_path / "whole") == timeless(tmp_path / "cut")


def test_one_model_is_closed_before_the_other_is_opened_even_after_an_error(recipe, tmp_path):
    notes: list[object] = []
    make_round(recipe(engine=partial(Stopping, notes=notes)), tmp_path / "a")
    words = [note for note in notes if isinstance(note, str)]
    assert words == ["open", "close", "open", "close"]
    notes.clear()
    with pytest.raises(ConnectionAbortedError):
        make_round(recipe(engine=partial(Stopping, stop_after=2, notes=notes)), tmp_path / "b")
    assert [note for note in notes if isinstance(note, str)] == ["open", "close"]


def test_a_killed_process_leaves_whole_rows_and_the_same_command_ends_as_an_undisturbed_one(
    models, write_corpus, tmp_path
):
    rows = [{"id": str(n), "statement": f"Find {n}.", "concepts": ["k"]} for n in range(60)]
    recipe = Rationales(
        *models,
        corpus=write_corpus(rows),
        sampling=Sampling(n=4, max_tokens=60),
        engine=partial(HFEngine, dtype="float32", batch_size=3),
        format=FORMAT,
    )
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(to_config(recipe)))
    arguments = ["rationales", "--config", str(config), "--folder"]
    file = tmp_path / "cut.partial" / "sampled_rationales.jsonl"
    command = [sys.executable, "cli.py", "make", *arguments, str(tmp_path / "cut")]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (file.exists() and file.stat().st_size):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    before = lines(file)
    assert 0 < len(before) < len(rows)
    assert not (tmp_path / "cut").exists()

    make_command([*arguments, str(tmp_path / "cut")])
    make_command([*arguments, str(tmp_path / "whole")])
    assert timeless(tmp_path / "cut") == timeless(tmp_path / "whole")
    assert read_round(tmp_path / "cut") == read_round(tmp_path / "whole")
    assert read_round(tmp_path / "cut", "sampled_rationales")[: len(before)] == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 7}, r"seed = 42, now it is 7"),
        ({"sampling": Sampling(n=4, max_tokens=61)}, r"sampling\.max_tokens = 60, now it is 61"),
        ({"min_words": 2}, r"min_words = 0, now it is 2"),
        ({"format": PromptFormat()}, r"format = '\w{16}', now it is '\w{16}'"),
        ({"engine": HFEngine}, r"engine\.class_path = '.*Stopping', now it is '.*HFEngine'"),
        ({"prompt_model": "other/model"}, r"prompt_model = '\w{16}', now it is '\w{16}'"),
    ],
)
@pytest.mark.parametrize("stop_after", [2, None])
def test_other_settings_are_refused_by_name_and_both_values(
    recipe, tmp_path, change, message, stop_after
):
    try:
        make_round(recipe(engine=partial(Stopping, stop_after=stop_after)), tmp_path / "r")
    except ConnectionAbortedError:
        assert stop_after == 2
    state = "r" if stop_after is None else "r.partial"
    with pytest.raises(ValueError, match=rf"{state} was made with {message}: give the old value"):
        make_round(recipe(**change), tmp_path / "r")


def test_another_row_in_the_corpus_is_another_setting(recipe, write_corpus, tmp_path):
    made = recipe(engine=ScriptedEngine)
    make_round(made, tmp_path / "r")
    make_round(made, tmp_path / "r")  # the same again: it is there
    write_corpus([*ROWS, {"id": "new", "statement": "Find it.", "concepts": ["k"]}])
    with pytest.raises(ValueError, match=r"corpus = '\w{16}', now it is '\w{16}'"):
        make_round(made, tmp_path / "r")


def test_how_much_of_the_machine_an_engine_takes_and_where_it_asks_decide_nothing(
    recipe, write_corpus, tmp_path
):
    for device in ("auto", "cpu"):
        made = recipe(engine=partial(HFEngine, dtype="float32", device=device))
        make_round(made, tmp_path / "local")

    # All is annotated, so that nobody is asked and no server is needed.
    corpus = write_corpus([{**row, "rationale": "why"} for row in ROWS], "annotated")

    def annotate(**arguments) -> None:
        engine = partial(ServerEngine, **arguments)
        make_round(Annotate(corpus, teacher="big", engine=engine), tmp_path / "served")

    annotate(base_url="http://127.0.0.1:8000/v1")
    annotate(base_url="http://127.0.0.1:8001/v1", concurrency=2, timeout_s=5.0)
    with pytest.raises(ValueError, match=r"engine\.init_args\.chat = True, now it is False"):
        annotate(chat=False)


def test_a_prompt_too_long_for_the_context_is_dropped_counted_and_named_not_cut(
    recipe, write_corpus, tmp_path
):
    # q's prompt has 247 characters beside the statement and the one-letter concept; with 60 to
    # write it fills the context of 2048 where the statement has 1740.
    spare = 2048 - 60 - len(FORMAT.rationale_prompt(_problem("")))
    rows = [{"id": str(n), "statement": "x" * n, "concepts": ["k"]} for n in (spare, spare + 1, 9)]
    notes: list[object] = []
    made = recipe(
        corpus=write_corpus(rows, "long"),
        engine=partial(Stopping, notes=notes),
        sampling=Sampling(n=8, max_tokens=60),
    )
    manifest = make_round(made, tmp_path / "r")
    assert manifest["dropped"][LONG_PROMPT] == 1
    [dropped] = [r for r in read_round(tmp_path / "r", DROPPED) if r["reason"] == LONG_PROMPT]
    assert dropped["length"] == "1989 tokens and 60 to write, the context holds 2048"
    asked = notes[1]
    assert isinstance(asked, list)
    assert [len(prompt) for prompt in asked] == [1988, 1988 - spare + 9]
    kept = {row["key"] for row in read_round(tmp_path / "r", "sampled_rationales")}
    assert len(kept) == 2
    assert dropped["key"] not in kept


def _problem(statement: str):
    from promptcot.records import Domain, Problem

    return Problem("p", Domain.MATH, statement, ("k",), "AIME")


def test_a_seed_depends_on_its_parts_alone():
    assert seed_of(42, "bound", "a") == seed_of(42, "bound", "a")
    seeds = [seed_of(s, w, k) for s in range(20) for w in ("greedy", "bound") for k in range(20)]
    assert len(set(seeds)) == 800
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_the_order_of_the_problems_changes_no_sample(recipe, write_corpus, tmp_path):
    engine = partial(ScriptedEngine, replies=[f"because {n}" for n in range(50)])
    make_round(recipe(engine=engine), tmp_path / "a")
    corpus = write_corpus(ROWS[::-1], "reversed")
    make_round(recipe(engine=engine, corpus=corpus), tmp_path / "b")
    assert read_round(tmp_path / "a") == read_round(tmp_path / "b")[::-1]
