"""Seed rows of a run: annotated where they must be, and split into training and held-out rows."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcot.corpora import Corpus, read_corpus
from promptcot.em.run import Run
from promptcot.em.settings import EM
from promptcot.recipes import Annotate
from promptcot.recipes.making import seeds_fingerprint
from promptcot.records import Annotation, Problem
from promptcot.split import held_out_statements, statement_key
from promptcot.store import open_round


@dataclass(frozen=True, slots=True)
class SeedFiles:
    """Files of rows: what may be trained on, what may not, and both."""

    train: Path
    held_out: Path
    all: Path


def make_seeds(run: Run, settings: EM) -> SeedFiles:
    """Annotate the corpus where it lacks something, and split it by statement.

    Raises:
        ValueError: Something is missing and nobody is named to write it, or there are too few
            problems to hold some out.
    """
    seeds = read_corpus(_annotated(run, settings))
    held_out = held_out_statements(seeds.problems, settings.held_out, settings.seed)
    folder = run.folder / "seeds"
    decided = {
        "corpus": seeds_fingerprint(seeds),
        "held_out": settings.held_out,
        "seed": settings.seed,
    }
    with open_round(folder, decided) as making:
        for problem in seeds.problems if making is not None else ():
            assert making is not None
            part = "held_out" if statement_key(problem.statement) in held_out else "train"
            row = _row(problem, seeds.rationales.get(problem.id))
            making.append(part, problem.id, row)
            making.append("all", problem.id, row)
    return SeedFiles(*(folder / f"{part}.jsonl" for part in ("train", "held_out", "all")))


def _annotated(run: Run, settings: EM) -> Corpus:
    seeds = read_corpus(settings.corpus)
    bare = sum(not problem.concepts for problem in seeds.problems)
    mute = len(seeds.problems) - len(seeds.rationales)
    teacher = settings.annotate
    if not bare and not mute:
        return settings.corpus
    if teacher is None and not bare and seeds.rationales:
        sys.stderr.write(
            f"{mute} of {len(seeds.problems)} problems have no rationale: they take part in the "
            "rounds, not in the cold start\n"
        )
        return settings.corpus
    if teacher is None:
        raise ValueError(
            f"of the {len(seeds.problems)} problems of {settings.corpus.path}, {bare} have no "
            f"concepts and {mute} no rationale: name in "
            "`annotate` who writes them (engine: null for key phrases, without any model)"
        )
    _check_engine(teacher.teacher, teacher.engine is not None)
    recipe = Annotate(
        corpus=settings.corpus,
        teacher=teacher.teacher,
        engine=teacher.engine,
        num_concepts=teacher.num_concepts,
        sampling=teacher.sampling,
        format=settings.format,
        seed=settings.seed,
    )
    return Corpus(str(run.make("annotations", recipe) / "rows.jsonl"))


def _check_engine(teacher: str, asks_a_model: bool) -> None:
    if asks_a_model and not teacher:
        raise ValueError(
            "annotate.teacher is empty: name the teacher's folder of weights or served model, or "
            "set annotate.engine to null for key phrases"
        )


def _row(problem: Problem, rationale: str | None) -> dict[str, Any]:
    return Annotation(problem, rationale).to_row() if rationale else problem.to_row()
