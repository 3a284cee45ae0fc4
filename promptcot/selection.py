"""Which problems and which of their solutions a model learns from. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

from promptcot.records import Domain, Problem

NO_LABEL = "no label"
TRIVIAL = "trivial label"
UNDECIDABLE = "statement that no answer decides"
SOLVED_BY_NONE = "solved by no attempt"
SOLVED_TOO_OFTEN = "solved too often"
NO_PAIR = "no pair of well-formed attempts"

_TRIVIAL = re.compile(
    r"[\s$]*(?:\\boxed\s*\{)?[\s$]*[01](?:\.0*)?[\s$}.]*|.*\b(?:no|none)\b.*",
    re.IGNORECASE | re.DOTALL,
)
_PROOF = re.compile(
    r"(?:^|[.!?:;,]\s+|\band\s+|\n\s*)(?:\(\w\)\s*)?(?:then\s+)?"
    r"(?:prove|disprove|show)\s+(?:or disprove\s+)?that\b|\bgive a proof\b",
    re.IGNORECASE,
)
_FIGURE = re.compile(
    r"\b(?:figure|diagram|graph|image|picture|table)\s+(?:shown\s+)?(?:below|above|on the right)\b"
    r"(?!\s+(?:the|a|an|its?|[xyz]|\$))"
    r"|\b(?:shown|given)\s+in\s+the\s+(?:figure|diagram|image|picture)\b|\[asy\]|!\[[^\]]*\]\(",
    re.IGNORECASE,
)


def objection_to_problem(problem: Problem, trivial_labels: bool = False) -> str:
    """Why a problem is not worth asking, in words that count all of its kind; empty where it is.

    Args:
        problem: With its reference.
        trivial_labels: Accept the answers 0, 1, and those with the word "no" or "none". The
            released code of the paper drops them, and more: those with these letters in any word.
    """
    if not problem.reference or not problem.reference.strip():
        return NO_LABEL
    if problem.domain is Domain.CODE:
        return ""
    if not trivial_labels and _TRIVIAL.fullmatch(problem.reference):
        return TRIVIAL
    if _PROOF.search(problem.statement) or _FIGURE.search(problem.statement):
        return UNDECIDABLE
    return ""


def is_solved_too_often(passed: int, attempts: int, most: float, *, inclusive: bool) -> bool:
    """Whether a problem is too easy to learn from.

    Args:
        passed: Attempts that are right.
        attempts: All of them.
        most: Share of attempts from which a problem is too easy.
        inclusive: Count that share itself as easy enough to drop; the paper says "at least half",
            its released code drops more than half.
    """
    share = passed / attempts  # 11 / 20 is 0.55, but 0.55 * 20 is more than 11
    return share >= most if inclusive else share > most


def preference_pairs(
    passed: Sequence[str], failed: Sequence[str], limit: int, seed: int
) -> list[tuple[int, int]]:
    """Places of (chosen, rejected) texts, each different text in one pair at most.

    As many pairs as there are different texts on both sides, and no more than ``limit``; a text
    that is on both sides is in none. The seed draws which.
    """
    both = set(passed) & set(failed)
    chosen = [place for text, place in _first_places(passed).items() if text not in both]
    rejected = [place for text, place in _first_places(failed).items() if text not in both]
    rng = Random(seed)
    rng.shuffle(chosen)
    rng.shuffle(rejected)
    return list(zip(chosen, rejected, strict=False))[:limit]


def _first_places(texts: Sequence[str]) -> dict[str, int]:
    places: dict[str, int] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, place)
    return places
