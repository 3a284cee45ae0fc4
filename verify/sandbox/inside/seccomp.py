"""A filter of system calls, installed by a process for itself; it holds for all that it starts.

See seccomp(2). The filter is a classic BPF program over (number, architecture, arguments).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Callable
from typing import Any

from syscalls import ABSENT, ALLOWED, CHECKED, COMPILER, EXEC

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Column of the tables and audit number of an architecture."""
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _SPEC_ALLOW, _NO_NEW_PRIVS = 1, 4, 38

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_LOAD, _JUMP, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _AND, _RETURN = (
    0x20,
    0x05,
    0x15,
    0x35,
    0x45,
    0x54,
    0x06,
)
_REACH = 250
"""Steps that a jump on a condition can surely skip: 255, less a few for other jumps between."""
_NUMBER, _ARCHITECTURE = 0, 4
_THREAD, _STREAM, _UNIX = 0x00010000, 1, 1
_SOCKET_TYPE = 0xF
TERMINAL = (0x5401, 0x541B, 0x5450, 0x5451, 0x5421, 0x5413)
"""ioctl: TCGETS, FIONREAD, FIONCLEX, FIOCLEX, FIONBIO, TIOCGWINSZ."""
NAMES = (15, 16, 0x53564D41, 3)
"""prctl: PR_SET_NAME, PR_GET_NAME, PR_SET_VMA, PR_GET_DUMPABLE."""
WRITING = 0o3 | 0o100 | 0o1000 | 0o20000000
"""open: not read-only, O_CREAT, O_TRUNC, O_TMPFILE's own bit."""
OWN_PID = 0xFFFFFFFE
"""Stands in a filter for the process that will install it."""

_write_pid = struct.Struct("I").pack_into

Code = list[tuple[int, int, int, int]]


def _argument(place: int) -> int:
    """Offset of the low half of an argument."""
    return 16 + 8 * place


def _search(cases: list[tuple[int, Code]]) -> Code:
    """Code for the last case that starts at or below the number of the call.

    A tree, as the kernel walks the filter once for every number when it is installed; and short,
    as it translates each step then.
    """
    laid: Code = []
    _lay(cases, laid)
    return laid[::-1]


def _lay(cases: list[tuple[int, Code]], laid: Code) -> int:
    """Put a tree before the code that is laid, which is in reverse; its place there."""
    if len(cases) == 1:
        return _lay_case(cases[0][1], laid)
    middle = len(cases) // 2
    places = [_lay(part, laid) for part in (cases[middle:], cases[:middle])]
    above, below = (_within_reach(place, laid) for place in places)
    here = len(laid)
    laid.append((_JUMP_GE, here - above - 1, here - below - 1, cases[middle][0]))
    return here


def _lay_case(code: Code, laid: Code) -> int:
    """The place of a case; returns are shared."""
    for place in range(len(laid) - 1, max(len(laid) - _REACH, 0) - 1, -1):
        if [laid[place]] == code:
            return place
    laid += code[::-1]
    return len(laid) - 1


def _within_reach(place: int, laid: Code) -> int:
    """A place from which a jump on a condition gets to this one."""
    if len(laid) - place < _REACH:
        return place
    laid.append((_JUMP, 0, 0, len(laid) - place - 1))
    return len(laid) - 1


def _cases(calls: dict[int, Code], otherwise: Code) -> list[tuple[int, Code]]:
    """Ranges of numbers, by their first, and the code for each; it ends in a return."""
    cases = [(0, calls.get(0, otherwise))]
    for number in sorted({near for call in calls for near in (call, call + 1)}):
        code = calls.get(number, otherwise)
        if code != cases[-1][1]:
            cases.append((number, code))
    return cases


def _returns(action: int) -> tuple[int, int, int, int]:
    return (_RETURN, 0, 0, action)


def _one_of(place: int, values: tuple[int, ...], otherwise: int) -> Code:
    """Allow a call whose argument is one of some values."""
    code: Code = [(_LOAD, 0, 0, _argument(place))]
    for left, value in zip(range(len(values), 0, -1), values, strict=True):
        code.append((_JUMP_EQ, left, 0, value))
    return [*code, _returns(otherwise), _returns(ALLOW)]


