"""Verification: text in, verdict out. Neither torch nor Lightning is here."""

from verify.answers import AnswerVerifier, Judgement
from verify.votes import Ballot, Tally, count_votes

__all__ = ["AnswerVerifier", "Ballot", "Judgement", "Tally", "count_votes"]
