"""Which part of a completion is the program."""

import pytest

from verify.completions import extract_program

FENCE = "```"


@pytest.mark.parametrize(
    ("solution", "language", "program"),
    [
        ("print(1)\n", "python", "print(1)\n"),
        (f"So:\n{FENCE}python\nprint(1)\n{FENCE}\nDone.", "python", "print(1)\n"),
        (f"{FENCE}py\na\n{FENCE}\n{FENCE}python\nb\n{FENCE}", "python", "b\n"),
        (f"{FENCE}python\na\n{FENCE}\nOutput:\n{FENCE}\n5\n{FENCE}", "python", "a\n"),
        (f"{FENCE}\na\n{FENCE}", "python", "a\n"),
        (f"{FENCE}cpp\na\n{FENCE}\n{FENCE}python\nb\n{FENCE}", "cpp", "a\n"),
        (f"<think>{FENCE}python\na\n{FENCE}</think>\n{FENCE}python\nb\n{FENCE}", "python", "b\n"),
        (f"{FENCE}f{FENCE} is it:\n{FENCE}python\na\n{FENCE}\n", "python", "a\n"),
        (f"{FENCE}C++17\na\n{FENCE}", "cpp", "a\n"),
        (f"{FENCE}python3.11\na\n{FENCE}", "python", "a\n"),
        (f"~~~Python\na = '{FENCE}'\n~~~", "python", f"a = '{FENCE}'\n"),
    ],
)
def test_the_last_closed_block_of_the_language(solution, language, program):
    assert extract_program(solution, language) == (program, "")


@pytest.mark.parametrize(
    ("solution", "why"),
    [
        ("", "there is no program"),
        ("<think>It is print(1)", "the thought is cut off"),
        (f"{FENCE}python\nprint(1)\n{FENCE}\n{FENCE}python\npri", "block of code is cut off"),
        (f"{FENCE}python\n\n{FENCE}", "the block of code is empty"),
        (f"{FENCE}java\na\n{FENCE}", "no block of code is in python, only in 'java'"),
    ],
)
def test_where_there_is_no_program_it_is_said_why(solution, why):
    program, said = extract_program(solution, "python")
    assert program == ""
    assert why in said
