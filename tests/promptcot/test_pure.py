"""Prompts and parsing, overlap, metrics, corpora: hand-worked."""

import json
import math

import pytest

from promptcot.corpora import Corpus, read_corpus
from promptcot.curation import CopyFilter, KnownStatements
from promptcot.metrics import effective_samples, importance_bound, log_sum_exp
from promptcot.overlap import longest_common_run, ngram_overlap, num_words, runs, words
from promptcot.parsing import (
    Composition,
    Flaw,
    after_thinking,
    parse_composition,
    parse_concepts,
    parse_rationale,
)
from promptcot.prompts import PromptFormat
from promptcot.protocols import Sampling
from promptcot.recipes.making import seeds_fingerprint
from promptcot.records import Domain, Problem
from promptcot.repetition import repeated_share
from promptcot.split import held_out_statements

FORMAT = PromptFormat()


@pytest.mark.parametrize("statement", [r"Find \boxed{x} for $n$.", "${level} $$ {0}", "é\n\nü"])
def test_a_composition_parses_back_to_itself(statement):
    target = FORMAT.compose_target("why\nso", statement)
    text = "".join(piece for pieces in target.segments for piece in pieces)
    assert parse_composition(text, FORMAT) == Composition("why\nso", statement)


def test_values_of_a_prompt_are_not_scanned_again():
    problem = Problem("p", Domain.MATH, r"cost $level and \{a\}", ("one", "two"), "AIME")
    prompt = FORMAT.rationale_prompt(problem)
    assert r"cost $level and \{a\}" in prompt
    assert "1. one\n2. two" in prompt


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("", Flaw.NO_RATIONALE),
        ("<!-- BEGIN RATIONALE -->z<!-- END RATIONALE -->", Flaw.NO_PROBLEM),
        ("<!-- BEGIN RATIONALE -->" * 2, Flaw.REPEATED),
        (
            "<!-- BEGIN PROBLEM -->x<!-- END PROBLEM -->"
            "<!-- BEGIN RATIONALE -->z<!-- END RATIONALE -->",
            Flaw.REPEATED,
        ),
    ],
)
def test_a_flawed_composition_has_a_name(text, flaw):
    assert parse_composition(text, FORMAT) is flaw


def test_a_rationale_follows_the_last_marker_and_must_be_whole():
    assert parse_rationale("Thinking Process:\na\nThinking Process: b ", FORMAT) == "b"
    assert parse_rationale("b", FORMAT, finished=False) is Flaw.UNFINISHED
    assert parse_rationale(" ", FORMAT) is Flaw.EMPTY
    assert parse_rationale("<!-- END PROBLEM -->", FORMAT) is Flaw.HAS_TAGS


def test_concepts_are_parsed_and_never_executed():
    assert parse_concepts('so\n```python\nc = ["a  b", "c"]\n```', 2) == ("a b", "c")
    assert parse_concepts("Knowledge Point: a\nKnowledge Point: b", 2) == ("a", "b")
    assert parse_concepts('```python\n["a"]\n```', 2) is Flaw.WRONG_COUNT
    assert parse_concepts("```python\n[__import__('os').getcwd()]\n```", 1) is Flaw.NO_CONCEPTS
    assert parse_concepts("```python\n" + "[" * 3000 + "\n```", 1) is Flaw.NO_CONCEPTS


def test_overlap_by_hand():
    # grams of two words in the problem: (a b), (b c), (c d); the rationale has (a b) and (c d).
    assert ngram_overlap("A b! c d", "a b c d", 2) == 1.0
    assert ngram_overlap("a b x c d", "a b c d", 2) == pytest.approx(2 / 3)
    assert longest_common_run("one two three four", "zero two three five") == 2
    assert ngram_overlap("z", "") == 0.0


def test_scripts_without_spaces_have_words_too():
    assert words("求$x^2$的值,ABC。") == ["求", "x", "2", "的", "值", "abc"]
    assert words("数は10個です") == [*"数は", "10", *"個です"]
    assert words("naïve x_1 δύο два") == ["naïve", "x", "1", "δύο", "два"]
    assert num_words(words("数は10個です")) == 1 + 5 / 2
    assert list(runs(words("a数はb個c"), 2)) == [("a", "数", "は"), ("数", "は", "b"),
        ("は", "b", "個"), ("b", "個", "c")]  # fmt: skip
    assert longest_common_run("求所有小于一百的质数之和", "请求所有小于一百的质数的积") == 5
    assert ngram_overlap("其中求和为三", "求和") == 1.0
    seeds = KnownStatements(["已知正整数n满足n能被7整除,并且n的各位数字之和等于7,求n的最小值。"])
    assert seeds.has("设有正整数n满足n能被7整除,并且n的各位数字之和等于7,求n的最大值")
    assert not seeds.has("已知正整数n满足n能被9整除,并且n的各位数字之积等于9,求n的最大值。")


