"""The majority of completions as a label, worked by hand."""

import pytest

from promptcot.protocols import Completion, Labeller
from promptcot.records import Label
from verify import MajorityVote
from verify.votes import Election


@pytest.fixture(scope="module")
def vote():
    vote = MajorityVote()
    yield vote
    vote.close()


def said(*answers):
    return [Completion(rf"So it is \boxed{{{answer}}}.") for answer in answers]


def cut(answer):
    return Completion(rf"Perhaps \boxed{{{answer}}}, but", finished=False)


def test_it_sits_behind_the_seam(vote):
    assert isinstance(vote, Labeller)


def test_equal_answers_vote_together_and_the_most_frequent_spelling_is_the_label(vote):
    # 1/2 twice, 0.5 and x^0/2 once each: four of six, all of which voted.
    completions = said(r"\frac12", "3", "0.5", "4", r"\frac12", r"\frac{1}{2}x^0")
    assert vote.label(completions) == Label(r"\frac12", Election.ELECTED, votes=4, cast=6)


@pytest.mark.parametrize(
    ("completions", "label"),
    [
        (said("7"), Label("7", Election.ELECTED, 1, 1)),
        (said("1", "2", "1", "2"), Label(None, Election.TIE, 2, 4)),
        # 3 of 8 are 0.375
        (said("1", "1", "1", "2", "3", "4", "5", "6"), Label(None, Election.NO_QUORUM, 3, 8)),
        (said("1", "1", "1", "1", "3", "4", "5", "6"), Label("1", Election.ELECTED, 4, 8)),
        # the cut-off ones do not vote, but a quorum is a share of all: 2 of 5 and 2 of 4
        ([*said("1", "1"), cut("2"), cut("2"), cut("2")], Label(None, Election.NO_QUORUM, 2, 2)),
        ([*said("1", "1"), cut("2"), cut("2")], Label("1", Election.ELECTED, 2, 2)),
        ([cut("1")] * 3, Label(None, Election.NO_VOTES, 0, 0)),
        ([Completion("I cannot tell. " * 50)] * 3, Label(None, Election.NO_VOTES, 0, 0)),
        ([Completion("")], Label(None, Election.NO_VOTES, 0, 0)),
        ([], Label(None, Election.NO_VOTES, 0, 0)),
        # the last box counts of one who changes its mind
        ([Completion(r"\boxed{1}, no: \boxed{2}")] * 2, Label("2", Election.ELECTED, 2, 2)),
    ],
)
def test_what_completions_elect(vote, completions, label):
    assert vote.label(completions) == label
    assert vote.label(completions[::-1]) == label


def test_a_margin_is_a_share_of_the_votes():
    # a lead of one vote of five is 0.2
    completions = said("1", "1", "1", "2", "2")
    for margin, answer in ((0.2, "1"), (0.3, None)):
        vote = MajorityVote(margin=margin)
        label = vote.label(completions)
        vote.close()
        assert label.answer == answer
        assert label.why == (Election.ELECTED if answer else Election.NO_MARGIN)


def test_only_the_forms_that_count_are_read():
    vote = MajorityVote(forms=("boxed",))
    completions = [Completion("The answer is 5."), *said("6")]
    assert vote.label(completions) == Label("6", Election.ELECTED, 1, 1)
    vote.close()


@pytest.mark.parametrize("text", ["\ud800", r"\boxed{\ud800}", "9^{9^{9^9}}", "x" * 10**6, "\x00"])
def test_no_text_raises(vote, text):
    label = vote.label([Completion(text), Completion(text), *said("5")])
    assert label.why in list(Election)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"quorum": 1.5}, "quorum=1.5: it is a share, set it to 0 to 1"),
        ({"quorum": float("nan")}, "quorum=nan"),
        ({"margin": -0.1}, "margin=-0.1"),
        ({"forms": ["box"]}, "unknown form of answer 'box'"),
    ],
)
def test_wrong_parameters_are_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=message):
        MajorityVote(**wrong)
