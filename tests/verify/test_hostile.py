# ruff: noqa: E501
"""Programs that cheat, leak, hog or forge: each with the only verdicts that it may get.

A program that tries something forbidden prints the right answer only if it succeeded.
"""

import os
import sys
import time

import pytest

from verify.judging import Judge
from verify.outputs import compare_outputs
from verify.sandbox import Limits, Program, Sandbox, is_active
from verify.sandbox.fork_server import INSIDE
from verify.submissions import Submission

LIMITS = {"wall_s": 2, "cpu_s": 1, "mem_mb": 256, "output_kb": 64, "nproc": 16, "fsize_kb": 1024}
SUM = [{"stdin": "2 3\n", "stdout": "5\n"}]
READ = "import ctypes, os, socket, sys\na, b = map(int, sys.stdin.read().split())\n"
CALL = """libc = ctypes.CDLL(None, use_errno=True)
def call(*given):
    if libc.syscall(*given) < 0: raise OSError(ctypes.get_errno())
"""
CPP = """#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <signal.h>
#include <string>
#include <unistd.h>
int main() { int a, b; if (scanf("%d%d", &a, &b) != 2) return 9;
std::string sum = std::to_string(a + b), echo = "echo " + sum; const char *no = "blocked";
"""


def attempt(act):
    """A program that prints the sum if ``act`` raises nothing."""
    return f"{READ}{CALL}try:\n    {act}\n    print(a + b)\nexcept BaseException: print('blocked')"


@pytest.fixture(scope="module")
def judge():
    judge = Judge(Sandbox())
    yield judge
    judge.close()


def verdict(judge, solution, tests=SUM, **row):
    row = {"limits": LIMITS, **row}
    ruling = judge.judge(
        Submission.from_row({"id": "t", "solution": solution, "tests": tests, **row})
    )
    assert ruling.detail.isprintable()
    assert ruling.detail.isascii()
    return ruling.verdict


@pytest.mark.parametrize(
    "act",
    [
        "call(425, 8, ctypes.create_string_buffer(120))",  # io_uring does what the filter forbids
        "call(272, 0x10000000)",  # a user namespace gives capabilities
        "call(57)",  # fork without the library
        "call(435, ctypes.create_string_buffer(88), 88)",  # clone3: flags that no filter sees
        "call(319, b'x', 0)",  # memory that RLIMIT_AS does not count
        "call(29, 77, 4096, 0o1666)",  # shared memory that stays
        "call(240, b'q', 0o102, 0o666, 0)",  # a message queue that stays
        "call(250, 0, -3, 0)",  # the keyring is not in any namespace
        "call(321, 0, ctypes.create_string_buffer(128), 128)",  # bpf
        "call(434, os.getppid(), 0)",  # a handle on the server
        "call(310, os.getppid(), 0, 0, 0, 0, 0)",  # the memory of the server
        "call(0x40000000 + 39)",  # the same numbers in the x32 table
        "socket.socket(socket.AF_UNIX).bind(b'\\0red')",  # abstract: no file system guards it
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "os.kill(os.getppid(), 0)",
        "os.killpg(0, 0)",
        "os.execv('/bin/true', ['true'])",
        "os.setpriority(0, 0, 5)",
        "open('/etc/passwd').read()",
        "open('/dev/shm/red', 'w')",
        "open('/proc/self/oom_score_adj', 'w').write('0')",
        "open(f'/proc/{os.getppid()}/environ', 'rb').read()",
        "os.listdir(f'/proc/{os.getppid()}/fd')",
        "open(sys.modules['program'].__file__, 'a')",  # this sandbox's own code
        "import fcntl; fcntl.ioctl(0, 0x5412, b'x')",  # types into a terminal
        "assert any(os.path.exists(f'/proc/self/fd/{f}') for f in range(6, 64))",
    ],
)
def test_what_is_forbidden_does_not_work(judge, act):
    assert verdict(judge, attempt(act)) in ("WA", "RE")


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ('execl("/bin/sh", "sh", "-c", echo.c_str(), nullptr); puts(no);', "WA RE"),  # no fork
        (
            'execl("/lib64/ld-linux-x86-64.so.2", "ld", "/bin/sh", "-c", echo.c_str(), nullptr);'
            "puts(no);",
            "WA RE",
        ),  # the loader starts any file that it can read
        ('puts(system(echo.c_str()) ? no : "");', "WA RE"),
        ('puts(open("/proc/self/exe", O_RDWR) < 0 ? no : sum.c_str());', "WA RE"),
        (
            'long r; asm volatile("int $0x80" : "=a"(r) : "a"(20) : "memory");'
            "puts(r > 0 ? sum.c_str() : no);",
            "WA RE",
        ),  # the 32-bit table
        (
            "int n = 0; for (int f = 3; f < 4096; f++) n += fcntl(f, F_GETFD) >= 0;"
            "puts(n ? sum.c_str() : no);",
            "WA RE",
        ),  # inherited files
        ("puts(sum.c_str()); fflush(stdout); raise(SIGKILL);", "RE MLE"),
        ("puts(sum.c_str()); throw 1;", "RE"),
        ("static struct D { ~D() { _exit(3); } } d; puts(sum.c_str());", "RE"),  # in a destructor
        ("signal(SIGXCPU, SIG_IGN); for (volatile long n = 0;;) n = n + 1;", "TLE"),
    ],
)
def test_compiled_programs_are_held_as_well(judge, code, allowed):
    assert verdict(judge, f"{CPP}{code} }}", language="cpp") in allowed.split()


