"""Runs one Python program in a process that was forked for it and is confined already.

``stdin`` style: the program is run as a script. ``function`` style: it is run as a module, then
one of its functions is called, and what that returns is written as JSON.

The program shares this process and may change all that is in it. So nothing here is worth
attacking: no expected output is near, and what is reported is only believed where it cannot help.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import types
from collections.abc import Callable
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
CUT = 4000
"""Characters of an exception's text that are kept."""


def library_names() -> dict[str, Any]:
    """The names that a solution in function style need not import, as on LeetCode."""
    names: dict[str, Any] = {}
    modules = "string re collections heapq bisect copy math random statistics itertools functools"
    modules = f"{modules} operator io sys json datetime typing"
    for module in modules.split():
        names[module] = __import__(module)
    for module in [*modules.split(), "builtins"]:  # last, so that math.pow hides no builtin
        exec(f"from {module} import *", names)
    for name in ("__builtins__", "__name__", "__doc__"):
        names.pop(name, None)
    return names


def run_program(function_names: dict[str, Any] | None) -> NoReturn:
    """Run what the task says and end the process.

    Args:
        function_names: Names that are known to a program in function style; None in stdin style.
    """
    with open(TASK, "rb", buffering=0) as file:
        task = file.readall()
    given = None if function_names is None else json.loads(task)
    try:
        source = task if given is None else given["source"]
        code = compile(source, "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        text = str(error) if isinstance(error, SyntaxError) else repr(error)
        os.write(REPORT, b"C" + text[:CUT].encode(errors="replace"))
        os._exit(1)
    os.write(REPORT, b"S")
    main = types.ModuleType("__main__")
    main.__dict__.update(function_names or {})
    main.__dict__.update({"__builtins__": __builtins__, "__file__": "solution.py"})
    if given is None:
        os.close(REPORT)
    sys.modules["__main__"] = main
    _end(_run(lambda: _solve(code, main.__dict__, given)))


def _solve(code: types.CodeType, names: dict[str, Any], task: dict[str, Any] | None) -> None:
    exec(code, names)
    if task is not None:
        function = _entry(names, task["entry"], code)
        result = function(*task["args"], **task["kwargs"])
        _write_all(REPORT, json.dumps(plain(result), allow_nan=True).encode())


def _entry(names: dict[str, Any], entry: str | None, code: types.CodeType) -> Callable[..., Any]:
    """The function, or the method of class Solution, that a test calls."""
    path = (entry or "").replace("()", "").split(".")
    if path[0] == "Solution" and len(path) > 1:
        return getattr(names["Solution"](), path[-1])  # type: ignore[no-any-return]
    if entry and entry in code.co_names:  # the program's own, not one of the library's
        return names[entry]  # type: ignore[no-any-return]
    if "Solution" in code.co_names:
        solution = names["Solution"]()
        own = [name for name in vars(type(solution)) if not name.startswith("_")]
        chosen = entry if entry and hasattr(solution, entry) else own[0] if len(own) == 1 else None
        if chosen and not (entry and chosen != entry):
            return getattr(solution, chosen)  # type: ignore[no-any-return]
    if entry and entry in names:
        return names[entry]  # type: ignore[no-any-return]
    functions = [name for name in code.co_names if isinstance(names.get(name), types.FunctionType)]
    if entry is None and len(functions) == 1:
        return names[functions[0]]  # type: ignore[no-any-return]
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
    except BaseException as error:
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
    except BaseException:
        os.write(2, f"{type(error).__name__}\n".encode(errors="replace"))


def _end(status: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except BaseException:
        status = status or 1
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)


def _write_all(place: int, data: bytes) -> None:
    while data:
        data = data[os.write(place, data) :]
