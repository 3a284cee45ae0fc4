"""New problems: which concept sets are drawn, what is dropped, and how the rows are named."""

from functools import partial
from itertools import combinations

import pytest

from promptcot.engines import ScriptedEngine
from promptcot.parsing import Flaw
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion, Sampling
from promptcot.recipes import Compose, make_round
from promptcot.store import DROPPED, read_round

FORMAT = PromptFormat(rationale_tags=("<z>", "</z>"), problem_tags=("<x>", "</x>"))
SEED = "A farmer has seven hens and each hen lays two eggs on every day of May."
ROWS = [
    {"id": "eggs", "statement": SEED, "concepts": ["a", "b", "c"], "level": "AMC12"},
    {"id": "sum", "statement": "What is 1 + 1?", "concepts": ["b", "c", "d"], "level": "AMC12"},
    {"id": "loop", "statement": "Print 1.", "concepts": ["u", "v", "w", "y"], "domain": "code"},
]
GOOD = "<z>why</z><x>What is new?</x>"


@pytest.fixture
def recipe(write_corpus):
    """Four concept sets of three."""
    return partial(
        Compose, "p", write_corpus(ROWS), num_sets=4, num_concepts=3, format=FORMAT, seed=1
    )


def scripted(*replies):
    return partial(ScriptedEngine, replies=replies)


class Numbered(ScriptedEngine):
    """Writes another problem for every completion."""

    def generate(self, requests, sampling):
        for index, request in enumerate(requests):
            numbers = range(request.seed, request.seed + sampling.n)
            texts = [f"<z>from {n}</z><x>What is {n}?</x>" for n in numbers]
            yield index, [Completion(text) for text in texts]


def test_what_does_not_parse_and_what_is_a_copy_is_dropped_and_counted_by_reason(recipe, tmp_path):
    # n is the number of replies, so each of the four sets gets every reply once.
    replies = (
        GOOD,  # new for the first set, a copy of that for the other three
        "no tags",
        "<z>why</z> What?",
        "<z>a</z><z>b</z><x>What?</x>",
        f"<z>why</z><x>Look: {SEED.upper()}</x>",  # 15 words in a row
        "<z>why</z><x>what IS 1  +  1?</x>",  # the same but for case and white space
        "<z>" + "w" * 100,
    )
    sampling = Sampling(n=len(replies), max_tokens=100)
    manifest = make_round(recipe(engine=scripted(*replies), sampling=sampling), tmp_path / "r")
    assert manifest["rows"]["rows"] == 1
    assert manifest["dropped"] == {
        "copies another new problem": 3,
        "copies a seed problem": 4 + 4,
        Flaw.NO_RATIONALE: 4,
        Flaw.NO_PROBLEM: 4,
        Flaw.REPEATED: 4,
        Flaw.UNFINISHED: 4,
    }
    assert 1 + sum(manifest["dropped"].values()) == 4 * len(replies)
    [row] = read_round(tmp_path / "r")
    assert (row["rationale"], row["statement"], row["reward"]) == ("why", "What is new?", None)


def test_a_copy_has_thirteen_words_in_a_row_of_a_seed_problem_and_twelve_are_none(recipe, tmp_path):
    words = SEED.split()
    for count, reason in ((13, {"copies a seed problem": 3}), (12, {})):
        replies = (GOOD, f"<z>why</z><x>{' '.join(words[1 : 1 + count])}</x>")
        made = recipe(engine=scripted(*replies), sampling=Sampling(n=2), num_sets=3)
        dropped = make_round(made, tmp_path / str(count))["dropped"]
        again = dropped.pop("copies another new problem")
        assert dropped == reason
        assert again == 6 - 1 - (3 if reason else 1)


@pytest.mark.parametrize("n", [1, 3])
def test_every_new_problem_has_an_id_of_its_own(recipe, tmp_path, n):
    make_round(recipe(engine=Numbered, sampling=Sampling(n=n)), tmp_path / "r")
    rows = read_round(tmp_path / "r")
    sets = [f"new-1-0000{k}" for k in range(1, 5)]
    ids = sets if n == 1 else [f"{name}-{k}" for name in sets for k in range(1, n + 1)]
    assert [row["id"] for row in rows] == ids
    assert len({row["key"] for row in rows}) == len(rows) == 4 * n


