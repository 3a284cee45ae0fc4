"""Units of measure: which words after a number are one, and when two quantities are equal."""

from __future__ import annotations

import re
from fractions import Fraction

from verify.formulas.shapes import Ambiguous

_BASES = {
    "length": "mm 1/1000 cm 1/100 dm 1/10 m 1 km 1000 meter 1 metre 1 centimeter 1/100 "
    "centimetre 1/100 millimeter 1/1000 millimetre 1/1000 kilometer 1000 kilometre 1000 "
    "inch 127/5000 foot 381/1250 yard 1143/1250 yd 1143/1250 mile 201168/125 mi 201168/125",
    "mass": "mg 1/1000000 g 1/1000 kg 1 gram 1/1000 kilogram 1 milligram 1/1000000 ton 1000 "
    "tonne 1000 pound 45359237/100000000 lb 45359237/100000000 ounce 45359237/1600000000 "
    "oz 45359237/1600000000",
    "time": "s 1 sec 1 second 1 min 60 minute 60 h 3600 hour 3600 hr 3600 day 86400 week 604800",
    "long time": "month 1 year 12 decade 120 century 1200",
    "money": "dollar 1 cent 1/100",
    "volume": "l 1 liter 1 litre 1 ml 1/1000 milliliter 1/1000 millilitre 1/1000 cl 1/100 "
    "gallon 3785411784/1000000000 quart 946352946/1000000000 pint 473176473/1000000000",
    "force": "newton 1 N 1 kN 1000",
    "energy": "joule 1 J 1 kJ 1000",
    "power": "watt 1 W 1 kW 1000 kilowatt 1000",
    "frequency": "hertz 1 Hz 1 kHz 1000",
    "angle": "degree 1",
    "radians": "radian 1 rad 1",
    "celsius": "celsius 1",
    "fahrenheit": "fahrenheit 1",
}
_KNOWN = {
    name: (dimension, Fraction(size))
    for dimension, listed in _BASES.items()
    for name, size in zip(listed.split()[::2], listed.split()[1::2], strict=True)
}
"""Dimension and size of each unit. A litre stays apart from a cubic metre, a month from a day."""
_PLURALS = {
    "inches": "inch", "feet": "foot", "ft": "foot", "in": "inch", "hrs": "hour", "L": "l",
    "mL": "ml", "centuries": "century",
}  # fmt: skip
_COMPOUND = {"mph": "mile / hour", "kph": "km / hour", "kmh": "km / hour"}
_NEUTRAL = frozenset(["", "unit", "units"])
"""Words that stand for whatever unit the other side has."""
_BARE = r"(?:mm|cm|dm|km|mg|kg|ml|mL|kW|kJ|Hz|kHz|ft|mph|kph|rad|yd|lb|oz|sq|[A-Za-z]{3,12}s?)"
_UNIT_TEXT = r"\\(?:text|mathrm|mbox|textnormal|textrm|rm|textbf)\s*\{[^{}]*\}"
_EXPONENT = r"(?:\s*\^\s*\{?\s*-?\d\s*\}?)?"
_TAIL = re.compile(rf"(?P<unit>(?:[\s/.·*]|\\cdot)*{_UNIT_TEXT}{_EXPONENT}\s*)$")
_NUMBER = r"[-+]?\s*(?:\d[\d.,]*(?:\s*/\s*\d+)?|\\frac\s*\{[^{}]*\}\s*\{[^{}]*\})"
_PLAIN = re.compile(
    rf"^(?P<value>{_NUMBER})\s*(?P<unit>(?:(?:square|cubic)\s+)?{_BARE}"
    rf"(?:\s+(?:{_BARE}|per|of|a|m|s|h))*{_EXPONENT}(?:/{_BARE}|/[hms]\b)?)$"
)
_LONE = re.compile(
    rf"^(?P<value>{_NUMBER})\s+(?P<unit>(?:in|[gmshlL]){_EXPONENT}(?:/{_BARE}|/[hms]{_EXPONENT})?)$"
)
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
    """How many of unit b one of unit a is; None where they never agree.

    It is 1 where one has no unit.

    Raises:
        Ambiguous: They differ, and one is a word that is no known unit.
    """
    if a == b or _is_neutral(a) or _is_neutral(b):
        return Fraction(1)
    ours, theirs = _lookup(a), _lookup(b)
    if ours is None or theirs is None:
        if _stem(a) == _stem(b):
            return Fraction(1)
        raise Ambiguous(f"the units {a[:20]!r} and {b[:20]!r}")
    return ours[1] / theirs[1] if ours[0] == theirs[0] else None


def is_measure(unit: str) -> bool:
    """Whether a unit is a known one, which no percentage or angle has."""
    return _lookup(unit) is not None


def _is_neutral(unit: str) -> bool:
    return not set(re.sub(r"square|cubic|sq|cu|\^\d|[.\s]+", " ", unit).split()) - _NEUTRAL


def _stem(unit: str) -> str:
    return unit.lower().removesuffix("s")


def _lookup(unit: str) -> tuple[dict[str, int], Fraction] | None:
    """Powers of the dimensions and the size of a unit such as km/h, or square feet."""
    dimensions: dict[str, int] = {}
    size = Fraction(1)
    sign, power = 1, 0
    for word in _words_of(unit):
        if word in {"/", "per"}:
            sign = -1
        elif word in _POWERS:
            power = _POWERS[word]
        else:
            found = _factor(word, power)
            if found is None:
                return None
            name, part, exponent = found
            dimensions[name] = dimensions.get(name, 0) + sign * exponent
            size *= part ** (sign * exponent)
            power = 0
    powers = {name: exponent for name, exponent in dimensions.items() if exponent}
    return (powers, size) if powers else None


_POWERS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


def _words_of(unit: str) -> list[str]:
    said = " ".join(_COMPOUND.get(word, word) for word in unit.split())
    said = re.sub(r"[.*\u00b7]", " ", said.replace("/", " / "))
    return re.sub(r"\bdegrees? (?=celsius|fahrenheit)", "", said, flags=re.IGNORECASE).split()


def _factor(word: str, power: int) -> tuple[str, Fraction, int] | None:
    """Dimension, size and exponent of one word of a unit."""
    name, _, digits = word.partition("^")
    if digits and not re.fullmatch(r"-?\d", digits):
        return None
    exponent = int(digits) if digits else power or 1
    name = _PLURALS.get(name, name)
    for known in (name, name.removesuffix("s"), name.lower(), name.lower().removesuffix("s")):
        if known in _KNOWN:
            return (*_KNOWN[known], exponent)
    return None
