"""Namespaces of its own for a process and its children.

They have no network, see no foreign process, and no file but a read-only view of the interpreter
and the libraries. It needs no root, only user namespaces.

See namespaces(7), pivot_root(2).
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import stat
import struct
from collections.abc import Sequence

_NEW = {
    "mount": 0x00020000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
_READ_ONLY, _NO_SUID, _NO_DEV, _NO_EXEC = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _DETACH = 32, 4096, 16384, 1 << 18, 2
_KEPT = {1024: 1024, 2048: 2048, 4096: 1 << 21, _NO_EXEC: _NO_EXEC}
"""Flags that a remount must repeat (statvfs to mount): noatime, nodiratime, relatime, noexec."""
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPSET = {"x86_64": 126, "aarch64": 91}
DIE_WITH_PARENT = (1, signal.SIGKILL.value, 0, 0, 0)
"""For ``prctl``: have the kernel kill this process when the one that started it ends."""
_HIDE_MEMORY = (4, 0, 0, 0, 0)
DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
EMPTY = "/box"
"""The folder where a program finds itself."""
INNER_ID = 1000
"""User and group inside; outside it is still whoever started the process."""
_STAGE = "/tmp"

_libc = ctypes.CDLL(None, use_errno=True)
prctl = ctypes.CDLL(None).prctl


def _check(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def hide_memory() -> None:
    """Keep other processes, with the same user too, from reading this one's memory."""
    prctl(*_HIDE_MEMORY)


def enter() -> None:
    """Go on as the first process of new namespaces; this process waits for it and ends.

    Raises:
        OSError: The kernel or the machine's policy does not let us.
    """
    _try_in_a_child()
    _unshare()
    first = os.fork()
    if first:
        os.closerange(0, 1024)  # what it holds open, the first process holds
        _, status = os.waitpid(first, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    prctl(*DIE_WITH_PARENT)


def _unshare() -> None:
    user, group = os.geteuid(), os.getegid()
    _check(_libc.unshare(sum(_NEW.values())), "unshare")
    for path, text in (
        ("/proc/self/setgroups", "deny"),
        ("/proc/self/uid_map", f"{INNER_ID} {user} 1"),
        ("/proc/self/gid_map", f"{INNER_ID} {group} 1"),
    ):
        with open(path, "w") as file:
            file.write(text)


def _try_in_a_child() -> None:
    """Find out whether it works, as there is no way back from half of it."""
    child = os.fork()
    if not child:
        try:
            _unshare()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    number = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if number:
        raise OSError(abs(number), f"no user namespaces: {os.strerror(abs(number))}")


def change_root(readable: Sequence[str], build: str | None, build_bytes: int) -> None:
    """Replace the file system by an empty one with read-only views of ``readable``.

    Args:
        readable: Directories, files and links that stay.
        build: A directory to be made that can be written, held in memory.
        build_bytes: Its size.

    Raises:
        OSError: A step is not allowed; the old file system stays.
    """
    _mount("", "/", "", _RECURSIVE | _PRIVATE)
    sources = _open_all([*readable, *DEVICES])
    _mount("tmpfs", _STAGE, "tmpfs", _NO_SUID | _NO_DEV, "size=1m,mode=755")
    for path, source in sources:
        _show(path, source)
    os.mkdir(f"{_STAGE}/proc")
    _mount("proc", f"{_STAGE}/proc", "proc", _NO_SUID | _NO_DEV | _NO_EXEC)
    os.makedirs(f"{_STAGE}/tmp", exist_ok=True)
    os.mkdir(_STAGE + EMPTY)
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        os.symlink(f"/proc/self/fd/{number}", f"{_STAGE}/dev/{name}")
    if build is not None:
        os.makedirs(_STAGE + build)
        _mount("tmpfs", _STAGE + build, "tmpfs", _NO_SUID | _NO_DEV, f"size={build_bytes}")
    os.chdir(_STAGE)
    _check(_libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", _DETACH), "umount")
    os.chdir(EMPTY)
    _mount("", "/", "", _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | _NO_DEV)


def drop_capabilities() -> None:
    """Give up what the first process of a user namespace may do in it."""
    header = struct.pack("Ii", 0x20080522, 0)
    nothing = ctypes.create_string_buffer(24)
    _check(_libc.syscall(_CAPSET[platform.machine()], header, nothing), "capset")


def _open_all(paths: Sequence[str]) -> list[tuple[str, int | str]]:
    """Each path with a handle on it, or with the target of a link; parents come first."""
    found: list[tuple[str, int | str]] = []
    for path in sorted(set(paths)):
        if os.path.islink(path):
            found.append((path, os.readlink(path)))
        elif os.path.exists(path):
            found.append((path, os.open(path, os.O_PATH | os.O_CLOEXEC)))
    return found


def _show(path: str, source: int | str) -> None:
    target = _STAGE + path
    if os.path.lexists(target) and (isinstance(source, str) or os.path.ismount(target)):
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if isinstance(source, str):
        os.symlink(source, target)
        return
    is_folder = stat.S_ISDIR(os.fstat(source).st_mode)
    if not os.path.lexists(target):
        if is_folder:
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    _mount(f"/proc/self/fd/{source}", target, "", _BIND | _RECURSIVE)
    os.close(source)
    flags = os.statvfs(target).f_flag
    kept = sum(flag for said, flag in _KEPT.items() if flags & said)
    no_devices = 0 if path in DEVICES else _NO_DEV
    _mount("", target, "", _REMOUNT | _BIND | _READ_ONLY | _NO_SUID | no_devices | kept)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    result = _libc.mount(
        source.encode() or None,
        target.encode(),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _check(result, f"mount {target}")
