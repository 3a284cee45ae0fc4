"""Every sample of a group, token for token: rewards, references, and what is left out."""

from functools import partial

import pytest

from promptcot.engines import HFEngine, ScriptedEngine
from promptcot.leak import LeakGuard
from promptcot.parsing import Flaw
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion, Sampling
from promptcot.recipes import Rationales, Rollouts, make_round
from promptcot.recipes.rationales import NO_RATIONALE
from promptcot.recipes.rewarded import UNSCORED
from promptcot.records import Problem
from promptcot.store import DROPPED, read_manifest, read_round

FORMAT = PromptFormat(rationale_tags=("<z>", "</z>"), problem_tags=("[", "</x>"))
ROWS = [
    {"id": "sum", "statement": "What is 1 + 1?", "concepts": ["sums"]},
    {"id": "root", "statement": "Solve x^2 = 9, x > 0.", "concepts": ["roots", "signs"]},
    {"id": "bare", "statement": "Who asks?", "concepts": []},
    {"id": "dice", "statement": "Roll two dice.", "concepts": ["chance"]},
]


@pytest.fixture
def settings(models, write_corpus):
    return {
        "rationale_model": models[0],
        "prompt_model": models[1],
        "corpus": write_corpus(ROWS),
        "sampling": Sampling(n=6, max_tokens=60),
        "engine": partial(HFEngine, dtype="float32", batch_size=3),
        "format": FORMAT,
    }


@pytest.fixture
def made(settings, models, tmp_path):
    make_round(Rollouts(**settings, reference_model=models[1]), tmp_path / "r")
    return tmp_path / "r"


def test_a_group_has_all_its_samples_as_they_were_sampled(made, settings, plain_logprobs, models):
    rows = read_round(made)
    groups = {}
    for row in rows:
        groups.setdefault(row["group"], []).append(row)
    assert groups
    assert {len(group) for group in groups.values()} == {6}
    assert {row["finished"] for row in rows} == {True, False}
    for row in rows:
        prompt = FORMAT.rationale_prompt(Problem.from_row(row))
        target = [*row["tokens"], *([0] if row["finished"] else [])]
        own = plain_logprobs(models[0], prompt, target)
        reference = plain_logprobs(models[1], prompt, target)
        assert row["sampler_logprobs"] == pytest.approx(own, abs=1e-3)
        assert row["reference_logprobs"] == pytest.approx(reference, abs=1e-3)
        assert "".join(map(chr, row["tokens"])) == row["rationale"]


def test_rewards_are_those_of_best_of_n_and_flawed_samples_count_below_the_worst(
    made, settings, tmp_path
):
    make_round(Rationales(**settings), tmp_path / "best")
    best = {row["id"]: row["rewards"] for row in read_round(tmp_path / "best")}
    by_id = {}
    for row in read_round(made):
        by_id.setdefault(row["id"], []).append(row)
    assert by_id.keys() == best.keys()
    flawed = 0
    for name, rows in by_id.items():
        usable = [row["reward"] for row in rows if row["flaw"] is None]
        assert sorted(set(usable)) == pytest.approx(sorted(set(best[name])), abs=1e-3)
        for row in rows:
            if row["flaw"] is not None:
                flawed += 1
                assert row["reward"] == pytest.approx(min(usable) - 10.0)
                assert row["log_problem"] is None
            else:
                parts = row["log_rationale"] + row["log_problem"] - row["leak_penalty"]
                assert row["reward"] == pytest.approx(parts)
    assert flawed


class Scoring(ScriptedEngine):
    """Says each of its replies, in tokens; scores the long one never, and "nan" as damaged weights.

    Any other target has -1 a token.
    """

    def generate(self, requests, sampling):
        for index, _ in enumerate(requests):
            yield index, [Completion(text, True, (1,), (-1.0, -1.0)) for text in self.replies]

    def overlong(self, requests, max_tokens=0):
        if max_tokens:
            return {}
        said = [request.target.segments[0][1] for request in requests]
        return {index: "9 tokens" for index, text in enumerate(said) if "long" in text}

    def score(self, requests):
        for index, request in enumerate(requests):
            nats = float("nan") if "nan" in request.target.segments[0][1] else -1.0
            yield index, ((nats, nats), (-1.0, -1.0, -1.0, -1.0))


