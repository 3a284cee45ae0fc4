"""Signs of collapse, by hand and at both sides of each limit."""

import pytest

from promptcot.collapse import Alarm, CollapseLimits, RoundFigures, alarms, judge, judge_rounds

LIMITS = CollapseLimits()


def of(**figures):
    return RoundFigures(figures)


def one(now, before=None, limits=LIMITS):
    """What was judged, which must be one quantity, and its alarm."""
    [(name, alarm)] = judge(limits, now, before).items()
    assert alarm is None or alarm.name == name
    return alarm


@pytest.mark.parametrize(("share", "is_beyond"), [(0.5, False), (0.51, True)])
def test_problems_that_are_mostly_solved_are_judged_by_themselves(share, is_beyond):
    alarm = one(of(mostly_solved=share))
    assert (alarm is not None) == is_beyond
    if is_beyond:
        assert alarm == Alarm("mostly_solved", 0.51, None, 0.5)
        assert str(alarm) == (
            "more than half of the rollouts pass for 51.0% of the problems (limit 50.0%): little "
            "is left to learn"
        )


@pytest.mark.parametrize(
    ("name", "before", "fine", "beyond"),
    [
        ("distinct_4", 0.5, 0.41, 0.39),  # a fifth less is 0.4
        ("answer_entropy", 2.0, 1.01, 0.99),  # half of it is 1
        ("mean_tokens", 100.0, 149.0, 151.0),
        ("mean_tokens", 150.0, 101.0, 99.0),  # a factor of 1.5 the other way is 100
        ("mean_tokens", 150.0, 300 / 2, 0.0),
    ],
)
def test_both_sides_of_the_limits_of_a_round_and_the_one_before(name, before, fine, beyond):
    assert one(of(**{name: fine}), of(**{name: before})) is None
    alarm = one(of(**{name: beyond}), of(**{name: before}))
    assert (alarm.name, alarm.now, alarm.before) == (name, beyond, before)
    assert "fell from" in str(alarm) or "went from" in str(alarm)


def test_diversity_that_rises_is_no_alarm():
    assert one(of(distinct_4=0.9), of(distinct_4=0.1)) is None
    assert one(of(answer_entropy=2.0), of(answer_entropy=0.1)) is None


def rates(*values):
    return RoundFigures(pass_rates={f"p{number}": value for number, value in enumerate(values)})


def test_a_fall_of_the_pass_rate_by_hand():
    # falls 1/8, 1/8, 1/8, 0: mean 3/32 = 0.094, deviation 1/16, error 1/32, twice that 0.0625
    before, now = rates(0.5, 0.5, 0.5, 0.5), rates(0.375, 0.375, 0.375, 0.5)
    alarm = one(now, before)
    assert alarm == Alarm("pass_rate", 0.40625, 0.5, 0.05)
    assert str(alarm) == "the pass rate fell from 50.0% to 40.6% (limit 5 points)"
    assert one(now, before, CollapseLimits(max_pass_rate_fall=0.1)) is None


def test_a_fall_that_chance_explains_is_none():
    # falls 1/2, -1/4, 1/4, -1/8: mean 3/32 as above, but an error of 0.17
    assert one(rates(0.0, 0.75, 0.25, 0.625), rates(0.5, 0.5, 0.5, 0.5)) is None
    # of a single problem the error is not known
    assert judge(LIMITS, rates(0.0), rates(1.0)) == {}


def test_only_problems_that_both_rounds_asked_are_compared():
    # the solved ones are asked no more; of the others each gains
    before = RoundFigures(pass_rates={"a": 1.0, "b": 1.0, "c": 0.25, "d": 0.0})
    now = RoundFigures(pass_rates={"c": 0.5, "d": 0.25, "new": 0.0})
    assert one(now, before) is None
    # falls of 1/4 and 1/2: a mean of 3/8, an error of 1/8
    alarm = one(RoundFigures(pass_rates={"a": 0.75, "b": 0.5}), before)
    assert (alarm.now, alarm.before) == (0.625, 1.0)


