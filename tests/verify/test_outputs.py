"""What counts as the expected output, rule by rule."""

import json

import pytest

from verify.outputs import compare_outputs, compare_values


@pytest.mark.parametrize(
    ("expected", "got", "compare", "same"),
    [
        ("5\n", "5", "tokens", True),
        ("1 2\n3\n", " 1\t2   3\n\n", "tokens", True),
        ("5\n", "5 5", "tokens", False),
        ("5", "05", "tokens", False),
        ("5", "5.0", "tokens", False),
        ("YES", "yes", "tokens", False),
        ("10", "1_0", "tokens", False),
        ("5", "\uff15", "tokens", False),  # a full-width digit
        ("a b", "a\u00a0b", "tokens", False),  # not a space to the byte
        ("", " \n", "tokens", True),
        ("", "0", "tokens", False),
        ("a \nb\n", "a \nb", "exact", True),
        ("a\nb\n", "a \nb\n", "exact", False),
        ("a\n", "a\r\n", "exact", True),
        ("0.5", "0.5000001", "float:1e-6", True),
        ("0.5", "0.50001", "float:1e-6", False),
        ("1e9", "1000000001", "float:1e-6", True),  # relative to the expected number
        ("5", "5.0", "float:1e-6", True),
        ("0.5", "nan", "float:1e-6", False),
        ("1e300", "inf", "float:1e-6", False),
        ("inf", "inf", "float:1e-6", True),
        ("5", "1e99999999999", "float:1e-6", False),
        ("5", "0x5", "float:1e-6", False),
        ("0.5 yes", "0.5 no", "float:1e-6", False),
        ("-0.0", "0", "float:0", True),
    ],
)
def test_outputs(expected, got, compare, same):
    assert (compare_outputs(expected.encode(), got.encode(), compare) is None) is same


@pytest.mark.parametrize(
    ("expected", "got", "compare", "same"),
    [
        (1, "1", "tokens", True),
        (1, "1.0", "tokens", True),
        (1, "true", "tokens", False),
        (True, "1", "tokens", False),
        (None, "null", "tokens", True),
        (None, "0", "tokens", False),
        ([1, [2]], "[1,[2]]", "tokens", True),
        ([1, 2], "[1]", "tokens", False),
        ({"a": 1, "b": 2}, '{"b":2,"a":1}', "tokens", True),
        ("a", '"a"', "tokens", True),
        ("1", "1", "tokens", False),
        (0.1, "0.1000001", "float:1e-6", True),
        (0.1, "0.1000001", "tokens", False),
        (3, "4", "float:10", False),  # whole numbers stay whole
        (0.5, "NaN", "float:1e-6", False),
        (10**4000, "1" + "0" * 4000, "tokens", True),
        (10**4000, "1" + "0" * 3999, "tokens", False),
        (10**4000, "1" + "0" * 400_000, "tokens", False),
        (1, "[" * 100_000, "tokens", False),
        (1, "5 forged", "tokens", False),
    ],
)
def test_values(expected, got, compare, same):
    assert (compare_values(expected, got.encode(), compare) is None) is same


def test_a_detail_holds_nothing_that_a_terminal_obeys_and_stays_short():
    detail = compare_outputs(b"5", b"\x1b[31m" + b"A" * 10_000, "tokens")
    assert detail.isprintable()
    assert len(detail) < 200
    assert json.loads(json.dumps(detail)) == detail