def test_traces_in_chinese_repeat_themselves_too():
    once = "".join(chr(0x4E00 + place) for place in range(500))
    assert repeated_share(once) == 0.0
    assert repeated_share(once * 2) == pytest.approx(461 / 961)  # runs of 40 of 1000 characters
    assert repeated_share(once[:300] * 2) > 0.0
    assert repeated_share(once[:199] * 2) == 0.0  # fewer than 200 words


def test_the_importance_bound_by_hand():
    # weights e^1 and e^3; log of their mean = log((e + e^3) / 2)
    bound = importance_bound([-4.0, -2.0], [-5.0, -5.0])
    assert bound == pytest.approx(math.log((math.e + math.e**3) / 2))
    assert importance_bound([-7.0], [-2.0]) == -5.0  # one sample: the plain difference
    assert effective_samples([-4.0, -4.0], [-5.0, -5.0]) == pytest.approx(2.0)
    assert log_sum_exp([-1e4, -1e4]) == pytest.approx(-1e4 + math.log(2))


def test_only_the_marker_of_a_teacher_is_taken_off():
    for marked in ("Thinking Process:", "**Thinking Process:**", "**Thinking Process**:"):
        assert parse_rationale(f"Sure. {marked}\n**Step 1: choose.** Then.", FORMAT) == (
            "**Step 1: choose.** Then."
        )
    assert parse_rationale("**Step 1.** Then.", FORMAT) == "**Step 1.** Then."


def test_a_thought_that_was_cut_off_says_nothing():
    assert after_thinking("<think>a") == ""
    assert after_thinking("<think>a</think>b") == after_thinking("a</think>b") == "b"
    assert after_thinking("b") == "b"


@pytest.mark.parametrize(
    ("known", "other"),
    [
        ("Find the median of $1$, $12$, $3$.", "Find the median of $11$, $2$, $3$."),
        ("the lcm of 12 and 3", "the lcm of 1, 2 and 3"),
        ("the point (1, 12)", "the point (11, 2)"),
        ("f at 1.5", "f at 15"),
    ],
)
def test_other_numbers_make_another_problem(known, other):
    assert KnownStatements([known]).has(known.replace("$", "").upper() + " ")
    assert not KnownStatements([known]).has(other)


def test_words_of_a_row_win_over_its_letters(tmp_path):
    row = {"problem": "Find x.", "x": "3", "c": 4, "concepts": ["k"], "level": 0}
    [problem] = read_corpus(write(tmp_path / "a.jsonl", json.dumps(row))).problems
    assert (problem.statement, problem.concepts, problem.level) == ("Find x.", ("k",), "0")


def test_nan_of_a_table_is_no_value(tmp_path):
    row = {"x": "1+1?", "answer": math.nan, "level": math.nan, "id": math.nan, "tests": None}
    [problem] = read_corpus(write(tmp_path / "a.jsonl", json.dumps(row))).problems
    assert (problem.reference, problem.level) == (None, "AIME")
    assert problem.id != "nan"
    with pytest.raises(ValueError, match=r"line 1: the reference is 'inf' \(float\): give a text"):
        read_corpus(write(tmp_path / "a.jsonl", '{"x": "1+1?", "answer": Infinity}'))


def test_of_a_program_the_tests_are_the_reference(tmp_path):
    row = {"x": "Print 1.", "answer": "see the editorial", "tests": [{"stdout": "1"}]}
    for domain, reference in (("code", '[{"stdout": "1"}]'), ("math", "see the editorial")):
        path = write(tmp_path / "a.jsonl", json.dumps({**row, "domain": domain}))
        assert read_corpus(path).problems[0].reference == reference


def test_a_limit_is_of_all_the_files_of_a_pattern(tmp_path):
    (tmp_path / "[1]").mkdir()
    for number in range(3):
        lines = [json.dumps({"x": f"{number}-{row}"}) for row in range(2)]
        write(tmp_path / "[1]" / f"part-{number}.jsonl", *lines)
    found = read_corpus(Corpus(str(tmp_path / "[1]" / "part-*.jsonl"), limit=3)).problems
    assert [problem.statement for problem in found] == ["0-0", "0-1", "1-0"]


