"""A teacher's replies become concepts and rationales; what is there already is kept."""

from functools import partial

import pytest

from promptcot.engines import ScriptedEngine, ServerEngine
from promptcot.keyphrases import keyphrases
from promptcot.parsing import Flaw
from promptcot.prompts import PromptFormat
from promptcot.protocols import Sampling
from promptcot.recipes import Annotate, make_round
from promptcot.store import DROPPED, read_round

LIST = '```python\n["parity", "counting"]\n```\n'
REPLY = LIST + "Thinking Process:\nStart from parity."
STATEMENT = "How many even numbers lie between the integers 1 and 100?"
BARE = {"id": "bare", "statement": STATEMENT}
NAMED = {"id": "named", "statement": "What is 1 + 1?", "concepts": ["sums"]}
WHOLE = NAMED | {"id": "whole", "rationale": "Because I say so."}


@pytest.fixture
def annotate(write_corpus, tmp_path):
    """Makes a round by a teacher with these replies, of which each problem gets all in turn."""

    def make(replies, rows=(BARE,), **changes):
        engine = replies and partial(ScriptedEngine, replies=replies)
        sampling = Sampling(n=len(replies or "1"), temperature=0.7)
        given = {"engine": engine, "num_concepts": 2, "sampling": sampling, **changes}
        recipe = Annotate(write_corpus(rows), "teacher", **given)
        return make_round(recipe, tmp_path / "r"), read_round(tmp_path / "r")

    return make


def test_the_concepts_are_the_list_and_the_rationale_what_follows_its_marker(annotate):
    manifest, [row] = annotate((REPLY,))
    assert row["concepts"] == ["parity", "counting"]
    assert row["rationale"] == "Start from parity."
    assert (row["id"], row["statement"], row["domain"]) == ("bare", STATEMENT, "math")
    assert row["reward"] is None
    assert manifest["dropped"] == {}


def test_what_a_teacher_thinks_to_itself_is_no_reply(annotate):
    thought = '<think>```python\n["x", "y"]\n```\nThinking Process: no.</think>'
    _, [row] = annotate((thought + REPLY,))
    assert row["concepts"] == ["parity", "counting"]
    assert row["rationale"] == "Start from parity."


def test_the_first_reply_that_can_be_read_counts(annotate, tmp_path):
    useless = ("I cannot.", "", "```python\n[1, 2]\n```")
    manifest, [row] = annotate((*useless, REPLY))
    assert row["concepts"] == ["parity", "counting"]
    assert manifest["dropped"] == {}
    # Any text is a rationale: the first in the order of the sampling that is not empty.
    [asked] = read_round(tmp_path / "r", "rationales")
    texts = [completion["text"] for completion in asked["completions"]]
    first = next(text for text in texts if text)
    assert row["rationale"] == first.rpartition("Thinking Process:")[2].strip()


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ("I cannot.", f"concepts: {Flaw.NO_CONCEPTS}"),
        ('```python\n["one"]\n```', f"concepts: {Flaw.WRONG_COUNT}"),
        ('```python\nprint(["a", 1])\n```', f"concepts: {Flaw.NO_CONCEPTS}"),
        (LIST + "Thinking Process: ", f"rationales: {Flaw.EMPTY}"),
        (LIST + "Thinking Process: a <!-- END PROBLEM -->", f"rationales: {Flaw.HAS_TAGS}"),
        (REPLY + "!" * 3000, f"rationales: {Flaw.UNFINISHED}"),
    ],
)
def test_a_problem_of_which_no_reply_can_be_read_is_dropped_for_a_named_reason(
    annotate, tmp_path, reply, reason
):
    manifest, rows = annotate((reply, reply), [BARE, WHOLE])
    assert [row["id"] for row in rows] == ["whole"]
    assert manifest["dropped"] == {reason: 1}
    [dropped] = read_round(tmp_path / "r", DROPPED)
    assert dropped["reason"] == reason


def test_nothing_readable_at_all_is_an_error_that_counts(annotate):
    with pytest.raises(ValueError, match=f"dropped were 2 concepts: {Flaw.NO_CONCEPTS}"):
        annotate(("I cannot.",), [BARE, BARE | {"id": "other"}])


def test_concepts_and_rationales_that_are_there_are_kept_and_not_asked_for(annotate, tmp_path):
    manifest, rows = annotate((REPLY,), [BARE, NAMED, WHOLE])
    by_id = {row["id"]: row for row in rows}
    assert by_id["named"]["concepts"] == by_id["whole"]["concepts"] == ["sums"]
    assert by_id["named"]["rationale"] == "Start from parity."
    assert by_id["whole"]["rationale"] == "Because I say so."
    assert [row["id"] for row in rows] == ["bare", "named", "whole"]
    # Concepts were asked of one, rationales of two.
    assert (manifest["rows"]["concepts"], manifest["rows"]["rationales"]) == (1, 2)


def test_a_rationale_without_concepts_is_kept_and_gets_concepts(annotate):
    _, [row] = annotate((REPLY,), [BARE | {"rationale": "Mine."}])
    assert (row["concepts"], row["rationale"]) == (["parity", "counting"], "Mine.")


def test_nobody_is_asked_where_nothing_is_missing(annotate):
    # No server is there: asking would end in a ConnectionError after a second.
    engine = partial(ServerEngine, base_url="http://127.0.0.1:9/v1", max_retries=0)
    _, [row] = annotate((REPLY,), [WHOLE], engine=engine)
    assert row["rationale"] == "Because I say so."


def test_without_an_engine_the_concepts_are_key_phrases_and_the_rationale_a_form(annotate):
    manifest, rows = annotate(None, [BARE, NAMED, WHOLE], num_concepts=3)
    by_id = {row["id"]: row for row in rows}
    concepts = by_id["bare"]["concepts"]
    assert concepts == list(keyphrases(STATEMENT, 3))
    assert 0 < len(concepts) <= 3
    assert all(word in STATEMENT.casefold() for phrase in concepts for word in phrase.split())
    assert all(concept in by_id["bare"]["rationale"] for concept in concepts)
    assert by_id["named"]["concepts"] == ["sums"]
    assert "sums" in by_id["named"]["rationale"]
    assert by_id["whole"]["rationale"] == "Because I say so."
    assert set(manifest["rows"]) == {"rows"}  # nobody was asked


def test_a_statement_without_key_phrases_is_dropped_and_named(annotate, tmp_path):
    manifest, [row] = annotate(None, [{"id": "sign", "statement": "$x^2$"}, WHOLE])
    assert row["id"] == "whole"
    assert manifest["dropped"] == {"no key phrases": 1}
    assert read_round(tmp_path / "r", DROPPED)[0]["id"] == "sign"


def test_key_phrases_have_at_most_three_words_and_none_of_the_mathematics():
    text = r"Let $n$ be a positive integer with \frac{n}{2} prime factors of a perfect square."
    phrases = keyphrases(text, 5)
    assert phrases == keyphrases(text, 5)
    assert all(1 <= len(phrase.split()) <= 3 for phrase in phrases)
    assert not any("frac" in phrase for phrase in phrases)
    assert any("integer" in phrase for phrase in phrases)


def test_the_tags_that_may_not_stand_in_a_rationale_are_those_of_the_format(annotate):
    format = PromptFormat(rationale_tags=("<z>", "</z>"), problem_tags=("<x>", "</x>"))
    manifest, _ = annotate((LIST + "Thinking Process: a <z> b",), [BARE, WHOLE], format=format)
    assert manifest["dropped"] == {f"rationales: {Flaw.HAS_TAGS}": 1}
