"""Attempts, verdicts and pairs: what is kept, and that every problem and attempt is counted."""

import json
import math
from functools import partial
from pathlib import Path

import pytest

from promptcot.corpora import Corpus
from promptcot.engines import HFEngine, ScriptedEngine
from promptcot.protocols import REFUSED, Completion, Sampling
from promptcot.recipes import Evaluate, SelfPlay, make_round
from promptcot.recipes.attempting import ATTEMPTS, ROLLOUTS
from promptcot.recipes.making import COPY
from promptcot.recipes.self_play import SOLVED_BEFORE
from promptcot.selection import (
    NO_LABEL,
    NO_PAIR,
    SOLVED_BY_NONE,
    SOLVED_TOO_OFTEN,
    TRIVIAL,
    UNDECIDABLE,
)
from promptcot.store import DROPPED, read_manifest, read_round
from verify import ByDomain

VERIFIER = partial(ByDomain, num_workers=1)
LONG = "\\boxed{3}" + " and more" * 20
REPLIES = (
    "It is \\boxed{3}.",
    "It is \\boxed{3}.",
    "So \\boxed{6/2}.",
    "So \\boxed{7}.",
    "It is \\boxed{8}.",
    "<think>hm \\boxed{8}",
    "First I add 2 and 1. Then I stop, as 4 and 5 are left.",
    LONG,
)
"""Each problem gets all eight, in some order: three right ones in two texts where it is 3."""
ENGINE = partial(ScriptedEngine, replies=REPLIES)
ROWS = [
    {"id": "three", "statement": "2 + 1?", "reference": "3"},
    {"id": "seven", "statement": "6 + 1?", "reference": "7", "vote_share": 0.75},
    {"id": "eight", "statement": "7 + 1?", "reference": "8"},
    {"id": "nine", "statement": "8 + 1?", "reference": "9"},
    {"id": "one", "statement": "2 - 1?", "reference": "1"},
    {"id": "bare", "statement": "What now?"},
    {"id": "proof", "statement": "Prove that 3 is prime.", "reference": "3"},
    {"id": "prose", "statement": "Why?", "reference": "because the sum over all of them converges"},
]


@pytest.fixture
def settings(write_corpus):
    return {
        "verifier": VERIFIER,
        "policy": "served",
        "corpus": write_corpus(ROWS),
        "sampling": Sampling(n=8, max_tokens=100),
        "engine": ENGINE,
    }


def made(recipe, folder):
    make_round(recipe, folder)
    return read_round(folder)


def reasons(folder):
    return {row["id"]: row["reason"] for row in read_round(folder, DROPPED)}


def test_right_and_wrong_ones_are_paired_and_the_others_left_out(settings, tmp_path):
    rows = made(SelfPlay(**settings), tmp_path / "r")
    by_id = {}
    for row in rows:
        by_id.setdefault(row["id"], []).append(row)
    assert {name: len(pairs) for name, pairs in by_id.items()} == {
        "three": 2,
        "seven": 1,
        "eight": 1,
    }
    chosen = {row["chosen"]["text"] for row in by_id["three"]}
    assert chosen == {"It is \\boxed{3}.", "So \\boxed{6/2}."}
    assert {row["rejected"]["text"] for row in by_id["three"]} == {
        "So \\boxed{7}.",
        "It is \\boxed{8}.",
    }
    for row in rows:
        for side in ("chosen", "rejected"):
            assert row[side]["tokens"] == list(map(ord, row[side]["text"]))
        assert row["pass_rate"] == {"three": 3 / 8, "seven": 1 / 8, "eight": 1 / 8}[row["id"]]
    assert by_id["seven"][0]["vote_share"] == 0.75


