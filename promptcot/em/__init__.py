"""The EM loop over ordinary commands; the journal of a run lets it go on where it was."""

from promptcot.em.loop import run_em
from promptcot.em.settings import EM

__all__ = ["EM", "run_em"]