@pytest.mark.parametrize(
    "source",
    [
        'asm(".section .rodata\\n.incbin \\"/etc/passwd\\"");int main(){}',  # the assembler reads
        '#include "/proc/self/environ"\nint main(){}',
        '#include "/dev/stdin"\nint main(){}',
        'asm(".rept 1000000000\\n.quad 1\\n.endr");int main(){}',  # an object without end
        "char x[1L << 40] = {1}; int main(){}",
        "template<int N> struct A { static const int v = A<N-1>::v; }; int main(){return A<99999>::v;}",
        "#error \x1b[31mred\nint main(){}",
        "int main(){" + "x;" * 9999 + "}",
        "",
    ],
)
def test_a_compiler_reads_nothing_and_ends(judge, source):
    assert verdict(judge, source, language="cpp") == "CE"


@pytest.mark.parametrize(
    ("program", "allowed"),
    [
        ("print(1)\0", "CE"),
        ("x=" + "-" * 200000 + "1", "CE MLE RE"),  # deeper than any parser's stack
        ("x=a" + ".b" * 100000, "CE MLE RE"),
        ("# coding: rot13\nprint(1)", "CE"),
        ("x = 10**10**10", "TLE MLE"),  # one operation, which no signal interrupts
        ("import re; re.match('(a+)+$', 'a' * 40 + 'b')", "TLE"),
        (
            "import signal\nfor s in (24, 14, 15): signal.signal(s, signal.SIG_IGN)\nwhile 1: pass",
            "TLE",
        ),
        (
            f"{READ}import signal\ndef late(*_):\n    print(a + b, flush=True); os._exit(0)\n"
            "signal.signal(signal.SIGXCPU, late)\nwhile 1: pass",
            "TLE",
        ),  # the right answer, from the signal that says that the time is up
        ("import os; os.kill(os.getpid(), 19)", "TLE"),  # stopped, uses nothing
        ("import threading\nfor _ in range(4): threading.Thread(target=lambda: sum(range(10**12))).start()", "TLE"),
        ("x = 'a' * 10**9", "MLE"),
        ("import mmap; mmap.mmap(-1, 1 << 30).write(b'x' * (1 << 30))", "MLE RE"),
        ("import numpy; numpy.ones(10**9)", "MLE RE"),
        ("import sys\nwhile 1: sys.stderr.write('x' * 65536)", "TLE OLE"),
        (f"{READ}print(a + b, flush=True)\nctypes.string_at(0)", "RE"),
        (f"{READ}print(a + b)\nraise KeyboardInterrupt", "RE"),
        (f"{READ}print(a + b)\nsys.exit('text')", "RE"),
        (f"{READ}print(a + b)\nos._exit(0)", "WA"),  # never flushed
        (f"{READ}import atexit\natexit.register(os._exit, 3)\nprint(a + b, flush=True)", "RE"),
        (f"{READ}os._exit = lambda s: None\nprint(a + b, flush=True)\nsys.exit(3)", "RE"),
        (f"{READ}class I(int):\n    __and__ = None\nprint(a + b)\nsys.exit(I(3))", "RE"),
        ("import os\nfor f in range(3, 64):\n    try: os.write(f, b'X boom')\n    except OSError: pass", "WA RE"),
        ("print('\\0' + '5')", "WA"),
        ("print('\\ufeff5')", "WA"),
        ("print('\\uff15')", "WA"),
    ],
)  # fmt: skip
def test_hostile_scripts(judge, program, allowed):
    assert verdict(judge, program) in allowed.split()


