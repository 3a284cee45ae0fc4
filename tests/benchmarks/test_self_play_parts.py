"""The controls learn from the very rollouts of self-play, and the collected numbers from disk."""

import json
from functools import partial

import pytest
from self_play_parts import RightSolutions, ShuffledSelfPlay
from self_play_plot import collect
from self_play_problems import write_parts
from self_play_recount import main as recount

from promptcot.corpora import Corpus
from promptcot.engines import ScriptedEngine
from promptcot.protocols import Sampling
from promptcot.recipes import Evaluate, SelfPlay, make_round
from promptcot.store import read_round, write_json
from verify import ByDomain

VERIFIER = partial(ByDomain, num_workers=1, forms=("boxed",))
NUM_PROBLEMS = 40


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problems")
    write_parts(folder, {"train": NUM_PROBLEMS, "held_out": 1, "warm_up": 1}, seed=0)
    path = folder / "train.jsonl"
    rows = [{**json.loads(line), "reference": "7"} for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Corpus(str(path))


def settings(corpus, n=4):
    replies = ("6 + 1 = 7\n\\boxed{7}", "\\boxed{7}", "\\boxed{8}", "6 + 1 = 9\n\\boxed{9}")
    return {
        "verifier": VERIFIER,
        "policy": "served",
        "corpus": corpus,
        "sampling": Sampling(n=n, max_tokens=100),
        "engine": partial(ScriptedEngine, replies=replies),
    }


@pytest.fixture(scope="module")
def pairs(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs") / "round"
    make_round(SelfPlay(**settings(corpus), max_pass_rate=1.0), folder)
    return read_round(folder)


def test_a_coin_exchanges_about_half_of_self_plays_pairs(corpus, pairs, tmp_path):
    recipe = ShuffledSelfPlay(**settings(corpus), max_pass_rate=1.0)
    make_round(recipe.of_policy("served", 0), tmp_path / "r")
    rows = read_round(tmp_path / "r")
    plain = {row["key"]: row for row in pairs}
    assert [row["key"] for row in rows] == list(plain)
    exchanged = 0
    for row in rows:
        before = plain[row["key"]]
        sides = row.pop("chosen"), row.pop("rejected")
        expected = before["chosen"], before["rejected"]
        assert sides in (expected, expected[::-1])
        exchanged += sides != expected
        assert row.items() <= before.items()
    # two pairs of each of 40 problems; five standard errors are 5 * sqrt(80) / 2 = 22
    assert len(rows) == 2 * NUM_PROBLEMS
    assert abs(exchanged - NUM_PROBLEMS) <= 22


def test_another_round_throws_the_coins_anew(corpus, tmp_path):
    recipe = ShuffledSelfPlay(**settings(corpus), max_pass_rate=1.0)
    for number in (0, 1):
        make_round(recipe.of_policy("served", number), tmp_path / f"r{number}")
    first, second = ([r["chosen"] for r in read_round(tmp_path / f"r{n}")] for n in (0, 1))
    assert first != second


def test_the_right_ones_are_the_chosen_ones_each_once(corpus, pairs, tmp_path):
    make_round(RightSolutions(**settings(corpus), max_pass_rate=1.0), tmp_path / "r")
    rows = read_round(tmp_path / "r")
    expected = {(pair["id"], pair["chosen"]["text"]) for pair in pairs}
    found = [(row["id"], row["solution"]["text"]) for row in rows]
    assert sorted(found) == sorted(expected)
    assert not any("chosen" in row or "rejected" in row for row in rows)


def test_the_recount_agrees_with_the_verifier(corpus, tmp_path):
    make_round(SelfPlay(**settings(corpus), max_pass_rate=1.0), tmp_path / "round-0")
    assert recount([str(tmp_path), "--problems", corpus.path]) == 0


def test_gains_are_paired_by_problem(corpus, tmp_path):
    seed = tmp_path / "seed-1"
    evaluations = seed / "evaluations"
    before = {**settings(corpus), "engine": partial(ScriptedEngine, replies=("\\boxed{8}",))}
    after = {**settings(corpus), "engine": partial(ScriptedEngine, replies=("\\boxed{7}",))}
    make_round(Evaluate(**before), evaluations / "warm_up")
    make_round(Evaluate(**settings(corpus)), evaluations / "self_play" / "round-1")
    make_round(Evaluate(**after), evaluations / "self_play" / "round-2")
    for name in ("settings", "machine"):
        write_json(seed / f"{name}.json", {})
    (seed / "steps.jsonl").write_text("")
    found = collect(tmp_path)
    points = found["seeds"]["1"]["arms"]["self_play"]
    assert [point["pass_at_1"] for point in points] == [0, 0.5, 1]
    assert points[1]["gain"] == {"pass_at_1": 0.5, "low": 0.5, "high": 0.5}
    assert found["over_seeds"]["self_play"][2]["gain"] == {"mean": 1, "min": 1, "max": 1}
    assert list(found["seeds"]["1"]["arms"]) == ["self_play"]
