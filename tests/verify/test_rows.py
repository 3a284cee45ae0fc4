"""``cli.py verify``: rows in, verdicts out, as real processes."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from tiny_run import CHECKOUT, command, write_jsonl


def verify(source, output, *more):
    return subprocess.run(
        command("verify", "--input", str(source), "--output", str(output), *more),
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def math(number, reference, solution):
    return {"id": number, "domain": "math", "reference": reference, "solution": solution}


def code(number, solution, *pairs, **more):
    tests = [{"stdin": stdin, "stdout": stdout} for stdin, stdout in pairs]
    return {"id": number, "domain": "code", "solution": solution, "tests": tests, **more}


def died(pids):
    """Whether processes end within three seconds; a dead one that nobody waited for is empty."""
    until = time.monotonic() + 3
    while time.monotonic() < until:
        files = [Path(f"/proc/{pid}/cmdline") for pid in pids]
        if not any(file.exists() and file.read_bytes() for file in files):
            return True
        time.sleep(0.05)
    return False


def many(count):
    return [
        math(str(n), rf"\frac{{{n}}}{{7}}", rf"So \boxed{{{n}/7 + {n % 2}\cdot y - {n % 2}y}}")
        for n in range(count)
    ]


def without_seconds(path):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(path)]


def test_every_row_gets_a_verdict_in_order_and_the_counts_are_told(tmp_path):
    write_jsonl(
        tmp_path / "in.jsonl",
        [
            math("a", "12", r"We get \boxed{12}."),
            code("b", "print(int(input()) + 1)", ("1", "2"), ("5", "7")),
            math("c", "12", r"We get \boxed{13}."),
            math("d", None, "5"),
            math("e", "5", "9^{9^{9^{9}}}"),
        ],
    )
    ended = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--workers", "1")
    assert ended.returncode == 0, ended.stderr
    assert "5 rows -> " in ended.stderr
    assert "1 pass, 2 fail, 2 undecided" in ended.stderr
    assert "sandbox: rlimits: " in ended.stderr
    told = [(row["id"], row["outcome"]) for row in rows(tmp_path / "out.jsonl")]
    undecided = [("d", "undecided"), ("e", "undecided")]
    assert told == [("a", "pass"), ("b", "fail"), ("c", "fail"), *undecided]
    verdict = rows(tmp_path / "out.jsonl")[1]
    assert (verdict["verdict"], verdict["test"]) == ("WA", 2)
    assert verdict["detail"] == "test 2 of 2: token 1: expected '7', written '6'"
    assert "rlimits" in verdict["layers"]
    assert rows(tmp_path / "out.jsonl")[0]["answer"] == "12"


def test_after_a_kill_the_rerun_s_output_equals_an_undisturbed_one(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", many(1500))
    assert verify(tmp_path / "in.jsonl", tmp_path / "whole.jsonl").returncode == 0
    output = tmp_path / "out.jsonl"
    for share in (0.1, 0.4):
        arguments = ("verify", "--input", str(tmp_path / "in.jsonl"), "--output", str(output))
        with subprocess.Popen(
            command(*arguments), cwd=CHECKOUT, stderr=subprocess.DEVNULL
        ) as child:
            wanted = share * (tmp_path / "whole.jsonl").stat().st_size
            while not output.exists() or output.stat().st_size < wanted:
                time.sleep(0.01)
            children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            os.kill(child.pid, signal.SIGKILL)
        assert len(children) >= 1
        assert died(children)
        with open(output, "ab") as file:
            file.write(b'{"id": "cut')
    assert verify(tmp_path / "in.jsonl", output).returncode == 0
    assert without_seconds(output) == without_seconds(tmp_path / "whole.jsonl")
    assert len(rows(output)) == 1500


def test_after_a_kill_of_a_worker_or_of_the_command_no_program_is_lost_or_doubled(tmp_path):
    programs = [f"print({n} * int(input()))" for n in range(120)]
    given = [code(str(n), text, ("3", str(3 * (n - n % 7 % 2)))) for n, text in enumerate(programs)]
    write_jsonl(tmp_path / "in.jsonl", given)
    assert verify(tmp_path / "in.jsonl", tmp_path / "whole.jsonl").returncode == 0
    output = tmp_path / "out.jsonl"
    arguments = ("verify", "--input", str(tmp_path / "in.jsonl"), "--output", str(output))
    for victim in ("command", "worker"):
        with subprocess.Popen(
            command(*arguments), cwd=CHECKOUT, stderr=subprocess.DEVNULL
        ) as child:
            size = output.stat().st_size if output.exists() else 0
            while not output.exists() or output.stat().st_size < size + 2000:
                assert child.poll() is None
                time.sleep(0.002)
            tree = descendants(child.pid)
            workers = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            os.kill(child.pid if victim == "command" else int(workers[0]), signal.SIGKILL)
            child.wait()
        assert died(tree)
    assert verify(tmp_path / "in.jsonl", output).returncode == 0
    assert without_seconds(output) == without_seconds(tmp_path / "whole.jsonl")


def descendants(pid):
    """Processes under one, as far as /proc tells."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [child, *descendants(child)]
    return found


