"""One stage of the method each: weights and rows in, a round of rows out."""

from promptcot.recipes.annotate import Annotate
from promptcot.recipes.compose import Compose
from promptcot.recipes.distill import Distill
from promptcot.recipes.evaluate import Evaluate
from promptcot.recipes.held_out import HeldOut
from promptcot.recipes.label import LabelProblems
from promptcot.recipes.making import Recipe, make_round
from promptcot.recipes.rationales import Rationales
from promptcot.recipes.rollouts import Rollouts
from promptcot.recipes.self_play import SelfPlay

__all__ = [
    "Annotate",
    "Compose",
    "Distill",
    "Evaluate",
    "HeldOut",
    "LabelProblems",
    "Rationales",
    "Recipe",
    "Rollouts",
    "SelfPlay",
    "make_round",
]
