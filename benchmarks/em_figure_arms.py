"""The arms of the EM figure: what differs between them, and what is measured of each.

To add an arm, write an ``UpdateQ`` and give it a line in ``ARMS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from em_figure_lab import Lab

from datamodules import ComposeDataModule, RationaleDataModule, RolloutDataModule
from modules import EStepModule, MStepModule, PolicyGradient
from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.figures import Row, held_out_figures
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.metrics import standard_error
from promptcot.prompts import PromptFormat
from promptcot.protocols import OpenEngine, Sampling, ScoreRequest, Target
from promptcot.recipes import Rationales, Rollouts
from promptcot.recipes.asking import lazily, score, seed_of
from promptcot.recipes.making import seeds_fingerprint, with_concepts
from promptcot.records import Annotation
from promptcot.store import ROWS, Round, read_manifest, read_round


@dataclass(frozen=True, slots=True)
class State:
    """Where an arm stands after a round.

    Args:
        round: 0 after the cold start.
        p: Weights of the prompt model.
        q: Weights of the rationale model; empty where there is none.
        steps: Optimizer steps of p since the cold start.
        notes: Of the round just made.
    """

    round: int
    p: str
    q: str = ""
    steps: int = 0
    notes: Mapping[str, Any] = field(default_factory=dict)


UpdateQ = Callable[[Lab, State], str]
"""Gives the weights of q for the round after ``state``; its folder is ``round_name``."""


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to train p.

    Args:
        name: Of its folder.
        update_q: The E-step; None for an arm without any rationale.
    """

    name: str
    update_q: UpdateQ | None

    def start(self, lab: Lab) -> State:
        """The cold start."""
        if self.update_q is None:
            return State(0, cold_start_without_rationale(lab))
        return State(0, *cold_start(lab))

    def advance(self, lab: Lab, state: State) -> State:
        """One round: the E-step, then the M-step."""
        number = state.round + 1
        name = f"{self.name}/round-{number}"
        if self.update_q is None:
            q, rows = "", lab.train.path
            data_class: type[ComposeDataModule] = PlainDataModule
            notes: dict[str, Any] = {}
        else:
            q = self.update_q(lab, state)
            made = lab.rationales(q)
            rows, data_class = str(made / "rows.jsonl"), ComposeDataModule
            manifest = read_manifest(made)
            notes = {
                "rows": manifest["rows"][ROWS],
                "dropped": manifest["dropped"],
                "train": manifest["figures"],
            }
        data = data_class(
            state.p, Corpus(rows), lab.settings.batch_size, seed=seed_of(lab.seed, number)
        )
        module = MStepModule(state.p, lab.optimizer(lab.settings.lr))
        p = lab.fit(f"{name}/p", module, data, max_steps=lab.settings.steps)
        return State(number, p, q, state.steps + lab.settings.steps, notes)

    def measure(self, lab: Lab, state: State) -> dict[str, Any]:
        """The point of a state in the figure."""
        name = f"{self.name}/round-{state.round}" if state.round else "cold"
        with lab.clock("evaluate"):
            if self.update_q is None:
                recipe = PlainHeldOut(state.p, lab.held_out, lab.engine)
                figures = plain_figures(read_round(lab.make(f"{name}/plain_held_out", recipe)))
            else:
                figures = rationale_figures(lab.evaluate(f"{name}/held_out", state.q, state.p))
        return {"round": state.round, "steps": state.steps, **figures, **state.notes}


def cold_start(lab: Lab) -> tuple[str, str]:
    """Both models, from the bundled rationales."""
    settings = lab.settings
    given = settings.weights, settings.cold_corpus, settings.cold_batch_size
    q = lab.fit(
        "cold/q",
        EStepModule(settings.weights, lab.optimizer(settings.cold_lr)),
        RationaleDataModule(*given, seed=lab.seed),
        max_epochs=settings.cold_epochs,
    )
    p = lab.fit(
        "cold/p",
        MStepModule(settings.weights, lab.optimizer(settings.cold_lr)),
        ComposeDataModule(*given, seed=lab.seed),
        max_epochs=settings.cold_epochs,
    )
    return p, q


def cold_start_without_rationale(lab: Lab) -> str:
    """A p from the same rows in the same order without their rationales."""
    settings = lab.settings
    return lab.fit(
        "cold/p_plain",
        MStepModule(settings.weights, lab.optimizer(settings.cold_lr)),
        PlainDataModule(
            settings.weights, settings.cold_corpus, settings.cold_batch_size, seed=lab.seed
        ),
        max_epochs=settings.cold_epochs,
    )


def best_of_n(lab: Lab, state: State) -> str:
    """The method's E-step: q learns the best of its n rationales."""
    number = state.round + 1
    recipe = Rationales(
        rationale_model=state.q,
        prompt_model=state.p,
        corpus=lab.train,
        sampling=Sampling(n=lab.settings.num_samples, max_tokens=lab.settings.max_tokens),
        engine=lab.engine,
        seed=seed_of(lab.seed, number),
    )
    best = lab.make(f"e_step/round-{number}/best", recipe)
    return lab.fit_q(f"e_step/round-{number}/q", state.q, best, seed_of(lab.seed, number))


