import json

import pytest
from self_play_recount import are_equal, last_box, main


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1 + 1 = 2\n\\boxed{2}", "2"),
        ("\\boxed{2} or rather \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
        ("\\boxed{2", None),
        ("the answer is 2", None),
    ],
)
def test_the_answer_is_what_stands_in_the_last_box(text, answer):
    assert last_box(text) == answer


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("12", "12"),
        ("12.0", "12"),
        ("1,200", "1200"),
        ("24/2", "12"),
        ("12 dollars", "12"),
        ("\\$12", "12"),
        ("12\\text{ years}", "12"),
        ("\\frac{24}{2}", "12"),
        ("2\\sqrt{3}", "\\sqrt{12}"),
    ],
)
def test_equal_answers(answer, reference):
    assert are_equal(answer, reference)


@pytest.mark.parametrize(
    "answer", ["13", "", "-12", "1 2", "12/0", "9**9**9", "__import__('os')", "x", "12 + ", "2,3"]
)
def test_other_answers(answer):
    assert not are_equal(answer, "12")


def folder_of(tmp_path, outcomes, texts, finished=True):
    folder = tmp_path / "round-0"
    folder.mkdir()
    completions = [{"text": text, "finished": finished} for text in texts]
    verdicts = [{"outcome": o, "answer": "", "flaw": ""} for o in outcomes]
    attempts = {"key": "k", "id": "a", "reference": "7", "verdicts": verdicts}
    (folder / "rollouts.jsonl").write_text(json.dumps({"key": "k", "completions": completions}))
    (folder / "attempts.jsonl").write_text(json.dumps(attempts))
    return folder


def test_equal_counts_end_well(tmp_path, capsys):
    folder = folder_of(tmp_path, ["pass", "fail"], ["\\boxed{7}", "\\boxed{8}"])
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"{folder}: 2 attempts, verified 1 (0.5000), recounted 1 (0.5000), 0 verdicts" in said


def test_a_wrong_verdict_is_named_and_ends_badly(tmp_path, capsys):
    folder_of(tmp_path, ["pass", "pass"], ["\\boxed{7}", "\\boxed{8}"])
    assert main([str(tmp_path)]) == 1
    assert "a: verified pass (''), recounted wrong, reference 7" in capsys.readouterr().out


def test_what_was_cut_off_is_not_right(tmp_path):
    folder_of(tmp_path, ["undecided"], ["\\boxed{7}"], finished=False)
    assert main([str(tmp_path)]) == 0


def test_another_reference_than_the_problems_ends_badly(tmp_path):
    folder_of(tmp_path, ["pass"], ["\\boxed{7}"])
    problems = tmp_path / "problems.jsonl"
    for reference, status in (("7", 0), ("8", 1)):
        problems.write_text(json.dumps({"id": "a", "reference": reference}))
        assert main([str(tmp_path), "--problems", str(problems)]) == status


def test_nothing_to_count_ends_badly(tmp_path):
    assert main([str(tmp_path)]) == 1
