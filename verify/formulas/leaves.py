"""Shapes that have no parts, from their text: formulas, words, digits in a base, times, ratios.

Each reader returns None where the text is of another kind.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from verify.formulas.grammar import parse
from verify.formulas.lexing import FUNCTIONS, GREEK
from verify.formulas.notation import split_top
from verify.formulas.shapes import Based, Clock, Formula, Items, Read, Shape, Tuple, Words
from verify.formulas.units import is_measure, scale_between, split_unit

_TEXT = re.compile(r"\\(?:text|textbf|textit|textrm|textnormal|mbox|mathrm|rm)\s*\{([^{}]*)\}")
_BASED = re.compile(
    r"^([0-9A-Za-z.]*\d[0-9A-Z]*)\s*_\s*"
    r"(?:\{\s*(?:\\text\s*\{)?\s*(?:base\s*)?(?:\}\s*)?(\d{1,2})\s*\}?\s*\}|(\d{1,2}))$"
)
_PREFIXED = re.compile(r"0(?:[xX]([0-9a-fA-F]{1,99})|[bB]([01]{1,99}))")
_COMPOUND = re.compile(
    r"^(\d{1,9}) ?([a-z]{1,12}),? (?:and )?(\d{1,9}(?:\.\d{1,9})?) ?([a-z]{1,12})$"
)
_BASE_WORD = re.compile(r"(?<=_\{\\text\{)[a-zA-Z]{3,9}(?=\}\}$)")
_WORD = re.compile(
    r"(?<![\\A-Za-z_{])[A-Za-z]{2,}(?= [A-Za-z(\\]|$)|(?<= )[A-Za-z]{2,}(?![A-Za-z])"
)
_COMMON = frozenset(
    ["yes", "no", "true", "false", "even", "odd", "both", "left", "right", "less", "more", "all"]
)
_BASES = range(2, 37)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_CLOCK = re.compile(
    r"^(\d{1,2})(?::(\d{2})(?::(\d{2}))?|(?=\s*[ap]\.?m\.?$))\s*(?:([ap])\.?m\.?)?$", re.IGNORECASE
)
_DATE = re.compile(
    r"(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
    r"|(0?[1-9]|[12]\d|3[01])/(0?[1-9]|[12]\d|3[01])/((?:1\d|20)\d\d)"
)
_CHOICE = re.compile(
    r"^\(([A-J])\)\s*[.:]?(?:\s+(?![-+*/^_=<>|!]|\\c[au]p|\\times|\\cdot)\S|\d+$).*$"
    r"|^([A-J])(?:\)|[.:](?=\s|\d+$))\s*[.:]?\s*\S.*$"
)
_LETTER = re.compile(r"\(?[A-J][).:]\s*[.:]?\s*")
_NAMED_CHOICE = re.compile(r"(?:[Oo]ption|[Cc]hoice)\s+\(?([A-J])\)?")
_NUMBERS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_TENS = "thirty forty fifty sixty seventy eighty ninety hundred"
SYNONYMS = {
    "infinitely many": r"\infty",
    "infinite": r"\infty",
    "infinity": r"\infty",
    "zero": "0",
    **{word: str(number) for number, word in enumerate(_NUMBERS.split(), 1)},
    **{word: str(10 * number) for number, word in enumerate(_TENS.split(), 3)},
}
_REALS = frozenset(["all real numbers", "all reals"])
_EMPTY = frozenset(
    [
        *("no solution", "no solutions", "no real solution", "no real solutions", "no real roots"),
        *("none", "empty set", "the empty set"),
    ]
)


def words(text: str) -> Words:
    """The answer as words; beside commands, which make it a formula, every sign counts.

    Punctuation counts only where there is nothing else; symbols, such as arrows, always.
    """
    said = _TEXT.sub(r" \1 ", text)
    if "\\" in said:
        return Words(" ".join(said.split()))
    plain = "".join(" " if _is_punctuation(sign) else sign for sign in said)
    return Words(" ".join(plain.lower().split()) or text)


def _is_punctuation(sign: str) -> bool:
    if sign in "<>=/+^*|%-_":
        return False
    return sign in "$`~" or unicodedata.category(sign)[0] in "PC"


def read_synonym(text: str) -> Shape | None:
    """A word for a number, the empty set, or all real numbers."""
    said = words(text).text
    if said in SYNONYMS and not re.search(r"\d", text):
        return Formula(parse(SYNONYMS[said]))
    if re.fullmatch(r"\\mathbb\s*\{\s*R\s*\}|\\R", text) or said in _REALS:
        return Tuple((Formula(("neg", ("infty",))), Formula(("infty",))))
    if said in {"does not exist", "dne"}:
        return Words("does not exist")
    if text == r"\emptyset" or said in _EMPTY:
        return Items((), is_set=True)
    return None


def read_based(text: str) -> Shape | None:
    """Digits with their base as a subscript, or with the prefix of programs: 0x1F, 0b101."""
    prefixed = _PREFIXED.fullmatch(text)
    if prefixed:
        digits, base = (prefixed[1], 16) if prefixed[1] else (prefixed[2], 2)
        return Based(digits.upper(), base)
    found = _BASED.match(_BASE_WORD.sub(lambda word: SYNONYMS.get(word[0].lower(), word[0]), text))
    if found is None or re.match("[a-zA-Z]", text):
        return None
    base = int(found[2] or found[3])
    digits = found[1].upper()
    has_value = base in _BASES and all(_DIGITS.find(digit) in range(base) for digit in digits)
    return Based(digits, base) if has_value else None


def read_clock(text: str) -> Shape | None:
    """A time of day."""
    found = _CLOCK.match(_TEXT.sub(r"\1", text))
    if found is None or int(found[2] or 0) > 59:  # noqa: PLR2004
        return None
    hours, minutes, seconds = int(found[1]), int(found[2] or 0), int(found[3] or 0)
    if found[4]:
        hours = hours % 12 + (12 if found[4].lower() == "p" else 0)
    is_time = bool(found[3] or found[4])
    ratio = None if is_time or not minutes else Formula(parse(text))
    return Clock(hours * 3600 + minutes * 60 + seconds, is_time, ratio)


def read_ratio(text: str) -> Shape | None:
    """A ratio of three numbers or more, by their sizes beside the last."""
    parts = split_top(text, ":")
    if len(parts) <= 2 or re.search(r"[=<>]|\\(?:le|ge|ne|approx)\b", text):  # noqa: PLR2004
        return None
    last = parse(parts[-1])
    return Tuple(tuple(Formula(("/", parse(part), last)) for part in parts), "::")


def read_date(text: str) -> Shape | None:
    """A date in numbers, which is no difference and no quotient; its parts keep their order."""
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    return Tuple(tuple(Formula(parse(part)) for part in found.groups() if part), "date")


def read_minutes(text: str) -> Shape | None:
    """An angle in degrees and minutes."""
    found = re.match(r"^(\d{1,3})\s*\\deg\s*(\d{1,2})\s*(?:'|\^\s*\{?\\prime\}?)$", text)
    if found is None:
        return None
    return Formula(("deg", ("num", int(found[1]) + Fraction(int(found[2]), 60), -1)))


def read_compound(text: str) -> Shape | None:
    """A quantity in two units, the smaller last: 5 feet 3 inches."""
    found = _COMPOUND.match(" ".join(_TEXT.sub(r" \1 ", text).split()))
    if found is None or not (is_measure(found[2]) and is_measure(found[4])):
        return None
    scale = scale_between(found[2], found[4])
    if scale is None or scale <= 1:
        return None
    return Formula(("num", int(found[1]) * scale + Fraction(found[3]), -1), found[4])


def read_choice(text: str, read: Read) -> Shape | None:
    """A lettered choice with its text, or called one: (C) 12, option C."""
    said = " ".join(_TEXT.sub(r" \1 ", text).split())
    if named := _NAMED_CHOICE.fullmatch(said):
        return Words(f"choice {named[1]}")
    text = _TEXT.sub(r"\1", text).strip()
    found = _CHOICE.match(text)
    if found is None or "," in text:
        return None
    return Words(f"choice {found[1] or found[2]}", read(_LETTER.sub("", text, count=1)))


def _is_prose(text: str) -> bool:
    """Whether a text has English words in a row, whose letters are no product of names."""
    found = [word for word in _WORD.findall(text) if word not in FUNCTIONS and word not in GREEK]
    return len(found) > 1 or any(word.lower() in _COMMON for word in found)


def read_formula(text: str) -> Shape | None:
    """A number or an expression, with its unit or percent sign."""
    whole = _TEXT.fullmatch(text)
    if whole and whole[1][:1].isdigit():
        text = whole[1].strip()
    text = re.sub(r"\\text\s*\{\s*(sin|cos|tan|log|ln|max|min|gcd|lcm)\s*\}", r"\\\1 ", text)
    percent = re.search(r"(?:\\?%|\\text\s*\{\s*(?:percent|pct)\s*\}|\s(?:percent|pct))\s*$", text)
    if percent:
        return Formula(parse(text[: percent.start()]), percent=True)
    ordinal = re.match(r"^(\d+)\s*(?:st|nd|rd|th)\b(?: [A-Za-z]+)?$", text)
    value, unit = (ordinal[1], "") if ordinal else split_unit(text)
    if _is_prose(value):
        return None
    value = re.sub(r"(?<=\d)\s+(\d+)\s*/\s*(\d+)$", r"\\frac{\1}{\2}", value)
    return Formula(parse(re.sub(r"^-\s*", "-", value)), unit)
