"""Both domains in one stream: verdicts in order, objections that can be counted, nothing raised."""

import json

import pytest

from promptcot.corpora import Corpus, read_corpus
from promptcot.protocols import Verifier
from promptcot.records import Domain, Outcome, Problem
from verify import ByDomain
from verify.by_domain import MALFORMED_TESTS, NO_REFERENCE, NO_RULE, NO_TESTS, TOGETHER

SUM = "a, b = map(int, input().split())\nprint(a + b)"
TESTS = [{"stdin": "2 3\n", "stdout": "5\n"}, {"stdin": "10 -4\n", "stdout": "6\n"}]
DEEP = "[" * 10**6
BAD = (
    *(None, "", " \n", "9^{9^{9^{9}}}", "It depends on whom you ask, and when.", "x" * 10**6),
    *("\ud800", "\udcff{", "}{", r"\boxed{", r"\frac{1}{", "$$", "\x00", "<think>", "null", "5"),
    *(
        "[" * 960 + "]" * 960,
        "[]",
        "[1]",
        "{}",
        '{"tests": []}',
        '{"tests": null}',
        '["\\ud800"]',
        DEEP,
        '{"a":' * 900,
    ),
    *('{"tests": [{}], "limits": {"cpu_s": "1"}}', '{"tests": [{}], "limits": {"wall_s": 1e999}}'),
    *('{"tests": [{}], "language": []}', '{"tests": [{}], "mode": {}}', "[" + "9" * 5000 + "]"),
    *('[{"stdin": 5}]', '[{"args": 5}]', '[{"stdin_repeat": ["", "a", 1e99]}]'),
    *('{"tests": [{}], "compare": "checker:/etc/passwd"}', '{"tests": [{}], "entry": 5}'),
)


def math(reference, name="m"):
    return Problem(name, Domain.MATH, "How much?", reference=reference)


def code(reference, name="c"):
    return Problem(name, Domain.CODE, "Add.", reference=reference)


@pytest.fixture(scope="module")
def verifier():
    verifier = ByDomain(num_workers=2)
    yield verifier
    verifier.close()


def test_it_sits_behind_the_seam(verifier):
    assert isinstance(verifier, Verifier)


def test_verdicts_of_both_domains_come_in_order_with_what_the_solutions_come_to(verifier):
    half, tests = math(r"$\frac12$"), code(json.dumps(TESTS))
    attempts = {
        (half, r"It is \boxed{0.5}."): (Outcome.PASS, "0.5"),
        (tests, f"So:\n```python\n{SUM}\n```"): (Outcome.PASS, "AC"),
        (half, r"It is \boxed{0.25}."): (Outcome.FAIL, "0.25"),
        (tests, "```python\nprint(7)\n```"): (Outcome.FAIL, "WA"),
        (half, "I cannot tell. " * 50): (Outcome.UNDECIDED, ""),
        (half, r"\boxed{9^{9^{9^{9}}}}"): (Outcome.UNDECIDED, "9^{9^{9^{9}}}"),
        (math(None), "5"): (Outcome.UNDECIDED, "5"),
        (tests, "There is no program."): (Outcome.FAIL, "CE"),
        (code("no JSON"), SUM): (Outcome.UNDECIDED, "IE"),
    }
    verdicts = list(verifier.verdicts(attempts))
    assert [(v.outcome, v.answer) for v in verdicts] == list(attempts.values())
    assert "'0.5' (boxed), by " in verdicts[0].detail
    assert verdicts[3].detail.startswith("WA: test 1 of 2: ")
    assert verdicts[8].detail.startswith("IE: problem c: ")


def test_a_long_stream_is_read_ahead_by_a_bounded_number(verifier):
    # Of 600 rows every twentieth is a program, and every third is wrong.
    read = 0

    def attempts():
        nonlocal read
        for number in range(600):
            read += 1
            said = number + (number % 3 == 0)
            if number % 20:
                yield math(f"{number}+x"), rf"\boxed{{x+{said}}}"
            else:
                tests = [{"stdin": "", "stdout": str(number)}]
                yield code(json.dumps(tests)), f"```python\nprint({said})\n```"

    verdicts = verifier.verdicts(attempts())
    first = next(verdicts)
    assert read == TOGETHER
    outcomes = [first.outcome, *(verdict.outcome for verdict in verdicts)]
    assert outcomes == [Outcome.PASS if n % 3 else Outcome.FAIL for n in range(600)]


