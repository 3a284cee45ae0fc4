"""The nouns of the project: what flows between the rooms and is written to disk.

Records are frozen and hold only text and numbers, no tensors and no handles, so that every
stage can be resumed from the JSONL that the previous one wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Domain(StrEnum):
    """What kind of reference a problem can have."""

    MATH = "math"
    CODE = "code"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem x, with the concepts c and the difficulty level it was written from."""

    id: str
    domain: Domain
    statement: str
    concepts: tuple[str, ...] = ()
    level: str = ""
    reference: str | None = None
    """Final answer (mathematics) or JSON unit tests (code); None until one is established."""
    vote_share: float | None = None
    """Share of all completions that voted for the reference; None where it was given."""

    def to_row(self) -> dict[str, Any]:
        """A flat JSON object; ``from_row`` reads it back."""
        return {
            "id": self.id,
            "domain": str(self.domain),
            "level": self.level,
            "concepts": list(self.concepts),
            "statement": self.statement,
            "reference": self.reference,
            **({} if self.vote_share is None else {"vote_share": self.vote_share}),
        }

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Problem:
        """The problem in a row written by ``to_row``; other fields are ignored."""
        return Problem(
            id=row["id"],
            domain=Domain(row["domain"]),
            statement=row["statement"],
            concepts=tuple(row["concepts"]),
            level=row["level"],
            reference=row["reference"],
            vote_share=row.get("vote_share"),
        )


@dataclass(frozen=True, slots=True)
class Annotation:
    """A problem together with a rationale z: how a teacher would come to design it."""

    problem: Problem
    rationale: str
    reward: float | None = None
    """Where the E-step chose the rationale: log p(z | c) + log p(x | z, c) in nats, less what the
    leak guard takes. Else None."""

    def to_row(self) -> dict[str, Any]:
        """A flat JSON object; ``from_row`` reads it back."""
        return {**self.problem.to_row(), "rationale": self.rationale, "reward": self.reward}

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Annotation:
        """The annotation in a row written by ``to_row``; other fields are ignored."""
        return Annotation(Problem.from_row(row), row["rationale"], row["reward"])


class Outcome(StrEnum):
    """What a verifier says of a solution."""

    PASS = "pass"
    FAIL = "fail"
    UNDECIDED = "undecided"
    """It cannot know; never to be counted as either of the others."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's outcome for one solution, and in ``detail`` why."""

    outcome: Outcome
    detail: str = ""
    answer: str = ""
    """What the solution comes to: its final answer, or of a program AC, WA and their like; empty
    where there is none."""


@dataclass(frozen=True, slots=True)
class Label:
    """What the completions of one problem elect as its answer.

    Args:
        answer: None where none is elected.
        why: How the count ended, in words that stand for all of its kind.
        votes: For the answer, or for the first where none is elected.
        cast: Votes for any.
    """

    answer: str | None
    why: str
    votes: int = 0
    cast: int = 0