def policy_gradient(lab: Lab, state: State) -> str:
    """The same number of samples, all of them used: one epoch of a clipped policy gradient."""
    number = state.round + 1
    name = f"policy_gradient/round-{number}"
    recipe = Rollouts(
        rationale_model=state.q,
        prompt_model=state.p,
        corpus=lab.train,
        sampling=Sampling(n=lab.settings.num_samples, max_tokens=lab.settings.max_tokens),
        engine=lab.engine,
        seed=seed_of(lab.seed, number),
    )
    rows = lab.make(f"{name}/rollouts", recipe) / "rows.jsonl"
    settings = lab.settings
    data = RolloutDataModule(
        state.q,
        Corpus(str(rows)),
        baseline="grpo",
        batch_size=settings.batch_size * settings.num_samples,
        seed=seed_of(lab.seed, number),
    )
    module = EStepModule(state.q, lab.optimizer(settings.pg_lr), PolicyGradient())
    return lab.fit(f"{name}/q", module, data, max_epochs=1)


def unchanged(lab: Lab, state: State) -> str:
    """No E-step: q stays as it is, and so do its greedy rationales."""
    return state.q


ARMS = {
    arm.name: arm
    for arm in (
        Arm("e_step", best_of_n),
        Arm("policy_gradient", policy_gradient),
        Arm("fixed", unchanged),
        Arm("none", None),
    )
}


def plain_target(format: PromptFormat, statement: str) -> Target:
    """What p writes where there is no rationale: an empty first segment, the problem as ever."""
    return Target(((), format.compose_target("", statement).segments[1]))


class PlainDataModule(ComposeDataModule):
    """For p(x | c): concepts in the prompt, the problem alone as target, whatever the rationale."""

    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        target = plain_target(self.format, annotation.problem.statement)
        return self.format.compose_prompt(annotation.problem), target


@dataclass(frozen=True)
class PlainHeldOut:
    """A recipe: log p(x | c) of the held-out problems, exact, for a p without rationales."""

    prompt_model: str
    corpus: Corpus
    engine: OpenEngine
    format: PromptFormat = field(default_factory=PromptFormat)

    def settings(self) -> dict[str, Any]:
        return {
            "recipe": "plain_held_out",
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "prompt_model": weights_fingerprint(self.prompt_model),
            "format": fingerprint(self.format.to_row()),
        }

    def make(self, making: Round) -> None:
        problems = with_concepts(making, read_corpus(self.corpus))
        requests = {
            key: ScoreRequest(
                self.format.compose_prompt(problem), plain_target(self.format, problem.statement)
            )
            for key, problem in problems.items()
        }
        with lazily(self.engine, self.prompt_model) as engine:
            rewards = score(making, "rewards", engine, requests)
        for key, reward in rewards.items():
            making.append(ROWS, key, {"id": problems[key].id, **asdict(reward)})


def plain_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of ``PlainHeldOut``'s rows; log p(x | c) is exact."""
    return {
        "problems": len(rows),
        "nll": negative(rows, "log_problem", "problem_tokens"),
        "values": {row["id"]: -row["log_problem"] for row in rows},
    }


def rationale_figures(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of ``HeldOut``'s rows."""
    figures = held_out_figures(rows)
    return {
        "problems": len(rows),
        "nll": negative(rows, "bound", "problem_tokens"),
        "nll_given_rationale": negative(rows, "log_problem", "problem_tokens"),
        "nll_given_own_rationale": negative(rows, "own_log_problem", "problem_tokens"),
        "rationale_nll": negative(rows, "log_rationale", "rationale_tokens"),
        **{name: getattr(figures, name) for name in OF_FIGURES},
        "values": {row["id"]: -row["bound"] for row in rows if row["bound"] is not None},
    }


OF_FIGURES = (
    "effective_samples",
    "overlap",
    "longest_run",
    "rationale_tokens",
    "parse_rate",
    "compose_parse_rate",
)


def negative(rows: Sequence[Row], name: str, tokens: str) -> dict[str, float] | None:
    """Means of minus a log-probability over the problems that have it, with standard errors.

    The mean per token is a ratio of two sums; its error is that of the linearised ratio.
    """
    pairs = [(-row[name], row[tokens]) for row in rows if row[name] is not None]
    if not pairs:
        return None
    ratio = math.fsum(value for value, _ in pairs) / sum(count for _, count in pairs)
    mean_tokens = fmean(count for _, count in pairs)
    residuals = [(value - ratio * count) / mean_tokens for value, count in pairs]
    return {
        "problems": len(pairs),
        "per_problem": fmean(value for value, _ in pairs),
        "per_problem_error": standard_error([value for value, _ in pairs]),
        "per_token": ratio,
        "per_token_error": standard_error(residuals),
    }
