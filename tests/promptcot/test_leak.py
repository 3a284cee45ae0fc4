"""The leak guard: prices by hand, and a policy that copies against an honest one."""

import pytest

from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import HFEngine
from promptcot.leak import LeakGuard
from promptcot.prompts import PromptFormat
from promptcot.protocols import ScoreRequest
from promptcot.rewards import rationale_reward

X = "find the sum of all primes below one hundred"  # nine words


@pytest.mark.parametrize(
    ("rationale", "count"),
    [
        ("", 0),
        ("start from primes and ask for a total", 0),
        ("ask for the sum of all", 0),  # a run of four is free
        ("the sum of all primes", 1 + 1),  # five: one word beyond, one run of five
        (X, 5 + 5),
        (f"The problem is: {X.upper()}!", 5 + 5),  # case and marks hide nothing
        (f"{X} {X}", 5 + 5),  # each run of the problem counts once
        ("find the sum of all; of all primes below one", 1 + 2),  # two runs of five
    ],
)
def test_prices_by_hand(rationale, count):
    assert LeakGuard(nats_per_word=2.0).penalty(rationale, X) == 2.0 * count


def test_of_a_short_problem_half_is_free_and_a_copy_never():
    guard = LeakGuard(nats_per_word=1.0)
    assert guard.penalty("what is it", "What is 1 + 1?") == 0.0  # two of four words
    assert guard.penalty("What is 1 + 1?", "What is 1 + 1?") == 2.0 + 2.0
    assert guard.penalty("Prove.", "Prove.") == 1.0 + 1.0
    assert guard.penalty("anything", "?!") == 0.0


def test_honest_rationales_pay_next_to_nothing_and_copies_dearly():
    annotations = read_corpus(Corpus()).annotations
    guard = LeakGuard()
    honest = [guard.penalty(a.rationale, a.problem.statement) for a in annotations]
    copied = [guard.penalty(a.problem.statement, a.problem.statement) for a in annotations]
    assert sum(penalty > 0 for penalty in honest) <= len(annotations) // 20
    assert min(copied) > max(honest)


def in_pieces(statement, size):
    found = statement.split()
    return ", so ".join(" ".join(found[i : i + size]) for i in range(0, len(found), size))


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_a_copy_in_pieces_pays_for_what_is_beyond_the_free_share(size):
    # nine words in order, of which 0.6 * 9 are free
    assert LeakGuard(nats_per_word=1.0).penalty(in_pieces(X, size), X) == pytest.approx(9 - 5.4)
    guard = LeakGuard()
    for annotation in read_corpus(Corpus()).annotations:
        statement = annotation.problem.statement
        assert guard.penalty(in_pieces(statement, size), statement) > 500
    assert LeakGuard(free_share=1.0).penalty(in_pieces(X, size), X) == 0.0


def test_scattered_words_of_a_long_rationale_are_no_copy():
    every = [a.rationale for a in read_corpus(Corpus()).annotations]
    other = "A rope of forty metres is cut twice so that the pieces are as long as 3 to 5 to 12."
    assert LeakGuard().penalty(" ".join(every), other) == 0.0


@pytest.mark.parametrize("hidden", [X.replace(" ", "_"), X.replace("e", "e\u200b"), f"\ufeff{X}"])
def test_signs_that_nobody_sees_hide_no_copy(hidden):
    guard = LeakGuard()
    assert guard.penalty(hidden, X) == guard.penalty(X, X)


def test_a_policy_that_copies_scores_below_an_honest_one_and_without_the_guard_above(
    embedded_weights,
):
    # Under the sum of log-probabilities a copy wins: it is shorter, and the problem comes free.
    format = PromptFormat()
    engine = HFEngine(str(embedded_weights), dtype="float32")
    for annotation in read_corpus(Corpus(only={"domain": "math"}, limit=2)).annotations:
        problem = annotation.problem
        texts = {
            "honest": annotation.rationale,
            "copy": problem.statement,
            "quote": f"A good problem would be: {problem.statement}",
            "pieces": in_pieces(problem.statement, 4),
        }
        requests = [
            ScoreRequest(
                format.compose_prompt(problem), format.compose_target(text, problem.statement)
            )
            for text in texts.values()
        ]
        scored = dict(engine.score(requests))
        rewards = {name: rationale_reward(scored[i]).value() for i, name in enumerate(texts)}
        guarded = {
            name: rewards[name] - LeakGuard().penalty(text, problem.statement)
            for name, text in texts.items()
        }
        assert rewards["copy"] > rewards["honest"]
        assert guarded["honest"] > max(guarded[name] for name in ("copy", "quote", "pieces"))
    engine.close()


@pytest.mark.parametrize(
    "given",
    [
        {"nats_per_word": -1.0},
        {"nats_per_word": float("nan")},
        {"free_words": -1},
        {"free_share": 1.5},
    ],
)
def test_a_guard_that_rewards_is_refused(given):
    with pytest.raises(ValueError, match="to do without, set leak_guard to null"):
        LeakGuard(**given)
