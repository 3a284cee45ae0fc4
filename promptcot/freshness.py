"""Whether an engine answers with the weights that it was given: some sequences, scored twice.

The trainer writes what it makes of them into the folder that it exports; whoever opens an engine
on that folder has the engine score them too. An engine that still holds the weights of before
says something else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import fsum, inf, sqrt
from pathlib import Path

from promptcot.fingerprints import PROBES
from promptcot.protocols import Scorer, ScoreRequest, Target

MAX_DIFFERENCE = 0.1
"""Nats a token that rounding may explain.

A trainer in float32 and an engine in bfloat16 differ by 0.03 to 0.04 on SmolLM2-135M-Instruct (150
tokens of text at -2.0 nats, in transformers and in vLLM alike), the signs cancelling out; two in
float32 by less than 0.001.
"""
LEAST_SHARE = 0.5
"""Of an update; an engine that shows less has the old weights rather than the new."""
NUM_ERRORS = 4
"""Standard errors by which it must be less."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A sequence and what the trainer makes of it.

    Args:
        prompt: As text, which every engine tokenises as the trainer does.
        target: Token ids after it, the end token among them if it is meant.
        logprobs: In nats, one of each target token, at temperature 1.
        previous: The same under the weights of the export before; empty where there is none.
    """

    prompt: str
    target: tuple[int, ...]
    logprobs: tuple[float, ...]
    previous: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.target or len(self.target) != len(self.logprobs):
            raise ValueError(
                f"a probe has {len(self.target)} target tokens and {len(self.logprobs)} "
                "log-probabilities: give one of each token, and one token at least"
            )
        if self.previous and len(self.previous) != len(self.target):
            raise ValueError(
                f"a probe has {len(self.target)} target tokens and {len(self.previous)} "
                "log-probabilities of before: give one of each token, or none"
            )


@dataclass(frozen=True, slots=True)
class Probes:
    """The sequences of a folder.

    Args:
        probes: One at least.
        max_difference: Nats by which engine and trainer may differ, the mean over all tokens.
    """

    probes: tuple[Probe, ...]
    max_difference: float = MAX_DIFFERENCE

    def __post_init__(self) -> None:
        if not self.probes or not self.max_difference > 0:
            raise ValueError(
                f"{len(self.probes)} probes, max_difference={self.max_difference}: give one probe "
                "at least, and a difference above 0"
            )


def write_probes(
    folder: Path, probes: Sequence[Probe], max_difference: float = MAX_DIFFERENCE
) -> None:
    """Put probes into a folder of weights."""
    written = Probes(tuple(probes), max_difference)
    (folder / PROBES).write_text(json.dumps(asdict(written)) + "\n")


def read_probes(weights: str) -> Probes | None:
    """The probes in a folder of weights; None where it has none.

    Raises:
        ValueError: The file holds something else.
    """
    path = Path(weights) / PROBES
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        probes = [
            Probe(
                row["prompt"], tuple(row["target"]), tuple(row["logprobs"]), tuple(row["previous"])
            )
            for row in found["probes"]
        ]
        return Probes(tuple(probes), found["max_difference"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} holds no probes ({type(error).__name__}: {error}): export the weights again, "
            "or delete the file to go on without the check"
        ) from error


def check_freshness(engine: Scorer, weights: str) -> None:
    """Have the engine score the probes of the folder that it was opened on, if there are any.

    Raises:
        RuntimeError: It differs from the trainer by more than rounding, or agrees with the
            trainer's weights of before.
        ValueError: A file that holds no probes, or an engine that cannot score.
    """
    if (found := read_probes(weights)) is None:
        return
    requests = [ScoreRequest(p.prompt, Target(((p.target,),), ends=False)) for p in found.probes]
    scores = dict(engine.score(requests))
    ours = list(chain.from_iterable(scores[index][0] for index in range(len(requests))))
    theirs = list(chain.from_iterable(probe.logprobs for probe in found.probes))
    difference = fsum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(theirs)
    if not difference <= found.max_difference:  # a NaN differs too
        raise RuntimeError(
            f"the engine opened on {weights} does not hold the weights of that folder: over "
            f"{len(theirs)} tokens its mean log-probability is {fsum(ours) / len(ours):.4f} nats, "
            f"the trainer's {fsum(theirs) / len(theirs):.4f}; token by token they differ by "
            f"{difference:.4f} on average, where max_difference is {found.max_difference:g}. "
            "Open the engine anew instead of keeping it, or restart the server; if only its "
            "precision is to blame, set its dtype to float32 or raise max_difference"
        )
    previous = list(chain.from_iterable(probe.previous for probe in found.probes))
    if len(previous) == len(theirs):
        share, error = update_share(ours, theirs, previous)
        if share + NUM_ERRORS * error < LEAST_SHARE:
            raise RuntimeError(
                f"the engine opened on {weights} still holds the weights of before: of what the "
                f"last update changed over {len(theirs)} tokens it shows {share:.0%} "
                f"(± {error:.0%}); its mean log-probability is {fsum(ours) / len(ours):.4f} nats, "
                f"the trainer's {fsum(theirs) / len(theirs):.4f}. Open the engine anew instead of "
                "keeping it, or restart the server"
            )


def update_share(
    engine: Sequence[float], trainer: Sequence[float], previous: Sequence[float]
) -> tuple[float, float]:
    """How much of an update an engine shows, and the standard error of that.

    The slope of (engine - previous) over (trainer - previous), through the origin: 1 for an engine
    with the new weights, 0 for one with the old, however small the update is beside the rounding
    of single tokens. Without any update the error is infinite.

    Args:
        engine: Log-probability of each token by the engine.
        trainer: By the trainer, with the new weights.
        previous: By the trainer, with the old weights.
    """
    moved = [new - old for new, old in zip(trainer, previous, strict=True)]
    square = fsum(value * value for value in moved)
    if square == 0 or len(moved) == 1:
        return 0.0, inf
    shown = [value - old for value, old in zip(engine, previous, strict=True)]
    share = fsum(a * b for a, b in zip(shown, moved, strict=True)) / square
    left = fsum((a - share * b) ** 2 for a, b in zip(shown, moved, strict=True))
    return share, sqrt(left / (len(moved) - 1) / square)
