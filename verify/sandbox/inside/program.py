"""Runs one Python program in a process that was forked for it and is confined already.

``stdin`` style: the program is run as a script. ``function`` style: it is run as a module, then
one of its functions is called, and what that returns is written as JSON.

The program shares this process and may change all that is in it. So nothing here is worth
attacking: no expected output is near, and what is reported is only believed where it cannot help.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import os
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

REPORT = 3
"""File descriptor of the report: `S` once the program is compiled, `C` and why it cannot be, or `X`
and why the sandbox failed. The program can write none of these. After `S`, in function style, comes
the result as JSON."""
TASK = 4
"""File descriptor of what to run: the source, or in function style, as JSON, {"source", "entry",
"args", "kwargs"}."""
FRAMES = 12
"""Depth of this file's own calls, which the limit of recursion must not count."""
OPENING = (b"open", b"Writer", b"FileIO")
"""What stands in a program that makes files; a look through all objects costs 0.3 ms."""
CUT = 4000
"""Characters of an exception's text that are kept."""
CHUNK = 1 << 16


def library_names() -> dict[str, Any]:
    """The names that a program with a class Solution need not import, as on LeetCode."""
    names: dict[str, Any] = {}
    import_random()
    modules = "string re datetime collections heapq bisect copy math random statistics itertools"
    modules = f"{modules} functools operator io sys json time typing"
    for module in modules.split():
        exec(f"from {module} import *", names)
    for module in modules.split():  # after all, so that bisect is the module
        names[module] = __import__(module)
    exec("from builtins import *", names)
    for name in ("__builtins__", "__name__", "__doc__"):
        names.pop(name, None)
    return names


def import_random() -> None:
    """Import ``random`` without its own way to seed itself after a fork, which is slow."""
    register = os.register_at_fork
    os.register_at_fork = lambda **_: None
    __import__("random")
    os.register_at_fork = register


def random_seed() -> Callable[[], None]:
    """What ``random`` would do after a fork."""
    import random

    return super(random.Random, random._inst).seed


def run_program(is_function: bool, library: dict[str, Any]) -> NoReturn:
    """Run what the task says and end the process.

    Args:
        is_function: Function style: the task names a function to call.
        library: See ``library_names``.
    """
    os._exit(solve_task(TASK, REPORT, is_function, library))