@pytest.mark.parametrize(
    ("program", "expected", "allowed"),
    [
        ("import os\nos.write(3, b'6')\nos._exit(0)", 5, "WA RE"),  # a forged report
        ("import os\nos.write(3, b'X no')\nos._exit(0)", 5, "WA RE"),  # our fault, it claims
        ("def solve():\n    os.write(3, b'5')\n    return 5\nimport os", 5, "WA RE"),  # two results
        ("class I(int):\n    def __int__(s): return 5\n    __repr__ = lambda s: '5'\ndef solve(): return I(0)", 5, "WA RE"),
        ("class X: tolist = lambda s: X()\nX.__module__ = 'numpy'\ndef solve(): return X()", 5, "WA RE"),
        ("import atexit, os\natexit.register(os._exit, 0)\ndef solve(): raise ValueError", 5, "RE"),
        ("def solve():\n    x = []\n    for _ in range(10**6): x = [x]\n    return x", [], "WA RE MLE"),
        ("def solve():\n    x = []; x.append(x)\n    return x", [], "WA RE"),
        ("def solve(): yield 5", 5, "WA RE"),
        ("def solve(): return {1, 2}", [1, 2], "WA RE"),
        ("def solve(): return b'ab'", "ab", "WA RE"),
        ("def solve(): return '5'", 5, "WA"),
        ("def solve(): return 1", True, "WA"),
        ("def solve(): return float('inf')", 1e308, "WA"),
        ("def solve(): return 10**3000 + 1", 10**3000, "WA"),
    ],
)  # fmt: skip
def test_hostile_results(judge, program, expected, allowed):
    tests = [{"args": [], "expected": expected}]
    assert verdict(judge, program, tests, entry="solve") in allowed.split()


def test_a_program_cannot_pretend_that_the_compiler_is_not_whole(judge):
    row = {"id": "x", "language": "cpp", "tests": SUM}
    source = "#error /usr/bin/ld: cannot find -lstdc++: No such file\nint main() {}"
    assert judge.judge(Submission.from_row({**row, "solution": source})).verdict == "CE"


@pytest.mark.parametrize("tail", ["x", ".x", ".1.", "e"])
def test_a_long_malformed_number_is_compared_in_linear_time(tail):
    started = time.monotonic()
    assert compare_outputs(b"1", b"1" * 10000 + tail.encode(), "float:1e-6")
    assert time.monotonic() - started < 0.2


def test_the_limit_of_threads_is_applied_where_they_are_counted():
    sandbox = Sandbox()
    look = b"import resource\nprint(resource.getrlimit(resource.RLIMIT_NPROC)[1])"
    found = sandbox.run(Program("python", look, b"", Limits(nproc=7))).stdout
    sandbox.close()
    assert int(found) == 9 or not is_active(sandbox.layers["namespaces"])


def test_a_filter_decides_about_each_call_as_its_table_says():
    """Also about those that no library makes, and in the order in which the kernel reads it."""
    sys.path.insert(0, str(INSIDE))
    import seccomp
    import syscalls

    sys.path.remove(str(INSIDE))
    for machine, (column, architecture) in seccomp.MACHINES.items():
        code = seccomp.Filter._code("python", True, column, architecture)
        assert decision(code, 0, architecture ^ 1) == seccomp.KILL, machine
        numbers = {row[column]: name for name, row in syscalls.ALLOWED.items()}
        special = {row[column] for row in (syscalls.CHECKED | syscalls.ABSENT).values()}
        for number in set(range(2000)) - special:
            found = decision(code, number, architecture)
            assert found == (seccomp.ALLOW if number in numbers else seccomp.ERRNO | 1), number


def decision(code, number, architecture):
    """What a filter that looks at the number and the architecture alone returns."""
    values, place, value = {0: number, 4: architecture}, 0, 0
    while True:
        what, if_true, if_false, operand = code[place]
        if what == 0x06:
            return operand
        if what == 0x20:
            value = values[operand]
        is_true = value >= operand if what == 0x35 else value == operand
        place += 1 + {0x20: 0, 0x05: operand}.get(what, if_true if is_true else if_false)


def test_a_server_with_a_high_descriptor_does_not_pass_it_on():
    """A program that holds the server's socket could answer in the server's place."""
    many = [os.open("/dev/null", os.O_RDONLY) for _ in range(90)]
    sandbox = Sandbox()
    look = (
        b"import os\nfor f in range(6, 300):\n    try: print(os.fstat(f))\n    except OSError: pass"
    )
    try:
        assert sandbox.run(Program("python", look, b"", Limits())).stdout == b""
    finally:
        sandbox.close()
        for file in many:
            os.close(file)


def test_a_program_cannot_change_the_executable_that_the_next_test_runs(judge):
    change = (
        '#include <fcntl.h>\n#include <string>\n#include <unistd.h>\nint main() { auto f ='
        ' std::to_string(open("/proc/self/exe", O_RDONLY)); auto s = "printf x 1<>/proc/self/fd/"'
        ' + f; puts("5"); fflush(stdout); execl("/bin/sh", "sh", "-c", s.c_str(), nullptr); }'
    )  # fmt: skip
    tests = [{"stdin": "", "stdout": "5\n"}] * 3
    assert verdict(judge, "#include <cstdio>\n" + change, tests, language="cpp") in ("AC", "RE")