def test_problems_and_attempts_add_up_and_each_drop_has_its_rule(settings, tmp_path, capsys):
    rows = made(SelfPlay(**settings), tmp_path / "r")
    dropped = reasons(tmp_path / "r")
    assert {name: dropped[name] for name in ("nine", "one", "bare", "proof")} == {
        "nine": SOLVED_BY_NONE,
        "one": TRIVIAL,
        "bare": NO_LABEL,
        "proof": UNDECIDABLE,
    }
    assert dropped["prose"] == "no rule decides the reference itself"
    manifest = read_manifest(tmp_path / "r")
    figures = manifest["figures"]
    assert (
        figures["problems"]
        == len(ROWS)
        == figures["problems_kept"] + sum(manifest["dropped"].values())
    )
    assert figures["problems_kept"] == len({row["id"] for row in rows}) == 3
    parts = ("passed", "failed", "flawed", "undecided")
    assert figures["attempts"] == 4 * 8 == sum(figures[part] for part in parts)
    assert figures["passed"] == 3 + 1 + 1
    assert figures["flaws"] == {
        "cut off by the token limit": 4,
        "no answer": 4,
        "not one whole thought before the reply": 4,
    }
    assert figures["pass_rate"] == 5 / 32
    assert figures["mostly_solved"] == 0.0
    assert figures["never_solved"] == 0.25
    # the answers 3 3 6/2 7 8, and three without
    entropy = -sum(s * math.log(s) for s in (2 / 8, 1 / 8, 1 / 8, 1 / 8, 3 / 8))
    assert figures["answer_entropy"] == pytest.approx(entropy)
    said = capsys.readouterr().err
    assert f"1 {SOLVED_BY_NONE}" in said
    assert "pass_rate 0.15625" in said


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"max_pass_rate": 0.375}, {"seven": 1, "eight": 1}),
        ({"max_pass_rate": 0.375, "keep_at_max": True}, {"three": 2, "seven": 1, "eight": 1}),
        ({"max_pairs": 1}, {"three": 1, "seven": 1, "eight": 1}),
        ({"thought": "required"}, None),
    ],
)
def test_the_rules_can_be_set(settings, tmp_path, given, kept):
    recipe = SelfPlay(**settings, **given)
    if kept is None:
        with pytest.raises(ValueError, match=f"no row is left.*4 {SOLVED_BY_NONE}"):
            made(recipe, tmp_path / "r")
        return
    rows = made(recipe, tmp_path / "r")
    assert {name: sum(r["id"] == name for r in rows) for name in {r["id"] for r in rows}} == kept
    if "three" not in kept:
        assert reasons(tmp_path / "r")["three"] == SOLVED_TOO_OFTEN


def test_a_problem_without_a_wrong_well_formed_attempt_has_no_pair(
    settings, write_corpus, tmp_path
):
    rows = [ROWS[0], {"id": "other", "statement": "3?", "reference": "30"}]
    given = {**settings, "corpus": write_corpus(rows, "c"), "sampling": Sampling(n=4)}
    engine = partial(ScriptedEngine, replies=("\\boxed{3}", *[REPLIES[6]] * 3))
    with pytest.raises(ValueError, match=f"1 {NO_PAIR}, 1 {SOLVED_BY_NONE}"):
        made(SelfPlay(**{**given, "engine": engine}), tmp_path / "r")


def test_voted_labels_have_a_lower_cap(settings, write_corpus, tmp_path):
    rows = [{**ROWS[0], "id": "given"}, {**ROWS[0], "id": "voted", "vote_share": 1.0}]
    given = {**settings, "corpus": write_corpus(rows, "c")}
    found = made(SelfPlay(**given, max_pairs_voted=1), tmp_path / "r")
    assert sorted(row["id"] for row in found) == ["given", "given", "voted"]


