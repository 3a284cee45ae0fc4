"""The reference of a problem that has none: what most completions of one model answer."""

from __future__ import annotations

from collections.abc import Sequence

from promptcot.protocols import Completion
from promptcot.records import Label
from verify.answers import AnswerVerifier
from verify.extraction import FORMS
from verify.votes import Ballot, count_votes


class MajorityVote:
    """Elects the answer of the largest group of completions whose answers are equal.

    A completion that was cut off, or has no answer, does not vote.

    Args:
        quorum: Least share of all completions, those that do not vote included, for the answer.
        margin: Least lead over the second answer, as a share of the votes.
        forms: Forms of answers that count, see ``extraction.FORMS``.
    """

    def __init__(
        self, quorum: float = 0.5, margin: float = 0.0, forms: Sequence[str] = FORMS
    ) -> None:
        for name, share in (("quorum", quorum), ("margin", margin)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name}={share}: it is a share, set it to 0 to 1")
        self.quorum = quorum
        self.margin = margin
        self._verifier = AnswerVerifier(forms=forms)

    def label(self, completions: Sequence[Completion]) -> Label:
        """What they elect."""
        tally = count_votes(
            [Ballot(completion.text, completion.finished) for completion in completions],
            self._verifier.are_equal,
            self.quorum,
            self.margin,
            self._verifier.forms,
        )
        first = tally.groups[0].votes if tally.groups else 0
        return Label(tally.answer, str(tally.election), first, tally.votes)

    def close(self) -> None:
        """End the processes. Safe to call twice."""
        self._verifier.close()
