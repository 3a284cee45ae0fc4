# ruff: noqa: E501
"""Programs that are right and usual: no layer of the sandbox may break them."""

import json

import pytest

from verify.completions import extract_program
from verify.judging import Judge
from verify.sandbox import Limits, Program, Sandbox
from verify.submissions import Submission

LIMITS = {"wall_s": 2, "cpu_s": 2, "mem_mb": 256, "output_kb": 64, "nproc": 16, "fsize_kb": 1024}
SUM = [{"stdin": "2 3\n", "stdout": "5\n"}]
READ = "import io, os, sys, threading\na, b = map(int, sys.stdin.read().split())\n"
COUNT = "def f(n): return n and 1 + f(n - 1)\n"
TOTAL = "print(sum(map(int, {}.split())))"


@pytest.fixture(scope="module")
def judge():
    judge = Judge(Sandbox())
    yield judge
    judge.close()


def ruling(judge, solution, tests=SUM, **row):
    row = {"id": "t", "solution": solution, "tests": tests, "limits": LIMITS, **row}
    return judge.judge(Submission.from_row(row))


@pytest.mark.parametrize(
    "program",
    [
        TOTAL.format("open(0).read()"),
        TOTAL.format("open('/dev/stdin').read()"),
        "import os\n" + TOTAL.format("os.read(0, os.fstat(0).st_size)"),
        "import mmap\n" + TOTAL.format("mmap.mmap(0, 0, prot=mmap.PROT_READ).read()"),
        "import fileinput\nfor line in fileinput.input(): " + TOTAL.format("line"),
        "import sys\nsys.stdin.buffer.peek()\n" + TOTAL.format("sys.stdin.buffer.readline()"),
        "\ufeff" + READ + "print(a + b)",
        READ + "print(a + b)\nexit()",  # the site module's, which everybody uses
        READ + "print(a + b)\nquit(0)",
        # what is still in a buffer at the end is written by the interpreter
        READ + "out = open(1, 'w')\nout.write(str(a + b))",
        READ + "out = io.BufferedWriter(io.FileIO(1, 'w', closefd=False))\nout.write(b'%d' % (a + b))",
        READ + "sys.stdout = io.StringIO()\nprint(a + b)\nsys.__stdout__.write(sys.stdout.getvalue())",
        READ + "class D:\n    def __del__(s): print(a + b)\nd = D()",
        READ + "import atexit\natexit.register(print, a + b)",
        READ + "print(a + b)\nsys.stdout.close()",  # the interpreter does not mind
        READ + "print(a + b, flush=True)\nsys.stdout = None",
        READ + "sys.setrecursionlimit(10**6)\n" + COUNT + "print(a + b + f(100000) - 100000)",
        READ + "sys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 27)\n" + COUNT
        + "threading.Thread(target=lambda: print(a + b + f(100000) - 100000)).start()",
        READ + "import resource as r\nr.setrlimit(r.RLIMIT_STACK, (r.RLIM_INFINITY,) * 2)\nprint(a + b)",
        READ + "import asyncio\nasync def f(): print(a + b)\nasyncio.run(f())",
        READ + "import numpy\nprint(int(numpy.array([a, b]).sum() + numpy.linalg.det(numpy.eye(9))) - 1)",
        READ + "os.listdir('.'), os.getcwd(), os.cpu_count()\nprint(a + b)",
        READ + "threading.Thread(target=lambda: threading.Event().wait(), daemon=True).start()\nprint(a + b)",
        READ + "sys.stderr.write('x' * 300000)\nprint(a + b)",
        READ + "import pickle\nclass K: pass\npickle.loads(pickle.dumps(K()))\nprint(a + b)",
    ],
)  # fmt: skip
def test_scripts(judge, program):
    found = ruling(judge, program)
    assert found.verdict == "AC", found.detail


@pytest.mark.parametrize("mode", ["stdin", "function"])
def test_each_program_gets_other_random_numbers(judge, mode):
    source = "import random\ndef draw(): return random.random()\nprint(draw())"
    task = json.dumps({"source": source, "entry": "draw", "args": [], "kwargs": {}})
    text = (task if mode == "function" else source).encode()
    drawn = {judge.sandbox.run(Program("python", text, b"", Limits(), mode)).stdout for _ in "abc"}
    assert len(drawn) == 3