def test_the_drawn_sets_are_new_and_each_of_one_domain(recipe, tmp_path):
    manifest = make_round(recipe(engine=Numbered, num_sets=100), tmp_path / "r")
    rows = read_round(tmp_path / "r")
    drawn = [frozenset(row["concepts"]) for row in rows]
    # Of a, b, c, d there are four sets of three, two of them known; of u, v, w, y four, none of
    # them known, for the corpus problem has all four.
    maths = {frozenset(three) for three in combinations("abcd", 3)}
    expected = maths - {frozenset("abc"), frozenset("bcd")}
    expected |= {frozenset(three) for three in combinations("uvwy", 3)}
    assert set(drawn) == expected
    assert len(drawn) == len(expected) == 6
    assert manifest["figures"]["concept_sets"] == 6
    assert manifest["figures"]["asked_for"] == 100
    for row in rows:
        assert row["domain"] == ("math" if set(row["concepts"]) <= set("abcd") else "code")
        assert row["level"] == ("AMC12" if row["domain"] == "math" else "AIME")
        assert row["reference"] is None


def test_the_sets_depend_on_the_seed_alone(recipe, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_round(recipe(engine=Numbered, num_sets=2, seed=seed), tmp_path / name)
    a, b, c = (read_round(tmp_path / name) for name in "abc")
    assert a == b
    assert [row["concepts"] for row in a] != [row["concepts"] for row in c]


def test_no_problem_left_is_an_error_that_lists_what_was_dropped(recipe, tmp_path):
    made = recipe(engine=scripted("no tags", "<z>why</z> What?"), sampling=Sampling(n=2))
    message = rf"no row is left for .*r, dropped were 4 {Flaw.NO_PROBLEM}, 4 {Flaw.NO_RATIONALE}: "
    for _ in range(2):  # and the same once more, when all is on disk
        with pytest.raises(ValueError, match=message):
            make_round(made, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_what_is_dropped_is_kept_to_be_looked_at(recipe, tmp_path):
    replies = (GOOD, "no tags")
    make_round(recipe(engine=scripted(*replies), sampling=Sampling(n=2)), tmp_path / "r")
    dropped = read_round(tmp_path / "r", DROPPED)
    unread = [row for row in dropped if row["reason"] == Flaw.NO_RATIONALE]
    copies = [row for row in dropped if row["reason"] == "copies another new problem"]
    assert [len(row["concepts"]) for row in unread] == [3] * 4
    assert [row["statement"] for row in copies] == ["What is new?"] * 3


def test_the_leak_of_the_problem_into_its_rationale_is_a_mean_over_the_rows(recipe, tmp_path):
    # 4-grams of "find the sum of all": two; the first rationale has one of them, the other none.
    replies = (
        "<z>we find the sum of it</z><x>Find the sum of all.</x>",
        "<z>why</z><x>What is it then?</x>",
    )
    made = recipe(engine=scripted(*replies), sampling=Sampling(n=2))
    assert make_round(made, tmp_path / "r")["figures"]["mean_overlap"] == pytest.approx(0.25)


def test_a_corpus_with_too_few_concepts_is_named(recipe, tmp_path):
    with pytest.raises(ValueError, match="no domain of the corpus has the 5 different concepts"):
        make_round(recipe(engine=Numbered, num_concepts=5), tmp_path / "r")


@pytest.mark.parametrize(
    "wrong", [{"num_sets": 0}, {"num_concepts": 0}, {"concept_temperature": 0.0}], ids=str
)
def test_settings_that_cannot_work_are_refused_by_name(wrong):
    [(name, value)] = wrong.items()
    with pytest.raises(ValueError, match=f"{name}={value}.*must be at least 1"):
        Compose("p", **wrong)
