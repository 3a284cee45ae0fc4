"""The program in a completion."""

from __future__ import annotations

import re

LANGUAGES = {
    "python": ("python", "python3", "py", "py3"),
    "cpp": ("cpp", "c++", "cc", "cxx", "c", "cpp17", "cpp20"),
}
"""Languages of programs, and how the fences of code blocks name them."""
_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([\w+#.-]*)")


def extract_program(solution: str, language: str) -> tuple[str, str]:
    """The program in a completion, or "" and why there is none.

    It is the last closed block of code in the language after the last ``</think>``; without one,
    the last that names no language; without any fence, the whole text, unless a thought in it
    never ends. A block that the end of the text cuts off is no program.
    """
    answer = solution.rpartition("</think>")[2]
    if answer.lstrip().startswith("<think>"):
        return "", "the thought is cut off"
    blocks, is_cut = _blocks(answer)
    if not blocks and not is_cut:
        return (answer, "") if answer.strip() else ("", "there is no program")
    if is_cut:
        return "", "the last block of code is cut off"
    for names in (LANGUAGES[language], ("",)):
        for name, text in reversed(blocks):
            if name in names:
                return (text, "") if text.strip() else ("", "the block of code is empty")
    found = ", ".join(sorted({ascii(name) for name, _ in blocks}))
    return "", f"no block of code is in {language}, only in {found[:60]}"


def _blocks(text: str) -> tuple[list[tuple[str, str]], bool]:
    """Fenced blocks as (language, text), and whether the last is not closed."""
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