@pytest.mark.parametrize(
    ("program", "entry"),
    [
        ("class Solution:\n    def total(self, a, b): return a + b\nprint(Solution().total(1, 2))", "total"),
        ("class Solution:\n    def gcd(self, a, b): return a + b\nimport math\nx = math.gcd(1, 2)", "gcd"),
        ("def add(a, b): return a + b\nif __name__ == '__main__': print(add(*map(int, input().split())))", "add"),
        ("class Solution:\n    def add(self, a, b): return a + b + bisect.bisect_left([], 0)", "add"),
        ("class Solution:\n    def add(self, a, b): return copy.deepcopy(a) + random.randint(b, b)", "add"),
        ("class Solution:\n    def add(self, a, b): return a + b + datetime.timedelta(0).days", "add"),
        ("from functools import lru_cache\n@lru_cache(None)\ndef add(a, b): return a + b", None),
        ("from copy import deepcopy\ndef add(a, b): return deepcopy(a) + b", None),
        ("\ufeffdef add(a, b): return a + b", "add"),
        ("add = lambda a, b: a + b", "add"),
        ("exec('def add(a, b): return a + b')", "add"),
        ("import numpy\ndef add(a, b): return numpy.int64(a + b)", "add"),
    ],
)  # fmt: skip
def test_functions(judge, program, entry):
    found = ruling(judge, program, [{"args": [2, 3], "expected": 5}], entry=entry)
    assert found.verdict == "AC", found.detail


@pytest.mark.parametrize(
    "body",
    [
        "rlimit r; getrlimit(RLIMIT_STACK, &r); r.rlim_cur = 64 << 20; if (setrlimit(RLIMIT_STACK, &r)) return 1;",
        "vector<thread> t; for (int i = 0; i < 4; i++) t.emplace_back([] {}); for (auto &x : t) x.join();",
        "static int big[50000000]; for (int &x : big) x = 1;",
        "function<int(int)> f = [&](int n) { return n ? 1 + f(n - 1) : 0; }; if (f(300000) != 300000) return 1;",
        "try { throw runtime_error(\"x\"); } catch (exception &) { }",
    ],
)  # fmt: skip
def test_compiled(judge, body):
    head = '#pragma GCC target("avx2")\n#include <bits/stdc++.h>\n#include <sys/resource.h>\n'
    main = f"using namespace std; int main() {{ int a, b; cin >> a >> b; {body} cout << a + b; }}"
    found = ruling(judge, head + main, language="cpp")
    assert found.verdict == "AC", found.detail


FENCE = "```"


@pytest.mark.parametrize(
    ("completion", "program"),
    [
        (f"{FENCE}python\na\n{FENCE}\nthen\n{FENCE}py\nb\n{FENCE}", "b\n"),
        (f"{FENCE}python\na\n{FENCE}\nOutput:\n{FENCE}\n5\n{FENCE}", "a\n"),
        (f"{FENCE}Python3\r\na\r\n{FENCE}\r\n", "a\r\n"),
        (f"<think>{FENCE}python\na\n{FENCE}</think>{FENCE}python\nb\n{FENCE}", "b\n"),
        (f"~~~~python\nx = '''\n{FENCE}\n'''\n~~~~", f"x = '''\n{FENCE}\n'''\n"),
        (f"{FENCE}{{.python}}\na\n{FENCE}", "a\n"),
        (f"1. first\n   {FENCE}python\n   a\n   {FENCE}", "a\n"),  # inside a list
        (f"<think>{FENCE}python\na draft\n{FENCE}", ""),  # never thought to the end
        (f"{FENCE}python\na\n{FENCE}\n{FENCE}python\nb", ""),
        (f"{FENCE}cpp\na\n{FENCE}", ""),
        ("", ""),
    ],
)
def test_the_program_in_a_completion(completion, program):
    assert extract_program(completion, "python")[0] == program
