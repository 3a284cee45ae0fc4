"""All that a run of ``em`` is set by. Defaults are the paper's where it names a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from promptcot.corpora import Corpus
from promptcot.engines import AutoEngine, ServerEngine
from promptcot.leak import LeakGuard
from promptcot.prompts import PromptFormat
from promptcot.protocols import OpenEngine, Sampling

# No slots in these: jsonargparse reads a default by vars().


@dataclass(frozen=True)
class Teacher:
    """Who annotates a corpus that lacks concepts or rationales; see ``make annotate``.

    Args:
        teacher: Folder of weights, or the name under which a server has the model.
        engine: Opened on the teacher; null for key phrases, without any model.
        num_concepts: Concepts of a problem.
        sampling: Of the teacher; n are the replies to choose from.
    """

    teacher: str = ""
    engine: OpenEngine | None = ServerEngine
    num_concepts: int = 5
    sampling: Sampling = field(
        default_factory=lambda: Sampling(n=4, temperature=0.7, max_tokens=4096)
    )


@dataclass(frozen=True)
class EStep:
    """How rationales are sampled and chosen; see ``make rationales``.

    Args:
        sampling: Of the rationale model; n are the choices.
        per_token: Choose by means over tokens instead of sums.
        leak_guard: What quoting the problem costs a rationale; null, as in the paper, for nothing.
        min_words: Shorter rationales are flawed.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(n=8, temperature=1.0))
    per_token: bool = False
    leak_guard: LeakGuard | None = field(default_factory=LeakGuard)
    min_words: int = 0


@dataclass(frozen=True)
class MStep:
    """How the updated rationale model writes the prompt model's training data.

    Args:
        sampling: Of the rationale model; the paper decodes greedily.
    """

    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.0))


@dataclass(frozen=True)
class Evaluation:
    """How the held-out figures are measured; see ``make held_out``.

    Args:
        num_samples: Rationales for the bound of one problem.
        max_tokens: Limit of a rationale.
        compose_max_tokens: Limit of rationale and problem.
    """

    num_samples: int = 8
    max_tokens: int = 2048
    compose_max_tokens: int = 4096


@dataclass(frozen=True)
class Composition:
    """How new problems are written at the end; see ``make compose``.

    Args:
        num_sets: Concept sets to draw; 0 for no new problems.
        num_concepts: Concepts of a set.
        concept_temperature: Of the draw.
        sampling: Of the prompt model.
        shown: New problems to print.
    """

    num_sets: int = 100
    num_concepts: int = 5
    concept_temperature: float = 1.0
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8, max_tokens=4096))
    shown: int = 3


@dataclass(frozen=True)
class Fits:
    """YAML files of ``cli.py fit`` for each of the four fits; of a list the later ones win.

    What to start from, what to train on, the seed and the folder ``em`` sets itself.

    Args:
        cold_start_q: Rationale model, on the corpus's rationales.
        cold_start_p: Prompt model, on the corpus's rationales and problems.
        e_step: Rationale model, on the best of n.
        m_step: Prompt model, on the greedy rationales.
        flags: Further settings of all four by their dotted names, such as
            ``{trainer.strategy: ddp, trainer.devices: 8}``.
    """

    cold_start_q: list[str] = field(default_factory=lambda: ["configs/cold_start_q.yaml"])
    cold_start_p: list[str] = field(default_factory=lambda: ["configs/cold_start_p.yaml"])
    e_step: list[str] = field(default_factory=lambda: ["configs/e_step.yaml"])
    m_step: list[str] = field(default_factory=lambda: ["configs/m_step.yaml"])
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EM:
    """A run: cold start, rounds of E-step and M-step, new problems.

    Args:
        folder: Everything of the run is in it; the same command goes on with it.
        corpus: Seed problems.
        weights: Folder of the weights that both models start from.
        annotate: Who writes missing concepts and rationales. Null: no concepts may be missing, and
            a problem without rationale takes part in the rounds alone.
        held_out: Share of the problems that no model is trained on, by statement.
        rounds: Most rounds of E-step and M-step.
        min_improvement: Stop when the held-out bound gains less than this share of its size.
        seed: Of splits, orders and all sampling.
        engine: Opened on the weights of each model in turn.
        format: The wording of prompts and the tags.
        fits: The four fits.
        e_step: How rationales are sampled and chosen.
        m_step: How the prompt model's training data are written.
        evaluation: How the held-out figures are measured.
        compose: How new problems are written.
    """

    folder: Path = Path("runs/em")
    corpus: Corpus = field(default_factory=Corpus)
    weights: str = "models/smollm2-135m-instruct"
    annotate: Teacher | None = None
    held_out: float = 0.05
    rounds: int = 3
    min_improvement: float = 0.005
    seed: int = 42
    engine: OpenEngine = AutoEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    fits: Fits = field(default_factory=Fits)
    e_step: EStep = field(default_factory=EStep)
    m_step: MStep = field(default_factory=MStep)
    evaluation: Evaluation = field(default_factory=Evaluation)
    compose: Composition = field(default_factory=Composition)
