"""Alarms of self-play: rounds are watched for signs of collapse, and something is done about it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.refresh import FOLDER, RefreshTrainingSet
from datamodules.figures import log_figures
from promptcot.best_weights import BestWeights
from promptcot.collapse import (
    PASS_RATE,
    CollapseLimits,
    Judged,
    RoundFigures,
    alarms,
    judge_rounds,
)
from promptcot.ranks import on_rank_0
from promptcot.recipes.making import Hardening, PolicyRecipe
from promptcot.store import MANIFEST, read_json, read_manifest, read_round, write_json

ATTEMPTS = "attempts"
"""Stage of a round that counts the attempts at each problem."""
CHOSEN_LOGGED = "dpo/chosen_log_ratio"
"""Mean over the chosen tokens of an optimizer step of log policy - log reference, as the module
logs it."""
BEST = "best"
STOPPED = "stopped.json"

log = logging.getLogger(__name__)


class CollapseAlarms(Callback):
    """Compares each round with the one before and raises an alarm where self-play collapses.

    Before each round is trained on, its manifest's figures, its ``attempts`` and the chosen
    solutions' log-probability at the end of the training before it are held against the limits;
    what they do not tell is not judged. Every alarm is a sentence in the log, and every limit that
    could be judged a 0 or 1 in TensorBoard, ``alarms/...``. All is decided from files in the folder
    of rounds, so that all ranks, and a fit that was resumed, decide the same.

    The training's log-probability is read from ``dpo/chosen_log_ratio``, if the module logs it: the
    mean over the last epoch of each round.

    Args:
        limits: Of what is watched.
        action: What else an alarm does. ``raise_difficulty``: later rounds are made by a harder
            recipe, one step for each round with an alarm; a round that is harder than the one
            before is only judged by itself. ``stop``: the fit ends before it trains on that round,
            and the weights that made the round with the largest pass rate are kept in
            ``<default_root_dir>/rounds/best``; the same command then says so and ends at once.
    """

    def __init__(
        self,
        limits: CollapseLimits | None = None,
        action: Literal["warn", "raise_difficulty", "stop"] = "warn",
    ) -> None:
        self.limits = limits or CollapseLimits()
        self.action = action
        self._round = 0
        self._reported = -1
        self._has_begun = self._stops = False
        self._total, self._steps = 0.0, 0
        self._read: dict[Path, RoundFigures] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        self._has_begun = self._stops = False
        self._read.clear()
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        refreshing = [c for c in callbacks if isinstance(c, RefreshTrainingSet)]
        if not refreshing:
            raise ValueError(
                "CollapseAlarms watches rounds that are made in the fit, but none are: add "
                "RefreshTrainingSet to trainer.callbacks, or take CollapseAlarms out"
            )
        recipe = refreshing[0].recipe
        if self.action == "raise_difficulty" and not isinstance(recipe, Hardening):
            raise ValueError(
                "action=raise_difficulty needs a recipe that can be made harder, which "
                f"{type(recipe).__name__} cannot: set action to warn or stop"
            )
        if self.action == "stop" and (trainer.min_epochs or trainer.min_steps):
            raise ValueError(
                f"action=stop cannot end a fit before trainer.min_epochs={trainer.min_epochs} "
                f"and trainer.min_steps={trainer.min_steps}: leave both out"
            )

    def adapt(self, recipe: PolicyRecipe, rounds: Path, number: int) -> PolicyRecipe:
        """A harder recipe, where earlier rounds had alarms and that is the action."""
        if self.action != "raise_difficulty":
            return recipe
        steps = sum(bool(alarms(judged)) for judged in self._judged(rounds, number - 1))
        if not steps:
            return recipe
        assert isinstance(recipe, Hardening)
        log.warning("round %d is made by a recipe that is harder by %d", number, steps)
        whole = [rounds / f"round-{earlier}" for earlier in range(number)]
        return recipe.harder(steps, [folder for folder in whole if (folder / MANIFEST).exists()])

    def observe(self, trainer: Trainer, folder: Path, weights: Path, number: int) -> None:
        """Judge the round; tell of its alarms, keep the best weights and stop if it is to be."""
        if self.action == "stop" and not self._has_begun:
            self._refuse_to_begin_anew(trainer, folder.parent)
        self._has_begun = True
        self._round = number
        judged = self._judged(folder.parent, number)[number]
        if trainer.is_global_zero and self._reported < number:
            log_figures(trainer, "alarms", {n: int(a is not None) for n, a in judged.items()})
            for alarm in alarms(judged):
                log.warning("round %d: %s", number, alarm)
        self._reported = number
        if self.action == "stop":
            self._keep_or_stop(trainer, folder, weights, judged)

    def _keep_or_stop(self, trainer: Trainer, folder: Path, weights: Path, judged: Judged) -> None:
        best = BestWeights(folder.with_name(BEST))
        pass_rate = self._figures(folder).figures.get(PASS_RATE)

        def keep() -> None:
            if pass_rate is not None:
                best.offer(weights, self._round, pass_rate)

        on_rank_0("the best weights were not kept", keep)
        if not alarms(judged):
            return
        self._stops = trainer.should_stop = True
        if trainer.is_global_zero:
            write_json(folder.with_name(STOPPED), {"round": self._round})
            log.warning("the fit ends before it trains on round %d; %s", self._round, best)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._stops:
            # should_stop alone would count this epoch as trained; this leaves the loop of epochs
            raise StopIteration
        self._total, self._steps = 0.0, 0

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        value = trainer.callback_metrics.get(CHOSEN_LOGGED)
        if value is not None and (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._total += float(value)
            self._steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._steps and trainer.is_global_zero:
            path = _trained(Path(trainer.default_root_dir) / FOLDER, self._round)
            write_json(path, {"chosen_log_ratio": self._total / self._steps})

    def state_dict(self) -> dict[str, Any]:
        return {"reported": self._reported, "total": self._total, "steps": self._steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._reported = state_dict["reported"]
        self._total, self._steps = state_dict["total"], state_dict["steps"]

    def _refuse_to_begin_anew(self, trainer: Trainer, rounds: Path) -> None:
        """A fit that stopped and whose progress is gone would train as if it had not.

        Only where data are loaded does the trainer say whether it goes on from a checkpoint.
        """
        has_stopped = trainer.strategy.broadcast((rounds / STOPPED).exists())
        if trainer.ckpt_path is not None or not has_stopped:
            return
        number = int(read_json(rounds / STOPPED)["round"])
        found = alarms(self._judged(rounds, number)[number])
        if found:  # else the limits are others now
            raise ValueError(
                f"the fit in {rounds.parent} ended before it trained on round {number}, because "
                f"{'; '.join(map(str, found))}. {BestWeights(rounds / BEST)}. To train all the "
                "same, raise CollapseAlarms' limits, set its action to warn, or name another folder"
            )

    def _judged(self, rounds: Path, last: int) -> list[Judged]:
        """All rounds up to the last."""
        watched = [self._figures(rounds / f"round-{number}") for number in range(last + 1)]
        return judge_rounds(self.limits, watched, hardened=self.action == "raise_difficulty")

    def _figures(self, folder: Path) -> RoundFigures:
        if folder not in self._read:  # what is whole does not change
            self._read[folder] = _read_figures(folder)
        return self._read[folder]


def _read_figures(folder: Path) -> RoundFigures:
    """Of a whole round; of one that was removed, nothing."""
    if not (folder / MANIFEST).exists():
        return RoundFigures()
    manifest = read_manifest(folder)
    numbers = {n: v for n, v in manifest["figures"].items() if isinstance(v, int | float)}
    rows = read_round(folder, ATTEMPTS) if ATTEMPTS in manifest["sha256"] else []
    rates = {row["id"]: row["passed"] / row["attempts"] for row in rows if row["attempts"]}
    before = _trained(folder.parent, int(folder.name.removeprefix("round-")) - 1)
    chosen = read_json(before)["chosen_log_ratio"] if before.exists() else None
    return RoundFigures(numbers, rates, chosen)


def _trained(rounds: Path, number: int) -> Path:
    """What the training on a round came to."""
    return rounds / f"trained-{number}.json"
