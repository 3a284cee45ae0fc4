"""Fenced blocks of code in what a model wrote."""

from __future__ import annotations

import re

_STANDARDS = [f"{name}{year}" for name in ("cpp", "c++", "gnu++") for year in (11, 14, 17, 20, 23)]
LANGUAGES = {
    "python": ("python", "python3", "py", "py3", *(f"python3.{minor}" for minor in range(6, 16))),
    "cpp": ("cpp", "c++", "cc", "cxx", "c", *_STANDARDS),
}
"""Languages of programs, and how the fences of code blocks name them."""
_FENCE = re.compile(r"([ \t]*)(`{3,}(?!.*`)|~{3,})[ \t]*([\w+#.-]*)")
"""More backticks in the line make it code within a sentence (CommonMark 4.5)."""


def fenced_blocks(text: str) -> tuple[list[tuple[str, str]], bool]:
    """Fenced blocks as (language in lower case, text), and whether the last is not closed."""
    blocks: list[tuple[str, str]] = []
    fence, indent, name, lines = "", "", "", list[str]()
    for line in text.splitlines(keepends=True):
        match = _FENCE.match(line)
        if not fence:
            if match:
                indent, fence, name, lines = match[1], match[2], match[3].lower(), []
        elif match and match[2].startswith(fence) and not line.strip().strip(fence[0]):
            blocks.append((name, "".join(lines)))
            fence = ""
        else:
            lines.append(line.removeprefix(indent))
    return blocks, bool(fence)
