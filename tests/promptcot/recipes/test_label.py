"""Solutions vote, and what most of them say becomes the reference of a problem without one."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from promptcot.command_line import make_command
from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import ScriptedEngine
from promptcot.protocols import Sampling
from promptcot.recipes import LabelProblems, make_round
from promptcot.recipes.label import NO_TESTS
from promptcot.recipes.making import COPY
from promptcot.store import DROPPED, read_manifest, read_round
from verify import MajorityVote
from verify.votes import Election

CHECKOUT = Path(__file__).parents[3]


class Solver(ScriptedEngine):
    """Answers with the words after the statement's colon in turn; "..." is cut off."""

    def generate(self, requests, sampling):
        for index, request in enumerate(requests):
            words = request.prompt.partition("\n")[0].partition(": ")[2].split()
            texts = ["Let me see. " * 99 if w == "..." else rf"\boxed{{{w}}}" for w in words]
            assert len(texts) == sampling.n
            yield index, [self._completion(text, sampling.max_tokens) for text in texts]


class Stopping(MajorityVote):
    """Dies at a problem."""

    left = 0

    def label(self, completions):
        Stopping.left -= 1
        if Stopping.left == 0:
            raise ConnectionAbortedError
        return super().label(completions)


def asked(words, **more):
    return {"statement": f"Say: {words}", "concepts": ["saying"], **more}


ROWS = [
    asked("1 1 2 1", id="most"),
    asked("5 5 5 5", id="all"),
    asked("- - - -", id="given", reference="7", vote_share=0.75),
    asked("1 1 2 2", id="tie"),
    asked("1 2 3 1", id="half"),
    asked("1 2 3 4", id="itself"),
    asked("... ... ... 3", id="cut"),
    asked("... ... ... ...", id="silent"),
    asked(r"\frac12 0.5 3 x", id="equal"),
    asked("0 0 0 0", id="code", domain="code"),
    asked("0 0 0 0", id="tested", domain="code", tests=[{"stdin": "", "stdout": "1"}]),
    asked("2 ... 2 2", id="blank", reference=" "),
]
"""Of four solutions each; a quorum of a half is two."""


@pytest.fixture
def recipe(write_corpus):
    def build(rows=ROWS, vote=MajorityVote, **changes):
        sampling = Sampling(n=4, max_tokens=100)
        given = {"sampling": sampling, "engine": Solver, **changes}
        return LabelProblems("some/model", vote, write_corpus(rows), **given)

    return build


def lines(folder):
    return {path.name: path.read_text() for path in folder.glob("*.jsonl")}


def test_the_majority_becomes_the_reference_with_its_share_of_all_solutions(recipe, tmp_path):
    make_round(recipe(), tmp_path / "r")
    rows = {row["id"]: row for row in read_round(tmp_path / "r")}
    labels = {
        n: (r["reference"], r["vote_share"], r["votes"], r["cast"])
        for n, r in rows.items()
        if "votes" in r
    }
    assert labels == {
        "most": ("1", 0.75, 3, 4),
        "all": ("5", 1.0, 4, 4),
        "half": ("1", 0.5, 2, 4),
        "equal": (r"0.5", 0.5, 2, 4),
        "blank": ("2", 0.75, 3, 3),
    }
    assert {row["labeller"] for row in rows.values() if "votes" in row} == {"some/model"}
    assert rows["most"]["statement"] == "Say: 1 1 2 1"
    assert list(rows) == ["most", "all", "given", "half", "equal", "tested", "blank"]


def test_copies_are_counted(recipe, tmp_path):
    manifest = make_round(recipe([ROWS[0], *[asked("1 1 1 1")] * 3]), tmp_path / "r")
    assert manifest["dropped"] == {COPY: 2}
    assert manifest["rows"]["rows"] == 2


def test_what_has_a_reference_is_passed_on_as_it_is_and_nobody_asked(recipe, tmp_path):
    made = recipe()
    make_round(made, tmp_path / "r")
    before = {problem.id: problem.to_row() for problem in read_corpus(made.corpus).problems}
    for row in read_round(tmp_path / "r"):
        if row["id"] in ("given", "tested"):
            key = row.pop("key")
            assert row == before[row["id"]]
            assert key not in {r["key"] for r in read_round(tmp_path / "r", "solutions")}


def test_what_is_dropped_is_named_and_all_adds_up(recipe, tmp_path):
    manifest = make_round(recipe(), tmp_path / "r")
    assert manifest["dropped"] == {
        Election.TIE: 2,  # tie and itself
        Election.NO_QUORUM: 1,
        Election.NO_VOTES: 1,
        NO_TESTS: 1,
    }
    assert len(ROWS) == manifest["rows"]["rows"] + manifest["rows"]["dropped"] == 7 + 5
    dropped = {row["id"]: row for row in read_round(tmp_path / "r", DROPPED)}
    assert set(dropped) == {"tie", "itself", "cut", "silent", "code"}
    assert (dropped["cut"]["votes"], dropped["cut"]["cast"]) == (1, 1)


