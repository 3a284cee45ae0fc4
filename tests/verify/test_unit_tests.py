"""Programs judged by the pool: verdicts, the seam, load, layers."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptcot.records import Outcome
from verify.sandbox import LAYERS, Limits, Program, Sandbox, SandboxError, is_active
from verify.submissions import Submission
from verify.unit_tests import UnitTestVerifier

SUM = "a, b = map(int, input().split())\nprint(a + b)"
TESTS = [{"stdin": "2 3\n", "stdout": "5\n"}, {"stdin": "10 -4\n", "stdout": "6\n"}]
SAMPLES = Path(__file__).parents[2] / "promptcot" / "sample_data" / "code.jsonl"


@pytest.fixture(scope="module")
def verifier():
    verifier = UnitTestVerifier(2)
    yield verifier
    verifier.close()


def submission(solution, tests=TESTS, **more):
    return Submission.from_row({"id": "x", "solution": solution, "tests": tests, **more})


def rulings(verifier, *given):
    return [(r.verdict, r.test) for r in verifier.judge_all(given)]


def test_verdicts_come_in_order_and_name_the_first_failing_test(verifier):
    limits = {"cpu_s": 1, "mem_mb": 256, "output_kb": 64}
    given = {
        SUM: ("AC", None),
        "a, b = map(int, input().split())\nprint(abs(a) + abs(b))": ("WA", 2),
        "while True: pass": ("TLE", 1),
        "x = [0] * 10**9": ("MLE", 1),
        "while True: print(1)": ("OLE", 1),
        SUM + "\nraise SystemExit(1)": ("RE", 1),
        "print(": ("CE", 1),
        "```python\npri": ("CE", None),
    }
    submissions = [submission(text, limits=limits) for text in given]
    assert rulings(verifier, *submissions) == list(given.values())


def test_without_tests_nothing_is_accepted(verifier):
    assert rulings(verifier, submission(SUM, [])) == [("IE", None)]
    assert next(verifier.judge_all([submission(SUM, [])])).outcome is Outcome.UNDECIDED


def test_a_checker_decides_and_what_it_says_otherwise_is_our_own_fault(tmp_path, verifier):
    (tmp_path / "check.py").write_text(
        "import sys\ngiven, got, answer = (open(name).read().split() for name in sys.argv[1:])\n"
        "sys.exit(0 if sorted(got) == sorted(answer) else 3 if got == ['?'] else 1)\n"
    )
    row = {"id": "x", "tests": [{"stdin": "", "stdout": "1 2"}], "compare": "checker:check.py"}
    given = [Submission.from_row({**row, "solution": f"print({s!r})"}, tmp_path) for s in "21?"]
    given[0] = Submission.from_row({**row, "solution": "print(2, 1)"}, tmp_path)
    assert rulings(verifier, *given) == [("AC", None), ("WA", 1), ("IE", 1)]


def test_with_a_checker_a_test_may_have_fields_of_its_own_and_no_output(tmp_path, verifier):
    (tmp_path / "check.py").write_text("import sys\nsys.exit(open(sys.argv[2]).read() != '3\\n')\n")
    row = {"id": "x", "compare": "checker:check.py", "tests": [{"stdin": "1 2", "edge": True}]}
    given = [Submission.from_row({**row, "solution": f"print({s})"}, tmp_path) for s in "34"]
    assert rulings(verifier, *given) == [("AC", None), ("WA", 1)]
    row["tests"] = [{"input": "1 2", "output": "3"}]
    with pytest.raises(ValueError, match=r"but no stdin: the fields are called stdin and stdout"):
        Submission.from_row({**row, "solution": "print(3)"}, tmp_path)


def test_the_bundled_solutions_pass_and_the_plausible_wrong_ones_do_not(verifier):
    rows = [json.loads(line) for line in SAMPLES.read_text().splitlines()]
    right = [submission(row["solution"], row["tests"]) for row in rows]
    wrong = [submission(row["wrong_solution"], row["tests"]) for row in rows]
    assert {verdict for verdict, _ in rulings(verifier, *right)} == {"AC"}
    assert "AC" not in {verdict for verdict, _ in rulings(verifier, *wrong)}


def spin():
    while True:
        pass


def test_a_verdict_does_not_depend_on_the_machine_s_load(verifier):
    busy = "import time\nstart = time.process_time()\nwhile time.process_time() < start + 0.4: pass"
    load = [multiprocessing.Process(target=spin, daemon=True) for _ in range(4 * os.cpu_count())]
    for process in load:
        process.start()
    limits = {"cpu_s": 1, "wall_s": 1}  # it needs four tenths of a second, and gets a fifth of one
    given = [submission(f"{busy}\n{SUM}", TESTS[:1], limits=limits) for _ in range(4)]
    found = rulings(verifier, *given)
    for process in load:
        process.kill()
    assert found == [("AC", None)] * 4


def test_with_nothing_to_confine_it_no_program_is_run_unless_told_so():
    with pytest.raises(SandboxError, match="--allow_unsafe true"):
        UnitTestVerifier(1, layers=("landlock",))
    sandbox = Sandbox((), allow_unsafe=True)
    ran = sandbox.run(Program("python", SUM.encode(), b"2 3", Limits()))
    sandbox.close()
    assert ran.stdout == b"5\n"
    assert [name for name, what in sandbox.layers.items() if is_active(what)] == ["rlimits"]


WITHOUT_NAMESPACES = """
import sys
sys.path.insert(0, ".")
from verify.judging import Judge
from verify.sandbox import Sandbox
from verify.submissions import Submission
judge = Judge(Sandbox())
print(judge.sandbox.layers["namespaces"], judge.sandbox.layers["root"], sep="; ")
programs = {
    "python": "print(sum(map(int, input().split())))",
    "cpp": "#include <iostream>\\nint main() { int a, b; std::cin >> a >> b; std::cout << a + b; }",
}
for language, solution in programs.items():
    row = {"id": "x", "language": language, "solution": solution}
    tests = [{"stdin": "2 3", "stdout": "5"}]
    print(judge.judge(Submission.from_row({**row, "tests": tests})).verdict)
