"""The best of n rationales: the choice against plain transformers, and what is left out."""

from collections import Counter
from dataclasses import replace
from functools import partial

import pytest

from promptcot.engines import HFEngine, ScriptedEngine
from promptcot.parsing import Flaw
from promptcot.prompts import PromptFormat
from promptcot.protocols import Sampling
from promptcot.recipes import Rationales, make_round
from promptcot.recipes.asking import LONG_TARGET
from promptcot.recipes.rationales import NO_RATIONALE
from promptcot.records import Problem
from promptcot.store import DROPPED, read_round

SAMPLED = "sampled_rationales"
FORMAT = PromptFormat(rationale_tags=("<z>", "</z>"), problem_tags=("[", "</x>"))
"""One tag is a single character, so that random texts contain it now and then."""
SAMPLING = Sampling(n=8, max_tokens=60)
ROWS = [
    {"id": "sum", "statement": "What is 1 + 1?", "concepts": ["sums"], "reference": "2"},
    {"id": "root", "statement": "Solve x^2 = 9, x > 0.", "concepts": ["roots", "signs"]},
    {"id": "bare", "statement": "Who asks?", "concepts": []},
    {"id": "tree", "statement": "Count leaves.", "concepts": ["trees"], "domain": "code"},
    {"id": "dice", "statement": "Roll two dice.", "concepts": ["chance"], "level": "AMC12"},
    {"id": "area", "statement": "A square of side 3 has which area?", "concepts": ["squares"]},
]


@pytest.fixture
def recipe(models, write_corpus):
    return partial(
        Rationales,
        rationale_model=models[0],
        prompt_model=models[1],
        corpus=write_corpus(ROWS),
        sampling=SAMPLING,
        engine=partial(HFEngine, dtype="float32", batch_size=3),
        format=FORMAT,
    )


def flaw_of(completion, min_words=0):
    """Why a sampled completion is no rationale; None where it is one."""
    text = completion["text"].strip()
    if not completion["finished"]:
        return "cut off by the token limit"
    if not text:
        return "empty"
    if any(tag in text for tag in FORMAT.tags):
        return "contains a tag of the format"
    return "shorter than asked" if len(text.split()) < min_words else None


def usable(completions, min_words=0):
    texts = [c["text"].strip() for c in completions if flaw_of(c, min_words) is None]
    return list(dict.fromkeys(texts))


@pytest.mark.parametrize(("per_token", "min_words"), [(False, 0), (True, 0), (False, 2)])
def test_the_kept_rationale_has_the_largest_log_probability_of_itself_and_of_the_problem(
    recipe, tmp_path, plain_logprobs, per_token, min_words
):
    made = recipe(per_token=per_token, min_words=min_words)
    make_round(made, tmp_path / "r")
    samples = {row["key"]: row["completions"] for row in read_round(tmp_path / "r", SAMPLED)}
    rows = read_round(tmp_path / "r")
    for row in rows:
        problem = Problem.from_row(row)
        prompt = FORMAT.compose_prompt(problem)
        values = {}
        for text in usable(samples[row["key"]], min_words):
            z, x = f"<z>{text}</z>", f"[{problem.statement}</x>"
            each = plain_logprobs(made.prompt_model, prompt, [*map(ord, z + x), 0])
            assert len(each) == len(z) + len(x) + 1
            of_z, of_x = each[: len(z)], each[len(z) :]
            sums = sum(of_z) + sum(of_x)
            means = sum(of_z) / len(of_z) + sum(of_x) / len(of_x)
            values[text] = means if per_token else sums
        assert row["rewards"] == pytest.approx(list(values.values()), abs=1e-3)
        assert row["rationale"] == max(values, key=values.__getitem__)
        assert row["reward"] == pytest.approx(max(values.values()), abs=1e-3)
    assert sum(len(row["rewards"]) > 1 for row in rows) >= 2  # there was something to choose


def test_means_over_tokens_forgive_a_long_rationale_what_the_sum_does_not(recipe, tmp_path):
    # p gives every character -1 nat. The sums differ by the lengths 3 and 9, so the short one is
    # kept whichever came first; the means are -1 - 1 for both, so the one that came first is.
    replies = ("why", "the why..")
    engine = partial(ScriptedEngine, replies=replies)
    make_round(recipe(sampling=Sampling(n=2), engine=engine), tmp_path / "sum")
    make_round(recipe(sampling=Sampling(n=2), engine=engine, per_token=True), tmp_path / "mean")
    by_sum, by_mean = read_round(tmp_path / "sum"), read_round(tmp_path / "mean")
    assert {row["rationale"] for row in by_sum} == {"why"}
    assert {row["rationale"] for row in by_mean} == set(replies)
    assert {row["reward"] for row in by_mean} == {-2.0}
    # "<z>why</z>" is 10, "[What is 1 + 1?</x>" and the end token 1 + 14 + 4 + 1 = 20.
    assert by_sum[0]["reward"] == -30.0