def _checks(denied: int) -> dict[str, Code]:
    """What the calls in ``CHECKED`` may do."""
    return {
        "clone": [
            (_LOAD, 0, 0, _argument(0)),
            (_JUMP_SET, 0, 1, _THREAD),
            _returns(ALLOW),
            _returns(denied),
        ],
        "kill": _one_of(0, (OWN_PID,), denied),
        "tgkill": _one_of(0, (OWN_PID,), denied),
        "prlimit64": _one_of(0, (0, OWN_PID), denied),
        "socketpair": [
            (_LOAD, 0, 0, _argument(0)),
            (_JUMP_EQ, 0, 3, _UNIX),
            (_LOAD, 0, 0, _argument(1)),
            (_AND, 0, 0, _SOCKET_TYPE),
            (_JUMP_EQ, 1, 0, _STREAM),
            _returns(denied),
            _returns(ALLOW),
        ],
        "ioctl": _one_of(1, TERMINAL, ERRNO | errno.ENOTTY),
        "prctl": _one_of(0, NAMES, denied),
    }


def _read_only(place: int, denied: int) -> Code:
    """Allow an open that writes nothing."""
    return [
        (_LOAD, 0, 0, _argument(place)),
        (_JUMP_SET, 0, 1, WRITING),
        _returns(denied),
        _returns(ALLOW),
    ]


class Filter:
    """A filter for one kind of process, made once and installed by each after its fork.

    Args:
        kind: "python", "binary" (may start one program) or "compile" (may start many, and write).
        may_write: Whether files can be opened to write: where Landlock or a mount namespace
            decides about them.
    """

    def __init__(self, kind: str, may_write: bool) -> None:
        machine = platform.machine()
        if machine not in MACHINES:
            raise OSError(f"no table of system calls for {machine}")
        column, architecture = MACHINES[machine]
        code = self._code(kind, may_write, column, architecture)
        steps = bytearray().join(struct.pack("HBBI", *step) for step in code)
        own = [8 * place + 4 for place, step in enumerate(code) if step[3] == OWN_PID]
        address = ctypes.addressof(ctypes.c_char.from_buffer(steps))
        filtered = struct.pack("HxxxxxxQ", len(code), address)
        call = (_SECCOMP[machine], _SET_MODE_FILTER, _SPEC_ALLOW, filtered)
        self.step = (_install, (steps, own, ctypes.CDLL(None).syscall, call))
        """A function and what it is called with, to filter the calls of this process from now on.
        ``forbid_privileges`` must have been called."""

    @staticmethod
    def _code(kind: str, may_write: bool, column: int, architecture: int) -> Code:
        denied = ERRNO | errno.EPERM
        allowed = {**ALLOWED}
        allowed |= COMPILER if kind == "compile" else EXEC if kind == "binary" else {}
        checks = _checks(denied)
        if kind == "compile":
            checks["clone"] = [_returns(ALLOW)]
        if not may_write and kind != "compile":
            for name, place in (("open", 1), ("openat", 2)):
                checks[name] = _read_only(place, denied)
                del allowed[name]
        numbers = {**ALLOWED, **EXEC, **COMPILER, **CHECKED, **ABSENT}
        does = {key: [_returns(ALLOW)] for key in allowed} | checks
        does |= {key: [_returns(ERRNO | errno.ENOSYS)] for key in ABSENT}
        calls = {
            number: code
            for name, code in does.items()
            if (number := numbers[name][column]) is not None
        }
        return [
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_JUMP_EQ, 1, 0, architecture),
            _returns(KILL),
            (_LOAD, 0, 0, _NUMBER),
            *_search(_cases(calls, [_returns(denied)])),
        ]


def _install(
    steps: bytearray, own: list[int], syscall: Callable[..., int], call: tuple[Any, ...]
) -> None:
    pid = os.getpid()
    for place in own:
        _write_pid(steps, place, pid)
    if syscall(*call):
        raise OSError(errno.EACCES, "seccomp")


def forbid_privileges() -> None:
    """Have no program that this process or its forks start gain rights: the filters' condition.

    Raises:
        OSError: The kernel does not do it.
    """
    if ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(errno.EPERM, "no_new_privs")
