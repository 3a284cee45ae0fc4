"""Held-out figures: every bound against plain transformers, from the samples on disk."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from functools import partial
from statistics import fmean, stdev

import pytest
import torch
from transformers import AutoModelForCausalLM

from promptcot.corpora import Corpus
from promptcot.engines import HFEngine, ScriptedEngine
from promptcot.metrics import importance_bound
from promptcot.parsing import Flaw
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion
from promptcot.recipes import HeldOut, make_round
from promptcot.records import Problem
from promptcot.store import read_manifest, read_round

FORMAT = PromptFormat(rationale_tags=("<z>", "</z>"), problem_tags=("[", "</x>"))
"""One tag is a single character, so that random texts contain it now and then."""
ROWS = [
    {"id": "sum", "statement": "What is 1 + 1?", "concepts": ["sums"]},
    {"id": "root", "statement": "Solve x^2 = 9, x > 0.", "concepts": ["roots", "signs"]},
    {"id": "tree", "statement": "Count leaves.", "concepts": ["trees"], "domain": "code"},
    {"id": "area", "statement": "A square of side 3 has which area?", "concepts": ["squares"]},
]


def target_of(rationale: str | Sequence[int], statement: str) -> list[int]:
    """Tokens of z and x with their tags and the end token; one token a character."""
    z = [ord(c) if isinstance(c, str) else c for c in rationale]
    before, after = FORMAT.rationale_tags
    begin, end = FORMAT.problem_tags
    return [*map(ord, before), *z, *map(ord, after + begin + statement + end), 0]


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    """A recipe and its round: four samples a problem."""
    folder = tmp_path_factory.mktemp("held_out")
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe = _recipe(models, str(folder / "corpus.jsonl"))
    make_round(recipe, folder / "r")
    return recipe, folder / "r"


def _recipe(models, path: str, **changes) -> HeldOut:
    given = {"num_samples": 4, "max_tokens": 40, "compose_max_tokens": 80, **changes}
    engine = given.pop("engine", partial(HFEngine, dtype="float32", batch_size=3))
    return HeldOut(*models, Corpus(path), engine=engine, format=FORMAT, **given)


def test_the_bound_of_every_row_is_that_of_its_samples_under_plain_transformers(
    made, models, plain_logprobs
):
    folder, (q, p) = made[1], models
    samples = {row["key"]: row["completions"] for row in read_round(folder, "sampled_rationales")}
    finished, tagged = set(), 0
    for row in read_round(folder):
        problem = next(Problem.from_row(_whole(r)) for r in ROWS if r["id"] == row["id"])
        weights = []
        for sample in samples[row["key"]]:
            z, ended = sample["tokens"], sample["finished"]
            of_q = plain_logprobs(q, FORMAT.rationale_prompt(problem), [*z, *[0][: int(ended)]])
            assert len(of_q) == len(z) + ended
            assert sample["logprobs"] == pytest.approx(of_q, abs=1e-4)
            prompt = FORMAT.compose_prompt(problem)
            of_p = plain_logprobs(p, prompt, target_of(z, problem.statement))
            is_read = not any(tag in sample["text"] for tag in FORMAT.tags)
            weights.append(sum(of_p) - sum(of_q) if is_read else -math.inf)
            finished.add(ended)
            tagged += not is_read
        assert len(weights) == 4
        # log (1/K) sum_k w_k, by torch
        bound = torch.tensor(weights, dtype=torch.float64).logsumexp(0).item() - math.log(4)
        assert row["bound"] == pytest.approx(bound, abs=2e-3)
        largest = max(weights)
        w = [math.exp(weight - largest) for weight in weights]
        assert row["effective_samples"] == pytest.approx(
            sum(w) ** 2 / sum(x * x for x in w), rel=1e-2
        )
    assert finished == {True, False}  # both kinds were there
    assert tagged >= 1


def _whole(row):
    return {"domain": "math", "level": "AIME", "reference": None, **row}


def test_with_one_sample_the_bound_is_log_p_minus_log_q(made, models, tmp_path, plain_logprobs):
    recipe = _recipe(models, made[0].corpus.path, num_samples=1, seed=2)
    make_round(recipe, tmp_path / "r")
    samples = {r["key"]: r["completions"] for r in read_round(tmp_path / "r", "sampled_rationales")}
    for row in read_round(tmp_path / "r"):
        problem = next(Problem.from_row(_whole(r)) for r in ROWS if r["id"] == row["id"])
        [sample] = samples[row["key"]]
        target = target_of(sample["tokens"], problem.statement)
        log_p = sum(plain_logprobs(models[1], FORMAT.compose_prompt(problem), target))
        assert row["bound"] == pytest.approx(log_p - sum(sample["logprobs"]), abs=2e-3)
        assert row["effective_samples"] == pytest.approx(1.0)


def test_the_likelihoods_are_those_of_the_greedy_and_of_p_s_own_rationale(
    made, models, plain_logprobs
):
    folder = made[1]
    lm = AutoModelForCausalLM.from_pretrained(models[0])
    for row, source in zip(read_round(folder), ROWS, strict=True):
        problem = Problem.from_row(_whole(source))
        prompt = torch.tensor([[*map(ord, FORMAT.rationale_prompt(problem))]])
        output = lm.generate(prompt, max_new_tokens=40, do_sample=False, pad_token_id=0)
        z = [token for token in output[0, prompt.shape[1] :].tolist() if token]
        assert row["rationale"] == "".join(map(chr, z))
        target = target_of(row["rationale"].strip(), problem.statement)
        each = plain_logprobs(models[1], FORMAT.compose_prompt(problem), target)
        edge = len("<z></z>") + len(row["rationale"].strip())
        assert row["log_rationale"] == pytest.approx(sum(each[:edge]), abs=2e-3)
        assert row["log_problem"] == pytest.approx(sum(each[edge:]), abs=2e-3)
        assert row["rationale_tokens"] == edge
        assert row["problem_tokens"] == len("[</x>") + len(problem.statement) + 1
        assert row["own_log_problem"] is None  # a random model writes no tags
        assert row["compose_flaw"] is not None


class Pair(ScriptedEngine):
    """Every character is worth -1 nat; q and p say what belongs to them."""

    def __init__(self, weights: str) -> None:
        first, long = "so that", "a reason that is far too long to end"
        replies = {
            "q": (first, long),
            "p": ("<z>my why</z>[What is it?</x>", "<z>my why</z> and no more", "no tag at all"),
        }
        super().__init__(weights, replies[weights])


@pytest.fixture
def scripted(write_corpus, tmp_path):
    corpus = write_corpus(
        [{"id": str(n), "statement": "What is it?", "concepts": ["k"]} for n in range(40)]
    )
    recipe = HeldOut("q", "p", corpus, num_samples=2, max_tokens=20, engine=Pair, format=FORMAT)
    make_round(recipe, tmp_path / "r")
    return tmp_path / "r"


def test_a_bound_by_hand(scripted):
    # The two samples of a problem are "so that" (7 characters and the end) and the first 20 of the
    # long one, cut off. log q = -8 and -20. Tags and x: <z> </z> [ What is it? </x> and the end,
    # 3 + 4 + 1 + 11 + 4 + 1 = 24, so log p = -(7 + 24) and -(20 + 24): weights -23 and -24.
    bound = math.log((math.exp(-23) + math.exp(-24)) / 2)
    w = math.exp(-1)
    for row in read_round(scripted):
        assert row["bound"] == pytest.approx(bound)
        assert row["effective_samples"] == pytest.approx((1 + w) ** 2 / (1 + w**2))


def test_the_figures_are_means_over_the_problems(scripted):
    rows, figures = read_round(scripted), read_manifest(scripted)["figures"]
    assert figures["problems"] == 40
    short = sum(row["rationale"] == "so that" for row in rows)
    parsed = [row for row in rows if row["compose_flaw"] is None]
    named = [row for row in rows if row["compose_flaw"] == Flaw.NO_PROBLEM]
    bare = [row for row in rows if row["compose_flaw"] == Flaw.NO_RATIONALE]
    assert min(map(len, (parsed, named, bare))) > 0
    assert len(parsed) + len(named) + len(bare) == 40
    assert 0 < short < 40
    assert figures["parse_rate"] == pytest.approx(short / 40)  # the other one is cut off
    assert {row["flaw"] for row in rows} == {None, Flaw.UNFINISHED}
    assert figures["compose_parse_rate"] == pytest.approx(len(parsed) / 40)
    # p's own rationale is readable with or without a problem after it; x is 16 characters and end.
    assert figures["own_rationales"] == len(parsed) + len(named)
    assert figures["own_log_problem"] == pytest.approx(-17.0)
    assert figures["own_log_problem_per_token"] == pytest.approx(-1.0)
    # <z>so that</z> is 14, <z>a reason that is far</z> is 27: its text is 20 characters.
    tokens = (14 * short + 27 * (40 - short)) / 40
    assert figures["rationale_tokens"] == pytest.approx(tokens)
    assert figures["log_rationale"] == pytest.approx(-tokens)
    assert figures["log_rationale_per_token"] == pytest.approx(-1.0)
    assert figures["log_problem"] == pytest.approx(-17.0)


def test_the_figures_of_the_bound_are_mean_and_standard_error(made):
    rows, figures = read_round(made[1]), read_manifest(made[1])["figures"]
    bounds = [row["bound"] for row in rows]
    assert figures["bound"] == pytest.approx(fmean(bounds))
    assert figures["bound_error"] == pytest.approx(stdev(bounds) / 2)  # four problems
    # Tokens of x: statement, "[", "</x>", end.
    assert figures["bound_per_token"] == pytest.approx(sum(bounds) / (14 + 21 + 13 + 34 + 4 * 6))
    assert figures["parse_rate"] == fmean(row["flaw"] is None for row in rows)


class Bare(ScriptedEngine):
    """Like a chat server: texts alone, no log-probabilities."""

    def generate(self, requests, sampling):
        for index, completions in super().generate(requests, sampling):
            yield index, [Completion(c.text, c.finished) for c in completions]


def test_an_engine_without_log_probabilities_is_refused_with_the_cure(write_corpus, tmp_path):
    recipe = HeldOut("q", "p", write_corpus(ROWS), engine=Bare, format=FORMAT)
    with pytest.raises(
        ValueError, match=r"no token log-probabilities.*ServerEngine with chat: fal"
    ):
        make_round(recipe, tmp_path / "r")


def test_with_rationales_of_one_token_the_bound_can_be_enumerated_and_stays_below_log_p(
    models, write_corpus, tmp_path, plain_logprobs
):
    """q has 128 outcomes: the end token at once, or one character that the limit cuts off."""
    q, p = models
    recipe = _recipe(models, write_corpus(ROWS[:1]).path, num_samples=2, max_tokens=1)
    make_round(recipe, tmp_path / "r")
    problem = Problem.from_row(_whole(ROWS[0]))
    lm = AutoModelForCausalLM.from_pretrained(q)
    prompt = torch.tensor([[*map(ord, FORMAT.rationale_prompt(problem))]])
    with torch.inference_mode():
        log_q = lm(prompt).logits[0, -1].log_softmax(-1).tolist()
    log_p = []
    for token in range(128):
        z = [token] if token else []
        read = chr(token) not in FORMAT.tags
        each = plain_logprobs(p, FORMAT.compose_prompt(problem), target_of(z, problem.statement))
        log_p.append(sum(each) if read else -math.inf)
    assert math.fsum(map(math.exp, log_q)) == pytest.approx(1.0, abs=1e-5)

    [row] = read_round(tmp_path / "r")
    [sampled] = read_round(tmp_path / "r", "sampled_rationales")
    drawn = [sample["tokens"][0] if sample["tokens"] else 0 for sample in sampled["completions"]]
    expected = importance_bound([log_p[z] for z in drawn], [log_q[z] for z in drawn])
    assert row["bound"] == pytest.approx(expected, abs=2e-3)

    # Mean of the bound over all (pairs of) draws, against log sum_z p(z, x | c) <= log p(x | c).
    # Outcomes that cannot be read have weight 0 and make it minus infinity for K = 1: leave q
    # those that can, which is a distribution of its own.
    usable = [z for z in range(128) if log_p[z] > -math.inf]
    mass = math.log(math.fsum(math.exp(log_q[z]) for z in usable))
    log_r = {z: log_q[z] - mass for z in usable}
    exact = math.log(math.fsum(math.exp(log_p[z]) for z in usable))
    one = math.fsum(math.exp(log_r[z]) * importance_bound([log_p[z]], [log_r[z]]) for z in usable)
    two = math.fsum(
        math.exp(log_r[a] + log_r[b]) * importance_bound([log_p[a], log_p[b]], [log_r[a], log_r[b]])
        for a in usable
        for b in usable
    )
    assert one < two < exact


class Tagged(ScriptedEngine):
    """Whatever it says holds a tag."""

    def __init__(self, weights: str) -> None:
        super().__init__(weights, ("so <z> that",))


def test_a_problem_of_which_every_sample_holds_a_tag_has_no_bound_and_is_counted(
    write_corpus, tmp_path
):
    recipe = HeldOut("q", "p", write_corpus(ROWS), num_samples=2, engine=Tagged, format=FORMAT)
    figures = make_round(recipe, tmp_path / "r")["figures"]
    assert (figures["bound"], figures["bounded"], figures["problems"]) == (None, 0, len(ROWS))
    assert all(row["bound"] is None for row in read_round(tmp_path / "r"))
    assert "Infinity" not in (tmp_path / "r" / "rows.jsonl").read_text()


class Narrow(Pair):
    """Holds no scored sequence with the long sample in it."""

    def overlong(self, requests, max_tokens=0):
        return {
            index: "too long"
            for index, request in enumerate(requests)
            if not max_tokens and len(request.target.segments[0][1]) == 20
        }


def test_a_sample_too_long_to_score_has_no_weight_and_its_problem_stays(write_corpus, tmp_path):
    corpus = write_corpus(
        [{"id": str(n), "statement": "What is it?", "concepts": ["k"]} for n in range(10)]
    )
    recipe = HeldOut("q", "p", corpus, num_samples=2, max_tokens=20, engine=Narrow, format=FORMAT)
    make_round(recipe, tmp_path / "r")
    rows = read_round(tmp_path / "r")
    assert len(rows) == 10
    # One of the two samples has a weight, -23 as above; the other counts in K all the same.
    assert all(row["bound"] == pytest.approx(-23 - math.log(2)) for row in rows)
    unscored = [row for row in rows if row["log_problem"] is None]
    assert {row["flaw"] for row in unscored} == {Flaw.UNFINISHED}
    assert {row["problem_tokens"] for row in rows} == {17}


def test_the_greedy_rationale_is_scored_as_the_m_step_trains_on_it(write_corpus, tmp_path):
    class Chatty(Pair):
        def generate(self, requests, sampling):
            if sampling.temperature:
                yield from super().generate(requests, sampling)
                return
            for index, _ in enumerate(requests):
                yield index, [Completion("Well. Thinking Process: so it is", True, (1, 2))]

        def score(self, requests):
            seen.extend(request.target.segments[0][1] for request in requests)
            return super().score(requests)

    seen = []
    rows = [{"id": "a", "statement": "So it is what?", "concepts": ["k"]}]
    recipe = HeldOut("q", "p", write_corpus(rows), max_tokens=20, engine=Chatty, format=FORMAT)
    make_round(recipe, tmp_path / "r")
    [row] = read_round(tmp_path / "r")
    assert "so it is" in seen
    assert not any("Well" in text for text in seen if isinstance(text, str))
    assert (row["flaw"], row["longest_run"]) == (None, 3)


def test_models_of_two_vocabularies_are_refused(models, tmp_path, write_corpus):
    other = tmp_path / "other"
    shutil.copytree(models[1], other)
    path = other / "tokenizer.json"
    settings = json.loads(path.read_text())
    vocabulary = settings["model"]["vocab"]
    first, second = sorted(vocabulary)[40:42]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(settings))
    recipe = HeldOut(models[0], str(other), write_corpus(ROWS), format=FORMAT)
    with pytest.raises(ValueError, match=r"have different tokenizers, so that token ids"):
        make_round(recipe, tmp_path / "r")


def test_a_problem_without_concepts_is_dropped_and_counted(write_corpus, tmp_path):
    rows = [{"id": "a", "statement": "What is it?", "concepts": ["k"]}, {"statement": "Bare."}]
    recipe = HeldOut("q", "p", write_corpus(rows), max_tokens=20, engine=Pair, format=FORMAT)
    manifest = make_round(recipe, tmp_path / "r")
    assert (manifest["rows"]["rows"], manifest["dropped"]) == (1, {"no concepts": 1})