def test_a_row_that_has_changed_since_its_verdict_is_not_taken_for_done(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [math("a", "5", "5"), math("b", "6", "6")])
    assert verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl").returncode == 0
    write_jsonl(tmp_path / "in.jsonl", [math("a", "5", "6"), math("b", "6", "6")])
    ended = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert ended.returncode == 2
    assert "holds 1 verdicts, that of 'a' first" in ended.stderr


def test_mistakes_are_told_in_a_sentence(tmp_path):
    assert "there is no file" in verify(tmp_path / "none.jsonl", tmp_path / "out.jsonl").stderr
    for line, said in [
        ('{"id": "a"', "line 1: not a whole JSON object"),
        ('{"domain": "math"}', "not a JSON object with an id"),
        ('{"id": "a", "domain": "art"}', "the domain is 'art'"),
        ('{"id": "a", "domain": "math", "reference": "5"}', "needs a text as `solution`"),
        ('{"id": "a", "domain": "code", "solution": ""}', "tests are 'None', but they must be"),
        (json.dumps(code("a", "", limits={"time": 3})), "there is no limit 'time': cpu_s, wall_s"),
        (json.dumps(code("a", "", limits={"cpu_s": 0})), "limit cpu_s is 0, but it must be"),
        (json.dumps(code("a", "", language="ada")), "language is 'ada', but it can be python or"),
        (json.dumps(code("a", "", compare="near")), "compare is 'near', but it can be 'tokens'"),
        (json.dumps(code("a", "", compare="checker:no.py")), "no.py' cannot be read (No such file"),
        (
            json.dumps(code("a", "") | {"tests": [{"input": "1", "output": "3"}]}),
            "test 1 has 'input, output', but no stdin and no stdout: the fields are called",
        ),
        (json.dumps(code("a", "", compare="checker:/dev/zero")), "'/dev/zero' is no file"),
        (json.dumps(code("a", "", (1, "2"))), "test 1: stdin is 1, not a text"),
    ]:
        (tmp_path / "in.jsonl").write_text(line + "\n")
        ended = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
        assert ended.returncode == 2
        assert said in ended.stderr
        assert "Traceback" not in ended.stderr
    (tmp_path / "out.jsonl").write_text(json.dumps({"x": 1}) + "\n")
    (tmp_path / "in.jsonl").write_text(json.dumps(math("a", "5", "5")) + "\n")
    assert "is no verdict" in verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl").stderr


def test_surrogates_and_null_bytes_do_not_stop_the_command(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [math("a", "5", "5\x00\ud800"), math("b", "5", "\ud800")])
    ended = verify(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert ended.returncode == 0, ended.stderr
    assert len(rows(tmp_path / "out.jsonl")) == 2


def test_a_file_that_holds_no_verdicts_is_never_cut(tmp_path):
    source, notes = tmp_path / "in.jsonl", tmp_path / "notes.json"
    row = json.dumps(math("a", "5", "5"))  # without a line's end, as a cut verdict has none
    for path, text, output, said in [
        (source, row, source, "is the input, and would be the output"),
        (notes, '{"precious": 1}', notes, "line 1 is no verdict"),
        (notes, row, notes, "line 1 is no verdict"),
    ]:
        source.write_text(row)
        path.write_text(text)
        ended = verify(source, output)
        assert (ended.returncode, said in ended.stderr) == (2, True), ended.stderr
        assert path.read_text() == text


def test_a_verdict_cut_anywhere_is_made_again(tmp_path):
    write_jsonl(tmp_path / "in.jsonl", [math("a\ud800", "5", "5")])
    output = tmp_path / "out.jsonl"
    assert verify(tmp_path / "in.jsonl", output).returncode == 0
    whole = output.read_bytes()
    for end in (0, 1, 5, 20, len(whole) - 1, len(whole)):
        output.write_bytes(whole[:end])
        assert verify(tmp_path / "in.jsonl", output).returncode == 0
        assert [row["outcome"] for row in rows(output)] == ["pass"]