def test_what_an_earlier_round_always_solved_is_not_asked_again(settings, write_corpus, tmp_path):
    engine = partial(ScriptedEngine, replies=("\\boxed{3}", "\\boxed{3}", "\\boxed{7}", "no"))
    given = {**settings, "engine": engine, "sampling": Sampling(n=2, temperature=1.0)}
    rows = [{"id": f"{n}", "statement": f"{n}?", "reference": "3"} for n in range(30)]
    recipe = SelfPlay(**{**given, "corpus": write_corpus(rows, "c")}, max_pass_rate=1.0)
    made(recipe, tmp_path / "0")
    solved = {r["id"] for r in read_round(tmp_path / "0", ATTEMPTS) if r["passed"] == 2}
    assert 0 < len(solved) < 30
    harder = recipe.harder(2, [tmp_path / "0"])
    assert harder.sampling.temperature == 1.2
    first = harder.of_policy("served", 1)
    made(first, tmp_path / "1")
    before = {name for name, why in reasons(tmp_path / "1").items() if why == SOLVED_BEFORE}
    assert before == solved
    second = recipe.harder(3, [tmp_path / "0", tmp_path / "1"]).of_policy("served", 2)
    made(second, tmp_path / "2")
    again = {r["id"] for r in read_round(tmp_path / "1", ATTEMPTS) if r["passed"] == 2}
    found = {name for name, why in reasons(tmp_path / "2").items() if why == SOLVED_BEFORE}
    assert found == solved | again
    # what decides is which problems are left out, not where the round lies
    there = recipe.harder(2, [tmp_path / "0"]).settings()
    assert there["solved_in"] != second.settings()["solved_in"]
    alone = recipe.harder(3, [tmp_path / "1"]).of_policy("served", 2)  # which knows of round 0
    assert alone.settings() == second.settings()
    (tmp_path / "0").rename(tmp_path / "elsewhere")
    assert recipe.harder(2, [tmp_path / "elsewhere"]).settings() == there


def test_rounds_take_one_part_of_the_corpus_after_another(settings, write_corpus):
    rows = [{"id": f"{n}", "statement": f"{n}?", "reference": "3"} for n in range(10)]
    recipe = SelfPlay(**{**settings, "corpus": write_corpus(rows, "c")}, num_problems=4)
    taken = [[p.id for p in recipe.of_policy("served", n).problems()] for n in range(5)]
    assert sorted(name for part in taken for name in part) == sorted(2 * [r["id"] for r in rows])
    assert len(set(taken[0] + taken[1])) == 8
    assert taken[0] == [p.id for p in recipe.problems()]
    assert len(SelfPlay(**settings, num_problems=99).problems()) == len(ROWS)


def test_a_harder_round_knows_what_the_rounds_of_its_part_of_the_corpus_solved(
    settings, write_corpus, tmp_path
):
    engine = partial(ScriptedEngine, replies=("\\boxed{3}", "\\boxed{3}", "\\boxed{7}", "no"))
    given = {**settings, "engine": engine, "sampling": Sampling(n=2, temperature=1.0)}
    rows = [{"id": f"{n}", "statement": f"{n}?", "reference": "3"} for n in range(40)]
    corpus = write_corpus(rows, "c")
    recipe = SelfPlay(**{**given, "corpus": corpus}, num_problems=20, max_pass_rate=1.0)
    folders = [tmp_path / f"{n}" for n in range(3)]
    for number in (0, 1):
        made(recipe.of_policy("served", number), folders[number])
    made(recipe.harder(1, folders[:2]).of_policy("served", 2), folders[2])  # the first part again
    solved = {r["id"] for r in read_round(folders[0], ATTEMPTS) if r["passed"] == 2}
    assert 0 < len(solved) < 20
    assert {name for name, why in reasons(folders[2]).items() if why == SOLVED_BEFORE} == solved


def test_copies_are_counted_among_the_dropped(settings, write_corpus, tmp_path):
    copied = {"statement": "2 + 1?", "reference": "3"}
    given = {**settings, "corpus": write_corpus([*ROWS, copied, copied, copied], "c")}
    made(SelfPlay(**given), tmp_path / "r")
    manifest = read_manifest(tmp_path / "r")
    figures = manifest["figures"]
    assert manifest["dropped"]["exact copy of another row"] == 2
    assert figures["problems"] == len(ROWS) + 3
    assert figures["problems"] == figures["problems_kept"] + sum(manifest["dropped"].values())
    assert SelfPlay(**given, num_problems=4).copies() == ()


