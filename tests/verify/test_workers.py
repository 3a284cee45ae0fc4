"""Processes that decide: killed in time, replaced, and asked again when others killed them."""

import os
import signal
import subprocess
import time
from threading import Thread

import pytest

from promptcot.records import Outcome
from verify import AnswerVerifier
from verify.answers import decided
from verify.formulas.symbolic import decide_symbolically
from verify.workers import WorkerPool

HANGING = """
import json, sys, time
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    while json.loads(line)["answer"] == "hang": pass
    if json.loads(line)["answer"] == "die": sys.exit(1)
    print(json.dumps({"outcome": "pass", "rule": "test", "reason": ""}), flush=True)
"""


@pytest.fixture
def hanging():
    pool = WorkerPool(2, wall_s=0.5, program=HANGING)
    yield pool
    pool.close()


@pytest.fixture(scope="module")
def verifier():
    verifier = AnswerVerifier(2)
    yield verifier
    verifier.close()


def test_a_worker_that_hangs_is_killed_within_its_wall_time_and_replaced(hanging):
    start = time.monotonic()
    found = {n: (d, s) for n, d, s in decided(hanging, [("", "hang"), ("", "a"), ("", "b")])}
    assert time.monotonic() - start < 2
    assert found[0][0].outcome is Outcome.UNDECIDED
    assert found[0][0].reason == "no decision within 0.5 s"
    assert 0.5 <= found[0][1] < 1
    assert [found[n][0].outcome for n in (1, 2)] == [Outcome.PASS] * 2
    assert hanging.kills == 1
    assert len(list(decided(hanging, [("", "c")] * 5))) == 5


def test_a_verifier_can_be_called_in_threads_that_end(verifier):
    found = []
    for answer in ("2+3", "10/2", "2+4"):
        pair = ("x+5", rf"\boxed{{x+{answer}}}")
        thread = Thread(target=lambda p=pair: found.append(verifier.judge(*p).outcome))
        thread.start()
        thread.join()
    assert found == [Outcome.PASS, Outcome.PASS, Outcome.FAIL]


def test_an_answer_that_kills_every_worker_is_undecided(hanging):
    [(_, decision, _)] = decided(hanging, [("", "die")])
    assert (decision.outcome, decision.rule) == (Outcome.UNDECIDED, "death")


def test_a_worker_killed_by_somebody_else_costs_no_answer():
    pool = WorkerPool(1, 2.0, HANGING)
    found = []
    for number, decision, _ in decided(pool, [("", str(n)) for n in range(20)]):
        if number % 5 == 0:
            os.kill(pool._workers[0].process.pid, signal.SIGKILL)
        found.append((number, decision.outcome))
    pool.close()
    assert sorted(found) == [(n, Outcome.PASS) for n in range(20)]


def test_no_process_is_left_behind():
    pool = WorkerPool(2, 2.0, HANGING)
    list(decided(pool, [("", "a")]))
    pids = [worker.process.pid for worker in pool._workers]
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_that_cannot_start_is_said():
    pool = WorkerPool(1, 2.0, "raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="died while it started"):
        list(decided(pool, [("", "a")]))


def test_judgements_come_in_order_and_none_is_lost(verifier):
    rows = [(str(n), rf"\boxed{{{n}+0\cdot x}}" if n % 3 else str(n + n % 2)) for n in range(400)]
    outcomes = [judgement.outcome for judgement in verifier.judge_all(rows)]
    assert outcomes == [Outcome.PASS if n % 3 or not n % 2 else Outcome.FAIL for n in range(400)]


def test_math_verify_is_the_last_resort_in_both_directions(verifier):
    total = r"\begin{pmatrix}1\\2\end{pmatrix}+\begin{pmatrix}3\\4\end{pmatrix}"
    right = verifier.judge(r"\begin{pmatrix}4\\6\end{pmatrix}", rf"\boxed{{{total}}}")
    wrong = verifier.judge(r"\begin{pmatrix}4\\7\end{pmatrix}", rf"\boxed{{{total}}}")
    assert (right.outcome, right.rule) == (Outcome.PASS, "math-verify")
    assert (wrong.outcome, wrong.rule) == (Outcome.FAIL, "math-verify")


def test_nothing_that_reaches_math_verify_is_executed(verifier, tmp_path):
    target = tmp_path / "made"
    for payload in (
        f"__import__('os').system('touch {target}')",
        rf"\begin{{pmatrix}}open('{target}','w')\\1\end{{pmatrix}}+\begin{{pmatrix}}1\\2\end{{pmatrix}}",
        rf"\mathrm{{open}}('{target}', 'w')",
    ):
        verifier.judge(r"\begin{pmatrix}1\\2\end{pmatrix}", rf"\boxed{{{payload}}}")
        assert decide_symbolically("1", payload) is None or not target.exists()
    assert not target.exists()


def test_a_worker_has_less_than_a_gigabyte(verifier):
    verifier.judge("5", r"\boxed{x+9^{9^{9}}}")
    for worker in verifier.pool._workers:
        status = subprocess.run(
            ["cat", f"/proc/{worker.process.pid}/status"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert int(status.split("VmPeak:")[1].split()[0]) < 1_000_000