def solve_task(place: int, report: int, is_function: bool, library: dict[str, Any]) -> int:
    """Run what a task says, to its end; the exit status.

    Args:
        place: File descriptor of the task.
        report: File descriptor of the report.
        is_function: Function style.
        library: See ``library_names``.
    """
    text = b"".join(iter(partial(os.read, place, CHUNK), b""))
    os.close(place)
    task = json.loads(text) if is_function else None
    try:
        source = text if task is None else task["source"].encode(errors="surrogateescape")
        if b"coding" not in source:
            source.decode()
        code = compile(source, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        said = str(error) if isinstance(error, SyntaxError) else repr(error)
        os.write(report, b"C" + said[:CUT].encode(errors="replace"))
        return 1
    os.write(report, b"S")
    main = types.ModuleType("solution" if is_function else "__main__")
    if task is not None and "class Solution" in task["source"]:
        main.__dict__.update(library)
    main.__dict__.update({"__builtins__": __builtins__, "__file__": "solution.py"})
    if task is None:
        os.close(report)
    sys.modules["__main__"] = sys.modules[main.__name__] = main
    names = main.__dict__
    del main
    status = _run(partial(_solve, code, names, task, library, report))
    for name in ("__main__", "solution"):
        sys.modules.pop(name, None)
    del names  # the last that holds the program's objects, but for themselves
    return _end(status, any(word in source for word in OPENING))


def _solve(
    code: types.CodeType,
    names: dict[str, Any],
    task: dict[str, Any] | None,
    library: dict[str, Any],
    report: int,
) -> None:
    exec(code, names)
    if task is not None:
        own = {name: names[name] for name in names if names[name] is not library.get(name)}
        result = _entry(own, task["entry"])(*task["args"], **task["kwargs"])
        _write_all(report, json.dumps(plain(result), allow_nan=True).encode())


def _entry(own: dict[str, Any], entry: str | None) -> Callable[..., Any]:
    """The function, or the method of class Solution, that a test calls."""
    name = (entry or "").replace("()", "").rpartition(".")[2]
    if isinstance(own.get("Solution"), type):
        solution = own["Solution"]
        public = [method for method in vars(solution) if not method.startswith("_")]
        chosen = name or (public[0] if len(public) == 1 else "")
        if chosen and hasattr(solution, chosen):
            return getattr(solution(), chosen)  # type: ignore[no-any-return]
    if name in own:
        return own[name]  # type: ignore[no-any-return]
    functions = [
        value
        for value in own.values()
        if callable(value)
        and not isinstance(value, type)
        and getattr(value, "__module__", "") == "solution"
    ]
    if not name and len(functions) == 1:
        return functions[0]  # type: ignore[no-any-return]
    raise NameError(f"there is no function {entry!r} in the program")


def plain(value: Any) -> Any:  # noqa: ANN401
    """A result as what JSON can hold, exactly: subclasses by what they hold, tuples as lists.

    Raises:
        TypeError: It holds something else.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind, held in HELD.items():
        if isinstance(value, kind):
            return held(value)
    if type(value).__module__ == "numpy":
        return plain(value.tolist())
    name = type(value).__name__
    raise TypeError(f"a result of type {name} cannot be compared: JSON does not hold it")


HELD: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    str: lambda text: str.__getitem__(text, slice(None)),
    list: lambda items: [plain(item) for item in list.__iter__(items)],
    tuple: lambda items: [plain(item) for item in tuple.__iter__(items)],
    dict: lambda items: {_key(key): plain(item) for key, item in dict.items(items)},
}
"""What a value holds, whatever its subclass says of itself."""


def _key(key: Any) -> str:  # noqa: ANN401
    """A key as JSON writes it."""
    return key if type(key) is str else json.dumps(plain(key))


def _run(what: Callable[[], None]) -> int:
    """The exit status of a program, which has been run to its end as the interpreter would."""
    try:
        try:
            what()
        finally:
            if "threading" in sys.modules:
                sys.modules["threading"]._shutdown()  # waits for threads, as the interpreter does
            atexit._run_exitfuncs()
    except SystemExit as error:
        return _exit_status(error.code)
    except BaseException as error:  # the program's, whatever it is: the status tells
        _complain(error)
        return 1
    return 0


def _exit_status(code: object) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    sys.stderr.write(f"{code}\n"[:CUT])
    return 1


def _complain(error: BaseException) -> None:
    try:
        import traceback

        lines = traceback.format_exception(type(error), error, error.__traceback__.tb_next)  # type: ignore[union-attr]
        sys.stderr.write("".join(lines)[-CUT:])
    except BaseException:  # its text is made by the program, and may raise or need all memory
        os.write(2, f"{type(error).__name__}\n".encode(errors="replace"))


def _end(status: int, has_files: bool) -> int:
    """Do what an interpreter does at its end, as far as it can be seen; the status to exit with.

    Args:
        status: How the program ended.
        has_files: Whether the program may have files of its own that are still to be written.
    """
    try:
        _flush(sys.stdout)
        _flush(sys.__stdout__)
        gc.collect()  # the program's module: its objects are finalized, its files written
        _flush(sys.stdout)
        for thing in gc.get_objects() if has_files else ():
            if issubclass(type(thing), io.IOBase):
                _flush(thing)
    except BaseException:  # the program closed what we flush, or its finalizers end the process
        status = status or 120
    return status


def _flush(stream: Any) -> None:  # noqa: ANN401
    if stream is not None and not stream.closed and stream.writable():
        stream.flush()


def _write_all(place: int, data: bytes) -> None:
    while data:
        data = data[os.write(place, data) :]
