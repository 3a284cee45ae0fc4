"""Units of measure: which words after a number are one, and when two quantities are equal."""

from __future__ import annotations

import re
from fractions import Fraction

_KNOWN: dict[str, tuple[str, Fraction]] = {}
for _dimension, _names in {
    "length": "mm 1/1000 cm 1/100 dm 1/10 m 1 km 1000 meter 1 centimeter 1/100 kilometer 1000 "
    "millimeter 1/1000 metre 1 centimetre 1/100 kilometre 1000 inch 127/5000 foot 381/1250",
    "mass": "mg 1/1000000 g 1/1000 kg 1 gram 1/1000 kilogram 1 ton 1000 tonne 1000",
    "time": "s 1 sec 1 second 1 min 60 minute 60 h 3600 hour 3600 hr 3600 day 86400 week 604800",
    "money": "dollar 1 cent 1/100",
}.items():
    _words = _names.split()
    for _name, _size in zip(_words[::2], _words[1::2], strict=True):
        _KNOWN[_name] = (_dimension, Fraction(_size))

_PLURALS = {"inches": "inch", "feet": "foot", "ft": "foot", "in": "inch", "hrs": "hour"}
_BARE = r"(?:mm|cm|dm|km|mg|kg|ml|mL|kW|kJ|Hz|ft|mph|rad|[A-Za-z]{3,12}s?)"
_UNIT_TEXT = r"\\(?:text|mathrm|mbox|textnormal|textrm|rm|textbf)\s*\{[^{}]*\}"
_EXPONENT = r"(?:\s*\^\s*\{?\s*-?\d\s*\}?)?"
_TAIL = re.compile(rf"(?P<unit>(?:[\s/.·*]|\\cdot)*{_UNIT_TEXT}{_EXPONENT}\s*)$")
_NUMBER = r"[-+]?\s*(?:\d[\d.,]*(?:\s*/\s*\d+)?|\\frac\s*\{[^{}]*\}\s*\{[^{}]*\})"
_PLAIN = re.compile(
    rf"^(?P<value>{_NUMBER})\s*(?P<unit>(?:(?:square|cubic)\s+)?{_BARE}"
    rf"(?:\s+(?:{_BARE}|per|of|a|m|s|h))*{_EXPONENT}(?:/{_BARE}|/[hms]\b)?)$"
)
_LONE = re.compile(rf"^(?P<value>{_NUMBER})\s+(?P<unit>[gmsh]{_EXPONENT})$")
_NOT_UNITS = re.compile(
    r"\b(?:and|or|if|when|where|for|is|not|no|pi|sqrt|frac|sin|cos|tan|log|ln"
    r"|exp|alpha|beta|theta|lambda|mod|times|even|odd)\b"
)


def split_unit(text: str) -> tuple[str, str]:
    r"""A quantity's value and its unit in plain words; the unit is empty where there is none.

    >>> split_unit(r"10\text{ cm}^2")
    ('10', 'cm^2')
    """
    unit = ""
    while (tail := _TAIL.search(text)) and tail.start() > 0:
        words = _plain(tail["unit"])
        if _NOT_UNITS.search(words):
            return text, ""
        unit, text = f"{words} {unit}".strip(), text[: tail.start()].strip()
        if re.search(r"\^\s*\{?$", text):  # an ordinal: 12^{\mathrm{th}}
            text = re.sub(r"\^\s*\{?$", "", text)
    plain = None if unit else (_PLAIN.match(text) or _LONE.match(text))
    if plain and not _NOT_UNITS.search(plain["unit"]):
        return plain["value"].strip(), _plain(plain["unit"])
    return text, unit


def _plain(unit: str) -> str:
    said = re.sub(r"\\[a-zA-Z]+|[{}\\]", " ", unit)
    return re.sub(r"\s*\^\s*", "^", " ".join(said.split())).strip(" .*·")


def scale_between(a: str, b: str) -> Fraction | None:
    """How many of unit b one of unit a is; 1 where one is unknown, None where they never agree."""
    known_a, known_b = _lookup(a), _lookup(b)
    if known_a is None or known_b is None:
        return Fraction(1)
    if known_a[0] != known_b[0]:
        return None
    return known_a[1] / known_b[1]


def _lookup(unit: str) -> tuple[str, Fraction] | None:
    power = 1
    if "^" in unit:
        unit, _, digits = unit.partition("^")
        power = int(digits) if digits.isdigit() else 1
    for word, exponent in (("square ", 2), ("cubic ", 3)):
        if unit.startswith(word):
            unit, power = unit.removeprefix(word), exponent
    unit = _PLURALS.get(unit, unit)
    found = _KNOWN.get(unit) or _KNOWN.get(unit.removesuffix("s"))
    return None if found is None else (f"{found[0]}^{power}", found[1] ** power)
