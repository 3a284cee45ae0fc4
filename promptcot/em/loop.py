"""EM, read top to bottom: cold start, E-step and M-step in turn, new problems.

Source: PromptCoT 2.0 (arXiv 2509.19894), sections 3.3 and 3.4. Rounds, stopping rule and held-out
set are not in the paper; they are settings here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from promptcot.concepts import ConceptSampler
from promptcot.corpora import Corpus, read_corpus
from promptcot.em.points import Point
from promptcot.em.report import in_a_line, write_report
from promptcot.em.run import Run, read_yaml, refuse_own_flags
from promptcot.em.seeds import SeedFiles, make_seeds
from promptcot.em.settings import EM
from promptcot.figures import improvement
from promptcot.locks import folder_lock
from promptcot.protocols import Sampling
from promptcot.recipes import Compose, HeldOut, Rationales
from promptcot.recipes.asking import seed_of
from promptcot.store import read_round, round_manifest
from promptcot.weights import check_weights

ROWS_FILE = "rows.jsonl"
PROBLEMS = "problems"


def run_em(settings: EM, cli: Path) -> None:
    """Run all steps that are not done yet.

    Args:
        settings: Of the run.
        cli: Path of ``cli.py``.

    Raises:
        BlockingIOError: Another process runs in the folder.
        FileNotFoundError: The weights or a fit's configuration are not there.
        ValueError: A setting cannot work, or the folder holds a run with others.
    """
    check_settings(settings)
    least = settings.min_improvement
    with folder_lock(settings.folder) as lock:
        run = Run(settings, cli, lock)
        seeds = make_seeds(run, settings)
        if settings.compose.num_sets:  # refuses sets for which there are too few concepts
            ConceptSampler(
                read_corpus(Corpus(str(seeds.all))).problems,
                settings.compose.num_concepts,
                settings.compose.concept_temperature,
            )
        points = [_cold_start(run, settings, seeds)]
        problems = None
        try:
            while len(points) <= settings.rounds and not has_stalled(points, least):
                points.append(_round(run, settings, points[-1], seeds))
            problems = _compose(run, settings, best_of(points).prompt_model, seeds)
        finally:  # a model that cannot write a usable text yet is no reason to hide the figures
            write_report(settings, points, best_of(points), problems, run.journal)


def check_settings(settings: EM) -> None:
    """Find what cannot work now, rather than hours later when its step comes."""
    check_weights(settings.weights)
    fits = settings.fits
    for path in (*fits.cold_start_q, *fits.cold_start_p, *fits.e_step, *fits.m_step):
        read_yaml(path)
    compose, evaluation = settings.compose, settings.evaluation
    if settings.rounds < 0 or compose.num_sets < 0 or evaluation.num_samples < 1:
        raise ValueError(
            f"rounds={settings.rounds}, compose.num_sets={compose.num_sets}, "
            f"evaluation.num_samples={evaluation.num_samples}: rounds and sets must be 0 or more, "
            "samples at least 1"
        )
    if not 0 < settings.held_out < 1:
        raise ValueError(f"held_out={settings.held_out}: it is a share of the problems, 0 to 1")
    if math.isnan(settings.min_improvement) or compose.shown < 0:
        raise ValueError(
            f"min_improvement={settings.min_improvement}, compose.shown={compose.shown}: the "
            "first must be a number, the second 0 or more"
        )
    refuse_own_flags(fits.flags)
    for limit in (evaluation.max_tokens, evaluation.compose_max_tokens):
        Sampling(max_tokens=limit)  # these and the recipes tell what is wrong with their settings
    unborn = Point(0, "q", "p", ())
    _e_step(settings, unborn, Path("train"), settings.seed)
    _m_step(settings, "q", Path("train"), settings.seed)
    if compose.num_sets:
        _composing(settings, "p", Path("all"))


def _cold_start(run: Run, settings: EM, seeds: SeedFiles) -> Point:
    fits, start, seed = settings.fits, settings.weights, settings.seed
    rationale_model = run.fit(
        "round-0/rationale_model", fits.cold_start_q, start, seeds.train, seed
    )
    prompt_model = run.fit("round-0/prompt_model", fits.cold_start_p, start, seeds.train, seed)
    return _evaluate(run, settings, 0, (rationale_model, prompt_model), seeds.held_out)


def _round(run: Run, settings: EM, last: Point, seeds: SeedFiles) -> Point:
    number, fits = last.round + 1, settings.fits
    name, seed = f"round-{number}", seed_of(settings.seed, last.round + 1)
    best_of_n = run.make(f"{name}/e_step", _e_step(settings, last, seeds.train, seed))
    rationale_model = run.fit(
        f"{name}/rationale_model", fits.e_step, last.rationale_model, best_of_n / ROWS_FILE, seed
    )
    greedy = run.make(f"{name}/m_step", _m_step(settings, rationale_model, seeds.train, seed))
    prompt_model = run.fit(
        f"{name}/prompt_model", fits.m_step, last.prompt_model, greedy / ROWS_FILE, seed
    )
    return _evaluate(run, settings, number, (rationale_model, prompt_model), seeds.held_out)


def _e_step(settings: EM, last: Point, train: Path, seed: int) -> Rationales:
    return Rationales(
        rationale_model=last.rationale_model,
        prompt_model=last.prompt_model,
        corpus=Corpus(str(train)),
        sampling=settings.e_step.sampling,
        per_token=settings.e_step.per_token,
        leak_guard=settings.e_step.leak_guard,
        min_words=settings.e_step.min_words,
        engine=settings.engine,
        format=settings.format,
        seed=seed,
    )


def _m_step(settings: EM, rationale_model: str, train: Path, seed: int) -> Rationales:
    return Rationales(
        rationale_model=rationale_model,
        corpus=Corpus(str(train)),
        sampling=settings.m_step.sampling,
        leak_guard=None,  # nothing is chosen
        engine=settings.engine,
        format=settings.format,
        seed=seed,
    )


def _evaluate(
    run: Run, settings: EM, number: int, models: tuple[str, str], held_out: Path
) -> Point:
    recipe = HeldOut(
        rationale_model=models[0],
        prompt_model=models[1],
        corpus=Corpus(str(held_out)),
        num_samples=settings.evaluation.num_samples,
        max_tokens=settings.evaluation.max_tokens,
        compose_max_tokens=settings.evaluation.compose_max_tokens,
        engine=settings.engine,
        format=settings.format,
        seed=settings.seed,
    )
    folder = run.make(f"round-{number}/held_out", recipe)
    point = Point(number, *models, read_round(folder))
    sys.stderr.write(f"after {point.name}: {in_a_line(point)}\n")
    return point


def best_of(points: Sequence[Point]) -> Point:
    """The one whose bound is of the most problems and the largest of those; the first of equals."""
    return max(points, key=lambda point: point.worth)


def has_stalled(points: Sequence[Point], min_improvement: float) -> bool:
    """Whether the last round was not worth it, in the order by which the best is chosen.

    Args:
        points: From the cold start on; alone it has not stalled.
        min_improvement: Least gain of the bound, as a share of its size, where as many problems
            have one as before.
    """
    if len(points) == 1:
        return False
    before, last = points[-2], points[-1]
    found = improvement(before.rows, last.rows)
    if found is None:  # nothing to go by yet: the rounds decide
        return False
    gain, _ = found
    least = min_improvement * abs(before.bound)
    if last.bounded > before.bounded or (last.bounded == before.bounded and gain >= least):
        return False
    why = f"the held-out bound gained {gain:.2f} nats per problem, less than {least:.2f}"
    if last.bounded < before.bounded:
        why = f"{last.bounded} held-out problems have a bound, {before.bounded} had one before"
    sys.stderr.write(f"\nStopped after round {last.round}: {why} (min_improvement)\n")
    return True


def _compose(run: Run, settings: EM, prompt_model: str, seeds: SeedFiles) -> Path | None:
    if settings.compose.num_sets == 0:
        return None
    recipe = _composing(settings, prompt_model, seeds.all)
    move_aside(run.folder / PROBLEMS, recipe)
    return run.make(PROBLEMS, recipe)


def move_aside(folder: Path, recipe: Compose) -> None:
    """Keep the problems of another prompt model under its name, as rounds may be added or taken.

    Those of this one, where they were kept so, are taken back.
    """
    model, wanted = (
        settings.get("prompt_model", "")
        for settings in (round_manifest(folder).get("settings", {}), recipe.settings())
    )
    if not model or model == wanted:
        return
    other, own = (folder.with_name(f"{folder.name}-by-{name}") for name in (model, wanted))
    folder.replace(other)
    sys.stderr.write(f"\nThe problems of the prompt model that was chosen before: {other}\n")
    if own.exists():
        own.replace(folder)


def _composing(settings: EM, prompt_model: str, corpus: Path) -> Compose:
    return Compose(
        prompt_model=prompt_model,
        corpus=Corpus(str(corpus)),
        num_sets=settings.compose.num_sets,
        num_concepts=settings.compose.num_concepts,
        concept_temperature=settings.compose.concept_temperature,
        sampling=settings.compose.sampling,
        engine=settings.engine,
        format=settings.format,
        seed=settings.seed,
    )