def test_the_figures_by_hand(recipe, tmp_path):
    manifest = make_round(recipe(), tmp_path / "r")
    # of 9 times 4 solutions 3 + 4 + 1 are cut off; shares are 3/4, 1, 1/2, 1/2, 3/4
    assert manifest["figures"] == {
        "asked": 9,
        "given": 2,
        "labelled": 5,
        "cut_off": pytest.approx(8 / 36),
        "mean_vote_share": pytest.approx(0.7),
        "unanimous": pytest.approx(0.2),
    }


def test_where_all_have_references_no_model_is_opened(recipe, tmp_path):
    def nobody(weights: str) -> ScriptedEngine:
        raise AssertionError(weights)

    manifest = make_round(recipe([ROWS[2], ROWS[10]], engine=nobody), tmp_path / "r")
    assert manifest["figures"] == {"asked": 0, "given": 2, "labelled": 0}
    assert manifest["rows"] == {"dropped": 0, "rows": 2, "solutions": 0}


def test_nothing_elected_at_all_is_an_error_that_counts(recipe, tmp_path):
    with pytest.raises(ValueError, match=f"dropped were 2 {Election.TIE}"):
        make_round(recipe([ROWS[3], ROWS[5]]), tmp_path / "r")


def test_the_rows_are_a_corpus_and_labelled_again_stay_as_they_are(recipe, tmp_path):
    make_round(recipe(), tmp_path / "r")
    corpus = Corpus(str(tmp_path / "r" / "rows.jsonl"))
    problems = read_corpus(corpus).problems
    shares = {problem.id: problem.vote_share for problem in problems}
    assert (shares["most"], shares["given"], shares["tested"]) == (0.75, 0.75, None)
    again = LabelProblems("some/model", MajorityVote, corpus, engine=Solver)
    manifest = make_round(again, tmp_path / "again")
    assert manifest["figures"]["given"] == len(problems) == 7
    assert read_corpus(Corpus(str(tmp_path / "again" / "rows.jsonl"))).problems == problems


@pytest.mark.parametrize("stop_at", [1, 4, 9])
def test_a_vote_that_was_interrupted_goes_on_and_ends_as_an_undisturbed_one(
    recipe, tmp_path, stop_at
):
    Stopping.left = stop_at
    with pytest.raises(ConnectionAbortedError):
        make_round(recipe(vote=Stopping), tmp_path / "cut")
    assert not (tmp_path / "cut").exists()
    Stopping.left = 10 - stop_at + 1  # it would die of one that was counted before
    make_round(recipe(vote=Stopping), tmp_path / "cut")
    assert Stopping.left == 1
    make_round(recipe(), tmp_path / "whole")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    figures = [read_manifest(tmp_path / name)["figures"] for name in ("cut", "whole")]
    assert figures[0] == figures[1]


def test_a_killed_process_leaves_whole_rows_and_the_same_command_ends_as_an_undisturbed_one(
    write_corpus, tmp_path
):
    replies = [rf"\boxed{{x+{a}}}" for a in ("2/4", "0.5", "1", r"\frac12")]
    recipe = LabelProblems(
        "some/model",
        MajorityVote,
        write_corpus([{"id": str(n), "statement": f"Find {n}."} for n in range(200)]),
        Sampling(n=4, max_tokens=100),
        partial(ScriptedEngine, replies=replies),
    )
    config = tmp_path / "recipe.yaml"
    config.write_text(yaml.safe_dump(to_config(recipe)))
    arguments = ["label", "--config", str(config), "--folder"]
    file = tmp_path / "cut.partial" / "rows.jsonl"
    command = [sys.executable, "cli.py", "make", *arguments, str(tmp_path / "cut")]
    with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (file.exists() and file.stat().st_size):
            time.sleep(0.002)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 0 < len(file.read_text().splitlines()) < 200
    make_command([*arguments, str(tmp_path / "cut")])
    make_command([*arguments, str(tmp_path / "whole")])
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")
    rows = read_round(tmp_path / "cut")
    assert [row["id"] for row in rows] == [str(n) for n in range(200)]
    assert {(row["votes"], row["cast"]) for row in rows} == {(3, 4)}


def test_other_settings_are_refused_by_name(recipe, write_corpus, tmp_path):
    make_round(recipe(), tmp_path / "r")
    make_round(recipe(), tmp_path / "r")  # the same again: it is there
    for change, name in [
        ({"vote": partial(MajorityVote, quorum=0.6)}, r"vote\.init_args\.quorum = 0\.5, now"),
        ({"vote": partial(MajorityVote, forms=["boxed"])}, r"vote\.init_args\.forms = "),
        ({"sampling": Sampling(n=8, max_tokens=100)}, r"sampling\.n = 4, now it is 8"),
        ({"engine": ScriptedEngine}, r"engine\.class_path = "),
        ({"seed": 7}, r"seed = 42, now it is 7"),
        ({"rows": ROWS[1:]}, r"corpus = '\w{16}', now it is '\w{16}'"),
    ]:
        with pytest.raises(ValueError, match=name):
            make_round(recipe(**change), tmp_path / "r")
    other = LabelProblems("other/model", MajorityVote, write_corpus(ROWS), engine=Solver)
    with pytest.raises(ValueError, match=r"labeller = '\w{16}', now it is '\w{16}'"):
        make_round(
            LabelProblems(
                other.labeller, other.vote, other.corpus, recipe().sampling, other.engine
            ),
            tmp_path / "r",
        )