judge.close()
"""


def test_on_a_machine_without_user_namespaces_the_other_layers_do():
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    command = ["unshare", "-Ur", "sh", "-c", forbid, sys.executable, WITHOUT_NAMESPACES]
    ended = subprocess.run(command, cwd=SAMPLES.parents[2], capture_output=True, text=True)
    if "max_user_namespaces" in ended.stderr or "unshare" in ended.stderr:
        pytest.skip(f"this machine cannot do without: {ended.stderr}")
    assert ended.returncode == 0, ended.stderr
    said, *verdicts = ended.stdout.splitlines()
    assert said.startswith("missing: no user namespaces: ")
    assert said.endswith("missing: it needs namespaces")
    assert verdicts == ["AC", "AC"]


@pytest.mark.parametrize("layers", [("seccomp",), ("landlock", "seccomp"), LAYERS[:2], LAYERS])
def test_any_layers_that_suffice_keep_programs_from_acting(layers, tmp_path):
    sandbox = Sandbox(layers)
    missing = [name for name in layers if not is_active(sandbox.layers[name])]
    if missing:
        sandbox.close()
        pytest.skip(f"this machine lacks {missing}: {sandbox.layers}")
    target = tmp_path / "written"
    acts = {
        "write": f"open({str(target)!r}, 'w').write('x')",
        "connect": "import socket\nsocket.create_connection(('1.1.1.1', 53), 1)",
        "trace": "import ctypes, os\nassert not ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)",
    }
    statuses = {}
    for name, act in acts.items():
        ran = sandbox.run(Program("python", f"{act}\nprint('done')".encode(), b"", Limits()))
        statuses[name] = (ran.status != 0, ran.stdout)
    # the first process of a namespace does not heed it; elsewhere it is refused
    sandbox.run(Program("python", b"import os\nos.kill(os.getppid(), 9)", b"", Limits()))
    assert sandbox.run(Program("python", b"print(1)", b"", Limits())).stdout == b"1\n"
    sandbox.close()
    assert statuses == dict.fromkeys(acts, (True, b"")), statuses
    assert not target.exists()
