"""Asking: what is on disk is not asked again, what cannot be asked is named, nothing is mixed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import yaml

from promptcot.chunks import chunks
from promptcot.command_line import make_command
from promptcot.configs import to_config
from promptcot.corpora import Corpus
from promptcot.engines import HFEngine, ScriptedEngine, ServerEngine
from promptcot.prompts import PromptFormat
from promptcot.protocols import REFUSED, Completion, Request, Sampling
from promptcot.recipes import Annotate, Rationales, make_round
from promptcot.recipes.asking import LONG_PROMPT, complete, seed_of
from promptcot.records import Domain, Problem
from promptcot.store import DROPPED, Row, open_round, read_manifest, read_round

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


@pytest.fixture(scope="module")
def recipe(models, tmp_path_factory):
    """Seven problems, four samples each, in batches of three, three and one."""
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return partial(
        Rationales,
        rationale_model=models[0],
        prompt_model=models[1],
        corpus=Corpus(str(path)),
        sampling=Sampling(n=4, max_tokens=40),
        engine=Stopping,
        format=FORMAT,
    )


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    """The round of ``recipe``, made at one go."""
    folder = tmp_path_factory.mktemp("undisturbed") / "whole"
    make_round(recipe(), folder)
    return folder


def lines(path: Path) -> list[Row]:
    """Every line of a file, each a whole JSON object."""
    content = path.read_bytes() if path.exists() else b""
    assert content == b"" or content.endswith(b"\n")
    return [json.loads(line) for line in content.splitlines()]


def timeless(folder: Path) -> Row:
    """A manifest without how long it took."""
    return {k: v for k, v in read_manifest(folder).items() if k != "seconds"}


@pytest.mark.parametrize("stop_after", [0, 1, 3, 6])
def test_an_interrupted_sampling_asks_only_for_the_batches_that_are_missing(
    recipe, undisturbed, tmp_path, stop_after
):
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
    names = [next(n for n in NAMES if f"the {n}." in prompt) for prompt in asked[0]]
    assert names == [NAMES[i] for i in missing]
    assert len(asked) == 2  # and once to score
    for stage in STAGES:
        a, b = (folder / f"{stage}.jsonl" for folder in (undisturbed, tmp_path / "cut"))
        assert a.read_bytes() == b.read_bytes()
    assert timeless(undisturbed) == timeless(tmp_path / "cut")


@pytest.mark.parametrize("stop_after", [1, 4])
def test_an_interrupted_scoring_does_not_open_the_rationale_model_again(
    recipe, undisturbed, models, tmp_path, stop_after
):

    def stop_at_p(weights: str) -> Stopping:
        return Stopping(weights, stop_after if weights == models[1] else None)

    stop_at_p.__module__, stop_at_p.__qualname__ = Stopping.__module__, Stopping.__qualname__
    with pytest.raises(ConnectionAbortedError):
        make_round(recipe(engine=stop_at_p), tmp_path / "cut")
    assert len(lines(tmp_path / "cut.partial" / "rewards.jsonl")) == stop_after

    notes: list[object] = []
    make_round(recipe(engine=partial(Stopping, notes=notes)), tmp_path / "cut")
    total = len(read_round(undisturbed, "rewards"))
    assert total > 4
    opened, asked, closed = notes  # once, of p
    assert (opened, len(asked), closed) == ("open", total - stop_after // 3 * 3, "close")
    assert timeless(undisturbed) == timeless(tmp_path / "cut")


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
    rows = [{"id": str(n), "statement": f"Find {n}.", "concepts": ["k"]} for n in range(24)]
    recipe = Rationales(
        *models,
        corpus=write_corpus(rows),
        sampling=Sampling(n=4, max_tokens=40),
        engine=partial(HFEngine, dtype="float32", batch_size=3),
        format=FORMAT,
    )
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(to_config(recipe)))
    arguments = ["rationales", "--config", str(config), "--folder"]
    file = tmp_path / "cut.partial" / "sampled_rationales.jsonl"
    command = [sys.executable, "cli.py", "make", *arguments, str(tmp_path / "cut")]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=CHECKOUT, env=alone, stderr=subprocess.DEVNULL) as process:
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


@pytest.mark.parametrize("stop_after", [2, None])
def test_other_settings_are_refused_by_name_and_both_values(recipe, tmp_path, stop_after):
    with suppress(ConnectionAbortedError):
        make_round(recipe(engine=partial(Stopping, stop_after=stop_after)), tmp_path / "r")
    state = "r.partial" if stop_after else "r"
    assert [path.name for path in tmp_path.glob("r*")] == [state]
    for change, message in [
        ({"seed": 7}, r"seed = 42, now it is 7"),
        ({"sampling": Sampling(n=4, max_tokens=41)}, r"sampling\.max_tokens = 40, now it is 41"),
        ({"min_words": 2}, r"min_words = 0, now it is 2"),
        ({"format": PromptFormat()}, r"format = '\w{16}', now it is '\w{16}'"),
        ({"engine": HFEngine}, r"engine\.class_path = '.*Stopping', now it is '.*HFEngine'"),
        ({"prompt_model": "other/model"}, r"prompt_model = '\w{16}', now it is '\w{16}'"),
    ]:
        with pytest.raises(ValueError, match=f"{state} was made with {message}: give the old"):
            make_round(recipe(**change), tmp_path / "r")


def test_another_row_in_the_corpus_is_another_setting(recipe, write_corpus, tmp_path):
    made = recipe(engine=ScriptedEngine, corpus=write_corpus(ROWS))
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
    # The statement that, with q's wording around it and 60 tokens to write, fills the context.
    spare = 2048 - 60 - len(FORMAT.rationale_prompt(Problem("p", Domain.MATH, "", ("k",), "AIME")))
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


class Apart(ScriptedEngine):
    """Sends its reasoning apart."""

    def generate(self, requests, sampling):
        for index, completions in super().generate(requests, sampling):
            yield index, [replace(c, reasoning="hm", prompt_tokens=7) for c in completions]


def test_reasoning_apart_is_said_once_to_be_lost_and_rows_do_not_grow(
    write_corpus, tmp_path, caplog
):
    recipe = Annotate(write_corpus(ROWS), "teacher", partial(Apart, replies=("no",)))
    make_round(recipe, tmp_path / "r")
    assert caplog.text.count("reasoning apart") == 1
    fields = {
        tuple(c) for row in read_round(tmp_path / "r", "rationales") for c in row["completions"]
    }
    assert fields == {("text", "finished", "tokens", "logprobs")}


class Refused(ScriptedEngine):
    """A server that refuses whatever it is asked."""

    def generate(self, requests, sampling):
        for index, _ in enumerate(requests):
            yield index, [Completion("", finished=False, finish_reason=REFUSED)]


def test_a_refusal_is_an_answer_only_where_no_logprobs_are_needed(tmp_path):
    asked = {"a": Request("x")}
    with open_round(tmp_path / "r", {}) as making:
        with pytest.raises(ValueError, match="max_refused cannot help"):
            complete(making, "needed", Refused, asked, Sampling(), keep="logprobs")
        assert not making.rows("needed")
        [completion] = complete(making, "text", Refused, asked, Sampling())["a"]
        assert (completion.text, completion.finished) == ("", False)
