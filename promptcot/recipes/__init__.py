"""One stage of the method each: weights and rows in, a round of rows out."""

from promptcot.recipes.annotate import Annotate
from promptcot.recipes.compose import Compose
from promptcot.recipes.held_out import HeldOut
from promptcot.recipes.label import LabelProblems
from promptcot.recipes.making import Recipe, make_round
from promptcot.recipes.rationales import Rationales
from promptcot.recipes.rollouts import Rollouts

__all__ = [
    "Annotate",
    "Compose",
    "HeldOut",
    "LabelProblems",
    "Rationales",
    "Recipe",
    "Rollouts",
    "make_round",
]
