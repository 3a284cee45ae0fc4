"""Landlock: a process gives up the file system but for what it names, for good; see landlock(7)."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_QUERY, _PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 2, 4, 8, 1 << 14
_OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15
READ = READ_FILE | READ_DIR
"""And not execute: a program in memory, which is what a compiled one is, needs no such right."""
DEVICE = READ_FILE | WRITE_FILE | TRUNCATE
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Number of rights on files by version; 16 from version 5 on."""

_NETWORK_SINCE, _SCOPES_SINCE = 4, 6
"""Versions that can forbid TCP, and signals and abstract sockets of others."""
_BOTH = 0b11

_libc = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *args: object) -> int:
    result: int = _libc.syscall(number, *args)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def version() -> int:
    """The version that the kernel offers.

    Raises:
        OSError: It has no Landlock, or it is switched off.
    """
    return _call(_CREATE, None, 0, _VERSION_QUERY)


def restrict(rights: Iterable[tuple[str, int]]) -> int:
    """Keep the rights on the given paths and all beneath them; no other file, network or signal.

    A path that does not exist is left out.

    Returns:
        The version that is in force.
    """
    offered = version()
    all_rights = (1 << _RIGHTS.get(offered, 16)) - 1
    network = _BOTH if offered >= _NETWORK_SINCE else 0
    scopes = _BOTH if offered >= _SCOPES_SINCE else 0
    handled = struct.pack("QQQ", all_rights, network, scopes)
    size = 24 if scopes else 16 if network else 8
    rules = _call(_CREATE, handled, ctypes.c_size_t(size), 0)
    for path, allowed in rights:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed &= all_rights
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            allowed &= _OF_A_FILE
        _call(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, place), 0)
        os.close(place)
    if _libc.prctl(38, 1, 0, 0, 0):  # no_new_privs
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(_RESTRICT, rules, 0)
    os.close(rules)
    return offered