def test_a_stream_that_nobody_finishes_is_in_nobody_s_way(verifier):
    problem = math("x+1")
    next(verifier.verdicts([(problem, r"\boxed{1+x}")] * 3))
    [verdict] = verifier.verdicts([(problem, r"\boxed{2+x}")])
    assert verdict.outcome is Outcome.FAIL


@pytest.mark.parametrize("reference", BAD, ids=lambda reference: repr(reference)[:40])
def test_no_reference_raises(verifier, reference):
    known = {"", NO_REFERENCE, NO_RULE, NO_TESTS, MALFORMED_TESTS}
    problems = [math(reference), code(reference)]
    assert {verifier.objection(problem) for problem in problems} <= known
    verdicts = list(verifier.verdicts((problem, r"\boxed{5}") for problem in problems))
    objected = [v for p, v in zip(problems, verdicts, strict=True) if verifier.objection(p)]
    assert {verdict.outcome for verdict in objected} <= {Outcome.UNDECIDED}


@pytest.mark.parametrize("depth", [50, 200, *range(900, 1000)])
def test_how_deep_tests_are_nested_decides_alike_wherever_they_are_read(verifier, depth):
    # Python's own limit depends on how deep the reader is called.
    deep = code('[{"args": [' + "[" * depth + "]" * depth + "]}]")
    [verdict] = verifier.verdicts([(deep, "def f(x): return 1")])
    is_fine = depth == 50
    assert verifier.objection(deep) == ("" if is_fine else MALFORMED_TESTS)
    assert verdict.outcome is (Outcome.PASS if is_fine else Outcome.UNDECIDED)


@pytest.mark.parametrize(
    ("problem", "objection"),
    [
        (math("204"), ""),
        (math(r"The answer is \boxed{n^2+1}."), ""),
        (math(None), NO_REFERENCE),
        (math(" "), NO_REFERENCE),
        (math("$$"), NO_RULE),
        (code(json.dumps(TESTS)), ""),
        (code(json.dumps({"tests": TESTS, "compare": "float:1e-6"})), ""),
        (code(None), NO_TESTS),
        (code("[]"), NO_TESTS),
        (code('{"tests": [], "mode": "stdin"}'), NO_TESTS),
        (code("204"), MALFORMED_TESTS),
        (code("print(5)"), MALFORMED_TESTS),
        (code('[{"stdin": 5}]'), MALFORMED_TESTS),
        (code('[{"input": "1 2", "output": "3"}]'), MALFORMED_TESTS),
        (code('[{"stdin": "1 2", "output": "3"}]'), MALFORMED_TESTS),
        (code('[{"args": [1], "output": 3}]'), MALFORMED_TESTS),
        (code('[{"stdin": "1 2", "stdout": "3", "edge": true}]'), ""),
        (code(DEEP), MALFORMED_TESTS),
        (code('{"tests": [{"stdin": ""}], "limits": {"cpu_s": "one"}}'), MALFORMED_TESTS),
    ],
)
def test_objections_in_words_that_can_be_counted(verifier, problem, objection):
    assert verifier.objection(problem) == objection


def test_no_objection_to_the_bundled_problems(verifier):
    problems = read_corpus(Corpus()).problems
    assert {problem.domain for problem in problems} == {Domain.MATH, Domain.CODE}
    assert {verifier.objection(problem) for problem in problems} == {""}


def test_what_confines_programs_is_said_once_and_only_where_one_runs(capfd):
    verifier = ByDomain(num_workers=1)
    assert verifier.objection(code(json.dumps(TESTS))) == ""
    list(verifier.verdicts([(math("1"), "1")]))
    assert "sandbox:" not in capfd.readouterr().err
    for _ in range(2):
        list(verifier.verdicts([(code(json.dumps(TESTS)), SUM)]))
    verifier.close()
    verifier.close()
    assert capfd.readouterr().err.count("sandbox: rlimits: ") == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"language": "pascal"}, "language='pascal': choose python or cpp"),
        ({"forms": ["box"]}, "unknown form of answer 'box'"),
        ({"num_workers": -1}, "workers = -1"),
        ({"wall_s": 0}, "wall_s = 0"),
    ],
)
def test_wrong_parameters_are_refused_at_once(wrong, said):
    with pytest.raises(ValueError, match=said):
        ByDomain(**wrong)
