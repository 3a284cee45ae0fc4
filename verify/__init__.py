"""Verification: text in, verdict out. Neither torch nor Lightning is here."""

from verify.answers import AnswerVerifier, Judgement
from verify.by_domain import ByDomain
from verify.majority import MajorityVote
from verify.votes import Ballot, Tally, count_votes

__all__ = [
    "AnswerVerifier",
    "Ballot",
    "ByDomain",
    "Judgement",
    "MajorityVote",
    "Tally",
    "count_votes",
]