def test_a_rounds_folder_is_no_corpus(settings, tmp_path):
    made(SelfPlay(**settings), tmp_path / "r")
    given = {**settings, "corpus": Corpus(str(tmp_path / "r"))}
    with pytest.raises(ValueError, match=r"folder of a round: give its rows, .*/r/rows\.jsonl"):
        make_round(SelfPlay(**given), tmp_path / "again")


def test_a_round_cut_off_anywhere_goes_on_to_the_same(settings, tmp_path):
    whole = made(SelfPlay(**settings), tmp_path / "whole")
    for stage, kept in ((ROLLOUTS, 3), (ATTEMPTS, 2)):
        folder = tmp_path / f"cut-{stage}"
        partial_folder = folder.with_name(folder.name + ".partial")
        made(SelfPlay(**settings), folder)
        folder.rename(partial_folder)
        (partial_folder / "manifest.json").unlink()
        stages = {ROLLOUTS: (ATTEMPTS, "rows"), ATTEMPTS: ("rows",)}[stage]
        for name in stages:
            (partial_folder / f"{name}.jsonl").unlink()
        path = partial_folder / f"{stage}.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        assert made(SelfPlay(**settings), folder) == whole


def test_programs_are_paired_by_their_tests(write_corpus, tmp_path):
    tests = json.dumps([{"stdin": "1 2", "stdout": "3"}, {"stdin": "5 5", "stdout": "10"}])
    rows = [
        {"id": "sum", "domain": "code", "statement": "Print a + b.", "reference": tests},
        {"id": "none", "domain": "code", "statement": "Print a + b.", "reference": "[]"},
        {"id": "bad", "domain": "code", "statement": "Print a + b.", "reference": "[3]"},
        {"id": "bare", "domain": "code", "statement": "Print a + b."},
    ]
    right = "```python\nprint(sum(map(int, input().split())))\n```"
    wrong = "```python\nprint(3)\n```"
    broken = "```python\nprint(\n```"
    engine = partial(ScriptedEngine, replies=(right, wrong, broken, "print(3)"))
    recipe = SelfPlay(
        VERIFIER, "served", write_corpus(rows), Sampling(n=4, max_tokens=500), engine=engine
    )
    [pair] = made(recipe, tmp_path / "r")
    assert pair["chosen"]["text"] == right
    assert pair["rejected"]["text"] in (wrong, broken)
    [attempt] = read_round(tmp_path / "r", ATTEMPTS)
    found = sorted((v["answer"], v["flaw"]) for v in attempt["verdicts"])
    assert found == [("AC", ""), ("CE", ""), ("WA", ""), ("WA", "no block of code")]
    assert reasons(tmp_path / "r") == {
        "none": "no tests",
        "bad": "malformed tests",
        "bare": NO_LABEL,
    }


def test_an_evaluation_tells_pass_at_1_and_n_with_intervals(settings, tmp_path):
    rows = made(Evaluate(**settings), tmp_path / "e")
    passed = {row["id"]: row["passed"] for row in rows}
    assert passed == {"three": 3, "seven": 1, "eight": 1, "nine": 0, "one": 0, "proof": 3}
    figures = read_manifest(tmp_path / "e")["figures"]
    assert figures["pass_at_1"] == pytest.approx(8 / 48)
    assert figures["pass_at_8"] == pytest.approx(4 / 6)
    assert 0 <= figures["pass_at_1_low"] < 8 / 48 < figures["pass_at_1_high"] < 3 / 8
    assert figures["by_level"]["AIME"]["pass_at_1"] == pytest.approx(8 / 48)