def test_what_has_no_finite_reward_is_flawed_and_says_why(write_corpus, tmp_path):
    given = {
        "rationale_model": "q",
        "prompt_model": "p",
        "corpus": write_corpus(ROWS[:1]),
        "sampling": Sampling(n=4),
        "engine": partial(Scoring, replies=("fine", "long", "nan", "a <z> b")),
        "format": FORMAT,
    }
    make_round(Rollouts(**given), tmp_path / "r")
    rows = {row["rationale"]: row for row in read_round(tmp_path / "r")}
    assert {text: row["reward"] for text, row in rows.items()} == {
        "fine": -6.0,
        "long": -16.0,
        "nan": -16.0,
        "a <z> b": -16.0,
    }
    flaws = {text: row["flaw"] for text, row in rows.items()}
    assert flaws == {"fine": None, "long": UNSCORED, "nan": UNSCORED, "a <z> b": Flaw.HAS_TAGS}
    assert read_manifest(tmp_path / "r")["figures"]["flaws"] == {UNSCORED: 2, Flaw.HAS_TAGS: 1}
    make_round(Rollouts(**given, per_token=True), tmp_path / "p")
    rewards = {row["rationale"]: row["reward"] for row in read_round(tmp_path / "p")}
    assert rewards["fine"] == -2.0  # means over tokens of both terms
    assert rewards["long"] == -2.0 - 10.0 / 4  # of four tokens of the problem
    make_round(Rationales(**given), tmp_path / "best")
    [best] = read_round(tmp_path / "best")
    assert (best["rationale"], best["rewards"]) == ("fine", [-6.0])


def test_what_cannot_be_compared_is_dropped_and_counted(settings, tmp_path):
    engine = partial(ScriptedEngine, replies=("", "a </x> b"))
    with pytest.raises(ValueError, match="no row is left"):
        make_round(
            Rollouts(**settings | {"engine": engine, "sampling": Sampling(n=2)}), tmp_path / "none"
        )
    make_round(Rollouts(**settings), tmp_path / "r")
    manifest = read_manifest(tmp_path / "r")
    dropped = [row["reason"] for row in read_round(tmp_path / "r", DROPPED)]
    assert dropped.count("no concepts") == 1
    assert manifest["figures"]["sampled"] == 3 * 6
    assert manifest["rows"]["rows"] == 6 * (3 - dropped.count(NO_RATIONALE))


def test_a_quotation_costs_its_price_in_both_recipes(settings, tmp_path):
    engine = partial(ScriptedEngine, replies=("Roll two dice.", "chance is fun"))
    given = settings | {"engine": engine, "sampling": Sampling(n=2)}
    guard = LeakGuard(nats_per_word=7.0)
    make_round(Rollouts(**given, leak_guard=guard), tmp_path / "r")
    rows = [row for row in read_round(tmp_path / "r") if row["id"] == "dice"]
    assert [row["leak_penalty"] for row in rows] == [7.0 * (2 + 2), 0.0]  # one of three is free
    make_round(Rationales(**given, leak_guard=guard), tmp_path / "best")
    make_round(Rationales(**given, leak_guard=None), tmp_path / "free")
    kept = [
        next(row["rationale"] for row in read_round(tmp_path / name) if row["id"] == "dice")
        for name in ("best", "free")
    ]
    # p gives every character -1 nat, and one text has one character less
    assert kept == ["chance is fun", "chance is fun"]
    [best] = [row for row in read_round(tmp_path / "best") if row["id"] == "dice"]
    [free] = [row for row in read_round(tmp_path / "free") if row["id"] == "dice"]
    assert [a - b for a, b in zip(free["rewards"], best["rewards"], strict=True)] == [28.0, 0.0]


@pytest.mark.parametrize(
    ("sampling", "named"),
    [
        (Sampling(n=2, top_p=0.9), r"top_p=0\.9 draws from a cut distribution.*set top_p to 1"),
        (Sampling(n=2, temperature=0.7), r"temperature=0\.7.*set the temperature to 1"),
        (Sampling(n=1), "n must be 2 or more"),
    ],
)
def test_sampling_that_makes_ratios_wrong_is_refused_with_the_reason(settings, sampling, named):
    with pytest.raises(ValueError, match=named):
        Rollouts(**settings | {"sampling": sampling})


def test_an_engine_without_log_probabilities_is_refused(settings, tmp_path, models):
    class Silent(ScriptedEngine):
        def generate(self, requests, sampling):
            from dataclasses import replace

            for index, completions in super().generate(requests, sampling):
                yield index, [replace(c, tokens=(), logprobs=()) for c in completions]

    with pytest.raises(ValueError, match="reports no token log-probabilities"):
        make_round(
            Rollouts(**settings | {"engine": partial(Silent), "sampling": Sampling(n=2)}),
            tmp_path / "r",
        )