def test_a_corpus_is_named_by_its_rationales_too(tmp_path):
    one, other, same = (
        seeds_fingerprint(read_corpus(write(tmp_path / "a.jsonl", json.dumps({"x": "a", "z": z}))))
        for z in ("b", "c", "b")
    )
    assert one == same != other


def write(path, *lines):
    path.write_text("".join(line + "\n" for line in lines))
    return Corpus(str(path))


def test_columns_are_found_by_their_usual_names(tmp_path):
    row = {"c": ["k"], "z": "why", "x": "what?"}
    seeds = read_corpus(write(tmp_path / "a.jsonl", json.dumps(row)))
    assert seeds.problems[0].statement == "what?"
    assert seeds.annotations[0].rationale == "why"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"x": "a"}', '{"x": "b'], "line 2: not a whole JSON object"),
        (['{"y": "a"}'], r"line 1: no statement of a problem, but the fields 'y'"),
        (['{"id": 1, "x": "a"}', '{"id": 1, "x": "b"}'], "line 2: the id '1' is that of .* line 1"),
        (['{"x": "a", "concepts": "k"}'], "line 1: the concepts are 'k'"),
        (['{"x": "a \\ud800 b"}'], r"line 1: \\ud800 is half a character"),
        (['[{"x": "a"},', '{"x": "\\udc00"}]'], r"row 2: \\udc00 is half a character"),
        ([], "has no rows to use"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path, lines, message):
    with pytest.raises(ValueError, match=message):
        read_corpus(write(tmp_path / "a.jsonl", *lines))


@pytest.mark.parametrize("before", ["", "\ufeff", "\n  ", "\ufeff\r\n"])
@pytest.mark.parametrize(
    "text", ['[{"x": "a"},\n {"x": "\\ud83d\\ude00"}]', '{"x": "a"}\r\n\r\n{"x": "😀"}']
)
def test_lists_and_lines_are_told_apart_whatever_stands_before(tmp_path, before, text):
    seeds = read_corpus(write(tmp_path / "a.json", before + text))
    assert [problem.statement for problem in seeds.problems] == ["a", "😀"]


def test_exact_copies_without_id_are_left_out_and_counted(tmp_path, caplog):
    seeds = read_corpus(write(tmp_path / "a.jsonl", '{"x": "a"}', '{"x": "a"}', '{"x": "b"}'))
    assert len(seeds.problems) == 2
    assert "1 exact copies" in caplog.text
    assert "of them" not in caplog.text


def test_copies_that_contradict_each_other_are_named(tmp_path, caplog):
    rows = ['{"x": "a", "answer": "1"}', '{"x": "a", "answer": "2"}', '{"x": "a", "answer": "1"}']
    seeds = read_corpus(write(tmp_path / "a.jsonl", *rows))
    assert [problem.reference for problem in seeds.problems] == ["1"]
    assert "1 of them have another reference" in caplog.text
    assert "line 2)" in caplog.text


@pytest.mark.parametrize(
    ("statement", "is_known"),
    [
        ("Find the digits of $2^{10}-1$", True),
        (r"find THE digits of \( 2^{10} - 1 \)?", True),
        ("Find the digits of 2^{10} + 1.", False),
        ("Find the digits of 2^{1 0} - 1.", False),
        ("Find the digits of 2^{1.0} - 1.", False),
    ],
)
def test_a_short_statement_is_known_whatever_marks_stand_around_its_formulas(statement, is_known):
    known = "Find the digits of 2^{10} - 1."
    assert KnownStatements([known]).has(statement) is is_known
    copies = CopyFilter([])
    assert copies.reason_to_drop(known) is None
    assert (copies.reason_to_drop(statement) is not None) is is_known


def test_rows_of_one_problem_are_held_out_together_in_any_order():
    problems = [Problem(str(i), Domain.MATH, f"s{i % 10}") for i in range(30)]
    held = held_out_statements(problems, 0.2, seed=1)
    assert len(held) == 2
    assert held == held_out_statements(problems[::-1], 0.2, seed=1)
    with pytest.raises(ValueError, match="both need at least one"):
        held_out_statements(problems[:1], 0.2, seed=1)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_corpus_of_no_rows_is_refused_by_its_limit(limit):
    with pytest.raises(ValueError, match=rf"limit={limit} of the corpus a\.jsonl: give 1 row or"):
        Corpus("a.jsonl", limit=limit)


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_a_temperature_that_divides_nothing_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature={temperature}"):
        Sampling(temperature=temperature)
