"""Which answer do most completions give? Groups of equal answers, and when they elect none.

The result does not depend on the order of the ballots. Equality of answers is not transitive
(50% equals 0.5 and, as an answer to "what percent", 50), so an answer joins a group only if it
equals all that are in it, and answers join in an order of their own: the most frequent first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from verify.extraction import FORMS, Extraction, extract
from verify.formulas.notation import unify
from verify.formulas.reading import read
from verify.formulas.shapes import has_words

GUESSED = ("bare", "closing")
"""Forms of answers that nothing in the text calls one: they vote where they hold a number or
are the letter of a choice."""
_SAYS_SOMETHING = re.compile(r"[^\W_]|[∅∞]")
Equality = Callable[[str, str], bool | None]
"""Whether two answers mean the same; None where nobody knows, which joins no group."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """One completion; it votes only if it is whole and has an answer, no mere excuse."""

    text: str
    finished: bool = True


class Election(StrEnum):
    """How a count ended."""

    ELECTED = "elected"
    NO_VOTES = "no completion has an answer"
    TIE = "the first groups have as many votes"
    NO_QUORUM = "too few votes for the first group"
    NO_MARGIN = "too small a lead"


@dataclass(frozen=True, slots=True)
class Group:
    """Equal answers, the most frequent spelling first, and their votes."""

    answers: tuple[str, ...]
    votes: int


@dataclass(frozen=True, slots=True)
class Tally:
    """A count: the elected answer or None, how it ended, and what it was based on."""

    answer: str | None
    election: Election
    groups: tuple[Group, ...]
    """With the most votes first."""
    cut_off: int
    """Ballots that do not vote because their text was cut off."""
    unparsed: int
    """Ballots that do not vote because they have no answer."""

    @property
    def votes(self) -> int:
        """Ballots that voted."""
        return sum(group.votes for group in self.groups)


def count_votes(
    ballots: Sequence[Ballot],
    are_equal: Equality,
    quorum: float = 0.0,
    margin: float = 0.0,
    forms: Sequence[str] = FORMS,
) -> Tally:
    """Elect the answer of the largest group.

    Args:
        ballots: Completions of one problem.
        are_equal: Symmetric; see ``AnswerVerifier.are_equal``.
        quorum: Least share of all ballots, those that do not vote included, that must be for it.
        margin: Least lead over the second group, as a share of the votes.
        forms: Forms of answers that count, see ``extraction.FORMS``.
    """
    whole = [ballot for ballot in ballots if ballot.finished]
    found = [_vote(extract(ballot.text, forms)) for ballot in whole]
    answers = [answer for answer in found if answer]
    groups = _grouped(answers, are_equal)
    election = _election(groups, len(ballots), quorum, margin)
    return Tally(
        answer=groups[0].answers[0] if election is Election.ELECTED else None,
        election=election,
        groups=groups,
        cut_off=len(ballots) - len(whole),
        unparsed=len(whole) - len(answers),
    )


def _vote(found: Extraction) -> str:
    """The answer that counts; empty where there is none, or it might just as well be an excuse.

    Neither boxed nor called the answer, "I cannot help with that" is no vote.
    """
    answer = (found.answer or "").strip()
    if not _SAYS_SOMETHING.search(answer):
        return ""
    is_told = found.form not in GUESSED or (
        re.search(r"\d|^\W*[A-Z]\W*$", answer) and not has_words(read(unify(answer)))
    )
    return answer if is_told else ""


def _grouped(answers: Iterable[str], are_equal: Equality) -> tuple[Group, ...]:
    counts = Counter(answers)
    groups: list[list[str]] = []
    for answer in sorted(counts, key=lambda text: (-counts[text], len(text), text)):
        home = next((g for g in groups if all(are_equal(answer, other) for other in g)), None)
        if home is None:
            groups.append([answer])
        else:
            home.append(answer)
    found = [Group(tuple(group), sum(counts[answer] for answer in group)) for group in groups]
    return tuple(sorted(found, key=lambda group: (-group.votes, group.answers)))


def _election(groups: Sequence[Group], num_ballots: int, quorum: float, margin: float) -> Election:
    if not groups:
        return Election.NO_VOTES
    first = groups[0].votes
    second = groups[1].votes if len(groups) > 1 else 0
    if first == second:
        return Election.TIE
    if first / num_ballots < quorum:  # 7 / 25 is 0.28, but 0.28 * 25 is more than 7
        return Election.NO_QUORUM
    if (first - second) / sum(group.votes for group in groups) < margin:
        return Election.NO_MARGIN
    return Election.ELECTED
