"""Rows of a stage lie on disk, and are read when they are asked for."""

import tracemalloc

import pytest

from promptcot.stage_rows import Lazily, StageRows

ROWS = {
    "a": {"text": "q \u2028 \r\n ü 数", "tokens": [1, 150_000], "logprobs": [-0.1, -1e-300]},
    "b": {"text": "", "nothing": None, "nested": {"x": [True]}},
    "": {"text": "of an empty key"},
}


@pytest.fixture
def rows(tmp_path):
    found = StageRows(tmp_path / "rows.jsonl")
    yield found
    found.close()


def test_rows_come_back_as_they_were_now_and_in_a_later_run(rows):
    for key, row in ROWS.items():
        rows.append(key, row)
    rows.append("a", {"text": "a second time"})
    wanted = {key: {"key": key, **row} for key, row in ROWS.items()}
    assert dict(rows) == wanted
    assert list(rows) == list(ROWS)
    with rows.path.open("ab") as file:
        file.write(b'{"key": "cut", "te')
    later = StageRows(rows.path)
    assert dict(later) == wanted
    later.append("cut", {})
    later.close()
    assert [line[:8] for line in rows.path.read_bytes().split(b"\n")[2:]] == [
        b'{"key": ',
        b'{"key": ',
        b"",
    ]


@pytest.mark.parametrize("line", [b"{broken}", b"[]", b'{"id": 1}', b"", b"\xff"])
def test_a_damaged_line_is_named_with_its_cure(rows, line):
    rows.append("a", ROWS["a"])
    with rows.path.open("ab") as file:
        file.write(line + b"\n")
    with pytest.raises(ValueError, match=r"rows\.jsonl is damaged .*: delete the folder .* again"):
        StageRows(rows.path)


def test_long_rows_do_not_stay_in_memory(rows):
    tracemalloc.start()
    try:
        for number in range(50):
            rows.append(str(number), {"text": str(number) * 200_000})
        total = sum(len(row["text"]) for row in rows.values())
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert total > 10e6
    assert kept < 1e6


def test_lazy_values_are_those_of_their_keys_and_of_no_other():
    asked = []

    def value(key):
        asked.append(key)
        return key.upper()

    lazy = Lazily(["b", "a", "b"], value)
    assert len(lazy) == 2
    assert list(lazy) == ["b", "a"]
    assert asked == []
    assert dict(lazy.items()) == {"b": "B", "a": "A"}
    assert lazy.get("c") is None
    with pytest.raises(KeyError):
        lazy["c"]
    assert asked == ["b", "a"]