def test_rounds_without_a_common_problem_are_compared_by_all_of_theirs():
    before = RoundFigures(pass_rates={f"a{n}": n % 2 * 1.0 for n in range(16)})
    # means of 1/2 and 1/8; of 16 zeros and ones the errors are sqrt(4 / 15 / 16) = 0.129 and
    # sqrt(7 / 4 / 15 / 16) = 0.085, of the difference 0.155
    low = RoundFigures(pass_rates={f"b{n}": float(n < 2) for n in range(16)})
    alarm = one(low, before)
    assert (alarm.now, alarm.before) == (0.125, 0.5)
    near = RoundFigures(pass_rates={f"b{n}": float(n < 4) for n in range(16)})
    assert one(near, before) is None  # 0.25 less, within 2 * sqrt(4 / 15 / 16 + 3 / 15 / 16)
    one_in_common = RoundFigures(pass_rates={"a0": 0.0, **low.pass_rates})
    assert one(one_in_common, before)  # which has no spread of its own
    assert judge(LIMITS, RoundFigures(pass_rates={"c": 0.0}), before) == {}


def test_the_chosen_solutions_log_probability_is_judged_by_itself():
    assert one(RoundFigures(chosen_log_ratio=-0.09)) is None
    assert one(RoundFigures(chosen_log_ratio=0.5)) is None
    alarm = one(RoundFigures(chosen_log_ratio=-0.11))
    assert "fell to 0.110 nats a token below the reference's (limit 0.1)" in str(alarm)


def test_what_is_absent_or_zero_or_has_no_limit_is_not_judged():
    assert judge(LIMITS, of(), of(distinct_4=0.5)) == {}
    assert judge(LIMITS, of(distinct_4=0.1), None) == {}
    assert judge(LIMITS, of(answer_entropy=0.0), of(answer_entropy=0.0)) == {}
    nothing = CollapseLimits(None, None, None, None, None, None)
    everything = dict.fromkeys(
        ("mostly_solved", "distinct_4", "answer_entropy", "mean_tokens"), 1.0
    )
    now = RoundFigures(everything, {"a": 0.0, "b": 0.0}, -9.0)
    assert judge(nothing, now, RoundFigures(everything, {"a": 1.0, "b": 1.0})) == {}
    assert len(judge(LIMITS, now, RoundFigures(everything, {"a": 1.0, "b": 1.0}))) == 6


def test_rounds_are_judged_one_by_one():
    rounds = [of(distinct_4=value) for value in (0.8, 0.6, 0.55, 0.4)]
    # 0.6 is a quarter less than 0.8; 0.55 is 8 hundredths less than 0.6; 0.4 is 27 less than 0.55
    judged = judge_rounds(LIMITS, rounds)
    assert [len(alarms(of_round)) for of_round in judged] == [0, 1, 0, 1]


def test_a_round_that_was_made_harder_is_not_compared_with_the_easier_one():
    rounds = [of(distinct_4=value, mostly_solved=0.4) for value in (0.8, 0.6, 0.4, 0.2)]
    judged = judge_rounds(LIMITS, rounds, hardened=True)
    assert [len(alarms(of_round)) for of_round in judged] == [0, 1, 0, 1]
    assert list(judged[2]) == ["mostly_solved"]


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ({"max_mostly_solved": 1.5}, "max_mostly_solved=1.5 is a share: give it in"),
        ({"max_entropy_fall": -0.1}, "max_entropy_fall=-0.1 is a share"),
        ({"max_length_drift": 0.5}, "max_length_drift=0.5 is a factor: give at least 1, or null"),
        ({"max_chosen_fall": -1.0}, "max_chosen_fall=-1.0 is how far it may fall: give at least 0"),
        ({"max_chosen_fall": float("nan")}, "max_chosen_fall=nan"),
    ],
)
def test_a_limit_that_cannot_be_is_named(limit, sentence):
    with pytest.raises(ValueError, match=sentence):
        CollapseLimits(**limit)
