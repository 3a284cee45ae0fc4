"""The program in a completion."""

from __future__ import annotations

from promptcot.fences import LANGUAGES, fenced_blocks


def extract_program(solution: str, language: str) -> tuple[str, str]:
    """The program in a completion, or "" and why there is none.

    It is the last closed block of code in the language after the last ``</think>``; without one,
    the last that names no language; without any fence, the whole text, unless a thought in it
    never ends. A block that the end of the text cuts off is no program.
    """
    answer = solution.rpartition("</think>")[2]
    if answer.lstrip().startswith("<think>"):
        return "", "the thought is cut off"
    blocks, is_cut = fenced_blocks(answer)
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
