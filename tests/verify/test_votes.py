"""Majorities, worked by hand."""

from itertools import permutations

import pytest

from promptcot.records import Outcome
from verify.formulas.deciding import decide
from verify.votes import Ballot, Election, count_votes


def are_equal(a, b):
    outcome = decide(a, b).outcome
    return None if outcome is Outcome.UNDECIDED else outcome is Outcome.PASS


def boxed(*answers):
    return [Ballot(rf"\boxed{{{answer}}}") for answer in answers]


def test_equal_answers_vote_together():
    # 1/2 and 0.5 are three votes together, 3 has two.
    tally = count_votes(boxed(r"\frac12", "3", "0.5", "3", r"\frac12"), are_equal)
    assert tally.answer == r"\frac12"
    assert [group.votes for group in tally.groups] == [3, 2]


def test_no_order_of_the_ballots_changes_anything():
    # 50% equals 50 and 1/2, which are not equal: whichever it joins, it must be the same.
    ballots = boxed(r"50\%", "50", r"\frac12", "0.5", "7")
    assert len({count_votes(order, are_equal) for order in permutations(ballots)}) == 1


def test_cut_off_and_unparsed_completions_do_not_vote():
    ballots = [*boxed("1", "2", "2"), Ballot(r"\boxed{1}", finished=False), Ballot("no idea " * 90)]
    tally = count_votes(ballots, are_equal)
    assert (tally.answer, tally.votes, tally.cut_off, tally.unparsed) == ("2", 3, 1, 1)


@pytest.mark.parametrize(
    ("text", "vote"),
    [
        ("I'm sorry, but I can't help with that.", ""),
        ("I cannot solve problem 5.", ""),
        ("There is no solution.", ""),
        (r"Hence \boxed{?}", ""),
        ("...", ""),
        ("Sorry!", ""),
        ("42", "42"),
        ("(B)", "(B)"),
        ("We have 56 + 11. In all there are 67 shirts.", "67"),
        ("The answer is yes.", "yes"),
        (r"\boxed{\text{no solution}}", r"\text{no solution}"),
        (r"\boxed{∅}", "∅"),
    ],
)
def test_an_excuse_is_no_vote(text, vote):
    tally = count_votes([Ballot(text)] * 2 + boxed("1"), are_equal)
    assert tally.answer == (vote or "1")
    assert tally.unparsed == (0 if vote else 2)


@pytest.mark.parametrize(
    ("ballots", "quorum", "margin", "election"),
    [
        (boxed("1", "2", "1", "2"), 0, 0, Election.TIE),
        (boxed("1"), 0, 0, Election.ELECTED),
        ([Ballot("", finished=False)] * 3, 0, 0, Election.NO_VOTES),
        ([], 0, 0, Election.NO_VOTES),
        # two votes of five ballots are 0.4
        ([*boxed("1", "1"), *[Ballot("", finished=False)] * 3], 0.5, 0, Election.NO_QUORUM),
        ([*boxed("1", "1"), *[Ballot("", finished=False)] * 3], 0.4, 0, Election.ELECTED),
        # a lead of one vote of five is 0.2
        (boxed("1", "1", "1", "2", "2"), 0, 0.3, Election.NO_MARGIN),
        (boxed("1", "1", "1", "2", "2"), 0, 0.2, Election.ELECTED),
        # 7 of 25 are 0.28, and 16 less 9 too, though 0.28 * 25 is more than 7 in floating point
        ([*boxed(*"1" * 7), *[Ballot("", finished=False)] * 18], 0.28, 0, Election.ELECTED),
        (boxed(*"1" * 16, *"2" * 9), 0, 0.28, Election.ELECTED),
    ],
)
def test_quorum_margin_and_ties(ballots, quorum, margin, election):
    tally = count_votes(ballots, are_equal, quorum, margin)
    assert tally.election is election
    assert (tally.answer is None) == (election is not Election.ELECTED)


def test_answers_that_nobody_can_compare_do_not_join():
    tally = count_votes(boxed("9^{9^{9^9}}", "9^{9^{9^8}}", "4"), are_equal)
    assert tally.election is Election.TIE
    assert len(tally.groups) == 3
