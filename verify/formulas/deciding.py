"""The decision about one pair of answers, in steps from the cheapest to the dearest.

1. The same spelling, or two plain numbers: decided at once, in any process.
2. A rule for the kinds of the two answers (``comparing``).
3. math-verify, for formulas that our grammar does not know, in both directions and behind checks
   of size. It runs in a worker only, where it can be killed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from promptcot.records import Outcome
from verify.formulas.arithmetic import TooLarge, Undefined
from verify.formulas.comparing import MAX_WORDS, same
from verify.formulas.notation import MAX_ANSWER, skeleton, unify
from verify.formulas.reading import condition_of, readings
from verify.formulas.shapes import Ambiguous, Shape, Unknown, Words, has_words

MIN_WORD = 4
"""Letters of a word whose case means nothing; fewer may be a product of names."""
_PLAIN = re.compile(r"[-+]?\d{1,400}(?:\.\d{1,400})?")


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome for a pair of answers, the rule that gave it, and why where that helps."""

    outcome: Outcome
    rule: str
    reason: str = ""


def decide_quickly(reference: str, answer: str) -> Decision | None:
    """The decision that spelling alone allows; None where the kinds must be compared."""
    if len(reference) > MAX_ANSWER or len(answer) > MAX_ANSWER:
        if reference.strip() == answer.strip():
            return Decision(Outcome.PASS, "same text")
        return Decision(
            Outcome.UNDECIDED, "size", f"an answer of more than {MAX_ANSWER} characters"
        )
    left, right = unify(reference), unify(answer)
    if not left or not right:
        which = "reference" if not left else "answer"
        return Decision(Outcome.UNDECIDED, "empty", f"the {which} is empty")
    return _same_spelling(left, right)


def _same_spelling(left: str, right: str) -> Decision | None:
    plain = skeleton(left), skeleton(right)
    if plain[0] == plain[1]:
        return Decision(Outcome.PASS, "same text")
    if _is_word(plain[0]) and plain[0].casefold() == plain[1].casefold():
        return Decision(Outcome.PASS, "same word")
    if _PLAIN.fullmatch(left) and _PLAIN.fullmatch(right):
        return _verdict(Fraction(left) == Fraction(right), "numbers")
    return None


def _is_word(text: str) -> bool:
    return text.isalpha() and len(text) >= MIN_WORD


def decide(reference: str, answer: str) -> Decision:
    """The decision by the rules; ``undecided`` with a reason where none knows. Never raises."""
    try:
        return decide_quickly(reference, answer) or _by_rules(reference, answer)
    except RecursionError:
        return Decision(Outcome.UNDECIDED, "size", "nested too deep")
    except Exception as error:  # model text must not stop a run, whatever we overlooked
        said = f"{type(error).__name__}: {error}"[:200]
        return Decision(Outcome.UNDECIDED, "error", said)


def _by_rules(reference: str, answer: str) -> Decision:
    left, right = unify(reference), unify(answer)
    reason: Exception | None = None
    rule = "unknown"
    for a in readings(left):
        for b in readings(right):
            rule = rule if rule != "unknown" else _rule(a, b)
            try:
                if same(a, b):
                    return _under_conditions(left, right, _rule(a, b))
            except (Unknown, TooLarge, Undefined) as error:
                reason = reason if isinstance(reason, Ambiguous) else error
    if reason is None and not _is_long_prose(left) and not _is_long_prose(right):
        return Decision(Outcome.FAIL, rule)
    if isinstance(reason, Ambiguous):
        return Decision(Outcome.UNDECIDED, "ambiguous", str(reason))
    if reason is None or isinstance(reason, Unknown):
        return Decision(Outcome.UNDECIDED, "unknown", str(reason or "an answer partly in prose"))
    return Decision(Outcome.UNDECIDED, "value", str(reason))


def _under_conditions(left: str, right: str, rule: str) -> Decision:
    """A pass, unless both answers say for what they hold, and in other words."""
    ours, theirs = condition_of(left), condition_of(right)
    if ours and theirs and ours != theirs:
        return Decision(Outcome.UNDECIDED, "ambiguous", "conditions in other words")
    return Decision(Outcome.PASS, rule)


def _is_long_prose(text: str) -> bool:
    shape = next(readings(text))
    return has_words(shape) and (
        not isinstance(shape, Words) or len(shape.text.split()) > MAX_WORDS
    )


def _rule(a: Shape, b: Shape) -> str:
    names = sorted({type(a).__name__.lower(), type(b).__name__.lower()})
    return " and ".join(names)


def _verdict(is_equal: bool, rule: str) -> Decision:
    return Decision(Outcome.PASS if is_equal else Outcome.FAIL, rule)


def is_prose(text: str) -> bool:
    """Whether a unified answer holds words outside formulas, which math-verify would skip."""
    plain = re.sub(r"\\(?:begin|end)\s*\{\w+\}|\\[a-zA-Z]+", " ", text)
    return isinstance(next(readings(text)), Words) and re.search(r"[A-Za-z]{4,}", plain) is not None