@pytest.mark.parametrize("min_words", [0, 2])
def test_flawed_rationales_are_counted_by_kind_and_problems_with_none_left_are_dropped(
    recipe, tmp_path, min_words
):
    made = recipe(min_words=min_words, sampling=Sampling(n=2, max_tokens=60))
    manifest = make_round(made, tmp_path / "r")
    samples = read_round(tmp_path / "r", SAMPLED)
    flaws = [flaw_of(c, min_words) for row in samples for c in row["completions"]]
    assert manifest["figures"]["sampled"] == len(flaws) == 5 * 2
    assert manifest["figures"]["flaws"] == dict(sorted(Counter(filter(None, flaws)).items()))
    empty = [row["key"] for row in samples if not usable(row["completions"], min_words)]
    assert manifest["dropped"] == {"no concepts": 1, NO_RATIONALE: len(empty)}
    assert manifest["rows"]["rows"] == 5 - len(empty)
    assert 0 < len(empty) < 5
    kept = {row["id"] for row in read_round(tmp_path / "r")}
    dropped = {row["id"]: row["reason"] for row in read_round(tmp_path / "r", DROPPED)}
    assert dropped["bare"] == "no concepts"
    assert {*kept, *dropped} == {row["id"] for row in ROWS}
    assert len(kept) + len(dropped) == len(ROWS)


def test_every_kind_of_flaw_is_counted_by_its_name(recipe, tmp_path):
    # Five problems get each of the five replies once: n is their number, and they come in turn.
    replies = ("so be it", "", "a </x> b", "so", "x" * 50)
    engine = partial(ScriptedEngine, replies=replies)
    made = recipe(engine=engine, sampling=Sampling(n=5, max_tokens=50), min_words=3)
    assert make_round(made, tmp_path / "r")["figures"]["flaws"] == {
        Flaw.EMPTY: 5,
        Flaw.HAS_TAGS: 5,
        Flaw.SHORT: 5,
        Flaw.UNFINISHED: 5,
    }


def test_rows_keep_the_fields_of_their_problem(recipe, tmp_path):
    make_round(recipe(engine=ScriptedEngine), tmp_path / "r")
    rows = {row["id"]: row for row in read_round(tmp_path / "r")}
    assert {name: rows["sum"][name] for name in ("statement", "concepts", "reference")} == {
        "statement": "What is 1 + 1?",
        "concepts": ["sums"],
        "reference": "2",
    }
    assert (rows["tree"]["domain"], rows["sum"]["domain"]) == ("code", "math")
    assert (rows["dice"]["level"], rows["sum"]["level"]) == ("AMC12", "AIME")


def test_a_rationale_sampled_twice_is_scored_once(recipe, tmp_path):
    make_round(recipe(engine=ScriptedEngine), tmp_path / "r")  # eight times "yes"
    assert [len(row["rewards"]) for row in read_round(tmp_path / "r")] == [1] * 5
    assert len(read_round(tmp_path / "r", "rewards")) == 5


def test_a_rationale_too_long_to_be_scored_is_counted_and_the_best_of_the_others_kept(
    recipe, tmp_path, write_corpus, plain_logprobs
):
    # q's prompt of 248 + 1700 tokens leaves 100 of 2048 for z. p's prompt is 209, the tags are 92
    # and x with its end token 1701: together more than 2048 where z is longer than 46.
    problem = Problem("long", "math", "x" * 1700, ("sums",), "AIME")
    corpus = write_corpus([problem.to_row()], "long")
    format = replace(FORMAT, rationale_tags=("<z>" + 80 * "-", "</z>"))
    made = recipe(corpus=corpus, sampling=Sampling(n=16, max_tokens=100), format=format)
    manifest = make_round(made, tmp_path / "r")
    [row] = read_round(tmp_path / "r")
    [sampled] = read_round(tmp_path / "r", SAMPLED)
    prompt, tags = format.compose_prompt(problem), format.tags
    texts = usable(sampled["completions"])
    targets = {z: tags[0] + z + tags[1] + tags[2] + problem.statement + tags[3] for z in texts}
    fitting = {z: t for z, t in targets.items() if len(prompt) + len(t) + 1 <= 2048}
    assert 0 < len(fitting) < len(targets)
    assert manifest["dropped"] == {LONG_TARGET: len(targets) - len(fitting)}
    values = {
        text: sum(plain_logprobs(made.prompt_model, prompt, [*map(ord, target), 0]))
        for text, target in fitting.items()
    }
    assert row["rationale"] == max(values, key=values.__getitem__)
    assert row["rewards"] == pytest.approx(list(values.values()), abs=5e-3)


def test_the_one_greedy_rationale_needs_no_prompt_model_and_has_no_reward(recipe, tmp_path):
    engine = partial(HFEngine, dtype="float32")
    greedy = Sampling(temperature=0.0, max_tokens=40)
    made = recipe(prompt_model="", sampling=greedy, engine=partial(ScriptedEngine))
    make_round(made, tmp_path / "r")
    assert [(r["rationale"], r["reward"]) for r in read_round(tmp_path / "r")] == [
        ("yes", None)
    ] * 5
    with pytest.raises(ValueError, match="n=2 rationales needs a prompt model to choose by"):
        recipe(prompt_model="", sampling=Sampling(n=2), engine=engine)


def test_the_figures_are_means_over_the_rows(recipe, tmp_path):
    figures = make_round(recipe(sampling=Sampling(n=4, max_tokens=40)), tmp_path / "r")["figures"]
    rows = read_round(tmp_path / "r")
    kept = [row["reward"] for row in rows]
    sampled = [sum(row["rewards"]) / len(row["rewards"]) for row in rows]
    assert figures["mean_reward_kept"] == pytest.approx(sum(kept) / len(rows))
    assert figures["mean_reward_usable"] == pytest.approx(sum(sampled) / len(rows))
    lengths = [len(row["rationale"].split()) for row in rows]
    assert figures["mean_words"] == pytest.approx(sum(lengths) / len(rows))
    assert figures["mean_overlap"] == 0.0  # random letters quote nobody
