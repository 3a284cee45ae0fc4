"""The verdict on one program: run on each test until one fails, outputs compared outside.

Verdicts: AC accepted, WA wrong answer, TLE out of time, MLE out of memory, OLE too much output,
RE it ended badly (also after a right output), CE no program or one that does not compile, IE our
own fault or a row that cannot decide, which says nothing about the program.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from promptcot.records import Outcome
from verify.compiling import Compiler
from verify.completions import extract_program
from verify.outputs import compare_outputs, compare_values, shown
from verify.sandbox import Limits, Program, Ran, Sandbox, SandboxError
from verify.submissions import Submission, standard_input

EXPECTED_TIMES = 4
"""How much longer than the expected result a returned one is worth reading."""
NEAR_LIMIT = 0.9
"""Share of the memory limit from which a bad end counts as out of memory."""
OWN_MB = 16
"""Memory that a fork of the server has before it does anything."""
CHECKER_SAYS_WRONG = (1, 2)
"""Exit statuses of a checker, as testlib's: wrong answer, presentation error."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """A verdict on a program.

    Args:
        verdict: See the module's text.
        detail: Why, in characters that any log can hold.
        test: Number of the first failing test, from 1; None where there is none.
        seconds: Wall time of all.
    """

    verdict: str
    detail: str = ""
    test: int | None = None
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """AC passes, IE is undecided, all others fail."""
        return {"AC": Outcome.PASS, "IE": Outcome.UNDECIDED}.get(self.verdict, Outcome.FAIL)


class Judge:
    """Judges programs in a sandbox, one at a time.

    Args:
        sandbox: Where they run.
        beat: Called before each test but the first, and after compiling, for who wants to know that
            the judge is not stuck.
    """

    def __init__(self, sandbox: Sandbox, beat: Callable[[], None] = lambda: None) -> None:
        self.sandbox = sandbox
        self.beat = beat
        self._compiler: Compiler | None = None

    def judge(self, submission: Submission, first: int = 1) -> Ruling:
        """The verdict on a submission, whose tests before ``first`` are known to be passed.

        Raises:
            FileNotFoundError: There is no compiler for its language.
        """
        started = time.monotonic()
        try:
            ruling = self._judge(submission, first)
        except SandboxError as error:
            ruling = Ruling("IE", str(error))
        return Ruling(
            ruling.verdict, ruling.detail, ruling.test, round(time.monotonic() - started, 6)
        )

    def close(self) -> None:
        """Forget compiled programs, end the sandbox."""
        if self._compiler is not None:
            self._compiler.close()
        self.sandbox.close()

    def _judge(self, submission: Submission, first: int) -> Ruling:
        if not submission.tests:
            return Ruling("IE", "there are no tests: nothing can be said")
        source, binary, ruling = self._executable(submission)
        if ruling is not None:
            return ruling
        for number, test in enumerate(submission.tests, 1):
            if number < first:
                continue
            if number > first or binary is not None:  # compiled meanwhile
                self.beat()
            verdict, detail = self._test(submission, source, binary, test)
            if verdict != "AC":
                told = f"test {number} of {len(submission.tests)}: {detail}"
                is_general = verdict == "CE"
                return Ruling(verdict, detail if is_general else told, number)
        return Ruling("AC", f"{len(submission.tests)} tests")

    def _executable(self, submission: Submission) -> tuple[str, int | None, Ruling | None]:
        """Source and, in C++, the compiled program; or the verdict where there is none."""
        source, why = submission.solution, ""
        if not submission.is_program:
            source, why = extract_program(source, submission.language)
        if why:
            return "", None, Ruling("CE", why)
        if submission.language != "cpp":
            return source, None, None
        self._compiler = self._compiler or Compiler(self.sandbox)
        compiled = self._compiler.compile(source)
        if compiled.binary is not None:
            return source, compiled.binary, None
        if compiled.said:
            return "", None, Ruling("CE", ascii(compiled.said)[1:-1])
        return "", None, Ruling("IE", "the machine is overloaded: it could not be compiled")

    def _test(
        self, submission: Submission, source: str, binary: int | None, test: Mapping[str, Any]
    ) -> tuple[str, str]:
        ran = self.sandbox.run(_program(submission, source, binary, test))
        verdict, detail = ending(ran, submission, is_python=binary is None)
        if verdict != "AC":
            return verdict, detail
        if submission.mode == "function":
            if "expected" not in test or not ran.report[1:]:
                return ("AC", "") if ran.report[1:] else ("RE", "it ended without a result")
            differs = compare_values(test["expected"], ran.report[1:], submission.compare)
        elif submission.checker is not None:
            return self._check(submission, test, ran.stdout)
        elif test.get("stdout") is None:
            return "AC", ""
        else:
            expected = test["stdout"].encode(errors="surrogatepass")
            differs = compare_outputs(expected, ran.stdout, submission.compare)
        return ("AC", "") if differs is None else ("WA", differs)

    def _check(
        self, submission: Submission, test: Mapping[str, Any], stdout: bytes
    ) -> tuple[str, str]:
        """What a checker says, which runs in the sandbox too: files input, output, answer."""
        answer = (test.get("stdout") or "").encode(errors="surrogatepass")
        ran = self.sandbox.run(
            Program(
                "python",
                (submission.checker or "").encode(errors="surrogateescape"),
                b"",
                submission.limits,
                files=(standard_input(test), stdout, answer),
            )
        )
        said = shown(ran.stderr[-200:] or ran.stdout[:200])
        if ran.ended == "itself" and ran.status == 0:
            return "AC", ""
        if ran.ended == "itself" and ran.status in CHECKER_SAYS_WRONG:
            return "WA", f"the checker rejects {shown(stdout)}: {said}"
        return "IE", f"the checker ended with status {ran.status} ({ran.ended}): {said}"


def _program(
    submission: Submission, source: str, binary: int | None, test: Mapping[str, Any]
) -> Program:
    if binary is not None:
        return Program("binary", binary, standard_input(test), submission.limits)
    if submission.mode == "stdin":
        text = source.encode(errors="surrogateescape")
        return Program("python", text, standard_input(test), submission.limits)
    args = test["args"]
    task = {
        "source": source,
        "entry": submission.entry,
        "args": args if isinstance(args, list) else [],
        "kwargs": args if isinstance(args, dict) else {},
    }
    room = EXPECTED_TIMES * len(json.dumps(test.get("expected"))) + (1 << 16)
    return Program(
        "python",
        json.dumps(task).encode(),
        b"",
        submission.limits,
        style="function",
        report_bytes=room if "expected" in test else submission.limits.output_kb * 1024,
    )


def ending(ran: Ran, submission: Submission, is_python: bool) -> tuple[str, str]:
    """AC where a program ended well, whatever it wrote; else the verdict and why."""
    began = _beginning(ran, is_python)
    return began or _use(ran, submission.limits) or _bad_end(ran, submission.limits) or ("AC", "")


def _beginning(ran: Ran, is_python: bool) -> tuple[str, str] | None:
    """The verdict on a program that was not run at all."""
    kind, said = ran.report[:1], ran.report[1:]
    if kind == b"X" and b"Errno 12" in said:
        return "MLE", "it does not fit into memory"
    if kind == b"X":
        return "IE", f"sandbox: {shown(said)}"
    if kind == b"C":
        return "CE", ascii(said[:200].decode(errors="replace"))[1:-1]
    if ran.ended == "overload":
        return "IE", "the machine is overloaded: it got no processor"
    if is_python and not kind and ran.status == 0:
        return "RE", "it ended before it began"
    return None


def _use(ran: Ran, limits: Limits) -> tuple[str, str] | None:
    """The verdict on a program that used up memory, time or output."""
    if ran.peak_mb > limits.mem_mb + OWN_MB:  # first, so that slow memory is no question of time
        return "MLE", f"more than {limits.mem_mb} MB of memory"
    if ran.cpu_s > limits.cpu_s or ran.ended in ("cpu", "wall"):
        limit = f"{limits.cpu_s:g} s of processor time, {limits.wall_s:g} s in all"
        return "TLE", f"no end within {limit}"
    if ran.ended == "output":
        return "OLE", f"more than {limits.output_kb} kB of output"
    return None


def _bad_end(ran: Ran, limits: Limits) -> tuple[str, str] | None:
    """The verdict on a program that did not end with status 0."""
    last = ran.stderr.strip().rpartition(b"\n")[2]
    is_refused = b"MemoryError" in last.partition(b":")[0] or b"bad_alloc" in ran.stderr
    is_near = ran.peak_mb > NEAR_LIMIT * limits.mem_mb
    if ran.status == 0:
        return None
    if is_refused or is_near:
        return "MLE", f"more than {limits.mem_mb} MB of memory"
    if ran.status > 0:
        return "RE", f"exit status {ran.status}: {shown(last)}"
    known = {int(number): number.name for number in signal.Signals}
    return "RE", f"killed by {known.get(-ran.status, f'signal {-ran.status}')}"