def test_levels_are_told_apart_and_half_solved_is_not_mostly(settings, write_corpus, tmp_path):
    right, wrong = r"\boxed{3}", r"\boxed{4}"
    rows = [
        {"id": "a", "statement": "2 + 1?", "reference": "3", "level": "easy"},
        {"id": "b", "statement": "2 + 2?", "reference": "4", "level": "hard"},
        {"id": "c", "statement": "9 + 9?", "reference": "18", "level": "hard"},
    ]
    sampling = Sampling(n=4, max_tokens=100)
    given = {**settings, "corpus": write_corpus(rows), "sampling": sampling}
    given["engine"] = partial(ScriptedEngine, replies=(right, wrong, right, wrong))
    made(Evaluate(**given), tmp_path / "e")
    figures = read_manifest(tmp_path / "e")["figures"]
    assert figures["mostly_solved"] == 0.0
    levels = {level: found["pass_at_1"] for level, found in figures["by_level"].items()}
    assert levels == {"easy": 1 / 2, "hard": 1 / 4}
    other = Evaluate(**{**given, "policy": "another"})
    with pytest.raises(ValueError, match=r"policy = .*, now it is"):
        make_round(other, tmp_path / "e")


def test_a_reply_that_the_server_refused_was_not_cut_off(settings, write_corpus, tmp_path):
    class Refusing(ScriptedEngine):
        def generate(self, requests, sampling):
            for index, _ in enumerate(requests):
                refused = Completion("", finished=False, finish_reason=REFUSED)
                yield index, [Completion(r"\boxed{3}", True, (1,)), refused]

    rows = [{"id": "a", "statement": "2 + 1?", "reference": "3"}, *[{"statement": "b?"}] * 2]
    sampling = Sampling(n=2, max_tokens=100)
    given = {**settings, "corpus": write_corpus(rows), "sampling": sampling, "engine": Refusing}
    made(Evaluate(**given), tmp_path / "e")
    figures = read_manifest(tmp_path / "e")["figures"]
    assert figures["flaws"] == {"refused by the server": 1}
    assert read_manifest(tmp_path / "e")["dropped"][COPY] == 1


def test_sampled_tokens_of_a_real_model_are_kept_as_they_were(models, write_corpus, tmp_path):
    rows = [{"id": f"{n}", "statement": f"{n}?", "reference": "5"} for n in range(4)]
    recipe = Evaluate(
        VERIFIER,
        models[0],
        write_corpus(rows),
        Sampling(n=3, max_tokens=12),
        engine=partial(HFEngine, dtype="float32"),
    )
    made(recipe, tmp_path / "e")
    for row in read_round(tmp_path / "e", ROLLOUTS):
        for completion in row["completions"]:
            assert "".join(map(chr, completion["tokens"])) == completion["text"]
            assert completion["logprobs"] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"sampling": Sampling(n=1)}, "sampling n=1: a pair needs"),
        ({"max_pass_rate": 0.0}, "max_pass_rate=0.0: it is a share"),
        ({"num_problems": 0}, "num_problems=0: a round has 1 at least"),
        ({"max_pairs": 0}, "max_pairs=0, max_pairs_voted=2: both must be"),
    ],
)
def test_settings_that_give_no_pair_are_named(given, said):
    with pytest.raises(ValueError, match=said):
        SelfPlay(VERIFIER, **given)


def test_a_round_made_by_another_verifier_is_not_gone_on_with(settings, tmp_path):
    folder = tmp_path / "r"
    made(SelfPlay(**settings), folder)
    strict = partial(ByDomain, num_workers=1, forms=("boxed",))
    with pytest.raises(ValueError, match=r"made with verifier\.init_args\.forms"):
        make_round(SelfPlay(**{**settings, "verifier": strict}), folder)
    make_round(SelfPlay(**{**settings, "verifier": partial(ByDomain, num_workers=2)}), folder)
    assert Path(folder / "manifest.json").is_file()
