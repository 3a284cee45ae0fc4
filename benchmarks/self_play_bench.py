"""One seed of the self-play experiment: its folder, its fits and its evaluations.

Every step is made once, so a run that was cut off goes on where it was: fits by their own
checkpoints and rounds, evaluations by the rows on disk. A row of ``steps.jsonl`` tells of every
process that made a step, or a part of one, how long it took.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from seeds import keep_to
from self_play_arms import ARMS, FORMS, Fit, Machine, Settings, open_engine, warm_up

from promptcot.children import PARENT
from promptcot.corpora import Corpus
from promptcot.engines import EngineKeeper
from promptcot.protocols import OpenEngine, Sampling
from promptcot.recipes import Evaluate, make_round
from promptcot.store import MANIFEST
from verify import ByDomain

WARM_UP = "warm_up"
DECIDES_PROBLEMS = ("problem_seed", "levels", "size", "num_train", "num_held_out", "num_warm_up")


class Bench:
    """What is made of one seed.

    Args:
        folder: Of the whole run; the problems are in its ``problems``.
        settings: Of the whole run.
        machine: What to make it with.
        seed: Of the orders and of all sampling.
    """

    def __init__(self, folder: Path, settings: Settings, machine: Machine, seed: int) -> None:
        self.root, self.folder = folder, folder / f"seed-{seed}"
        self.settings, self.machine, self.seed = settings, machine, seed
        self.started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        keep_to(self.folder / "settings.json", asdict(settings))

    def warm_up(self) -> None:
        """The model that all arms start from."""
        self._fit(WARM_UP, warm_up)

    def train(self, arm: str) -> None:
        """The fit of an arm, with all its rounds."""
        if not (self.folder / WARM_UP / "weights").exists():
            raise FileNotFoundError(f"{self.folder} has no warm-up model: `prepare` comes first")
        self._fit(arm, ARMS[arm])

    def evaluate(self, arms: Sequence[str]) -> None:
        """The warm-up model and the policies of arms, where not yet done, on held-out problems."""
        policies = self._policies(arms)
        waiting = [(name, weights) for name, weights in policies if not self._is_done(name)]
        if not waiting:
            return
        engine = open_engine(self.machine)
        try:
            for name, weights in waiting:
                with self._step(f"evaluate {name}", ["evaluate", str(weights)]):
                    figures = self._evaluate(name, weights, engine)
                self.say(f"{name}: pass@1 {figures['pass_at_1']:.4f}")
        finally:
            if isinstance(engine, EngineKeeper):
                engine.close()
        for name in arms:
            if self._is_done(f"{name}/round-{self.settings.rounds}"):
                shutil.rmtree(self.folder / name / "kept", ignore_errors=True)

    def say(self, text: str) -> None:
        """A line of progress."""
        passed = time.monotonic() - self.started
        sys.stderr.write(f"[seed {self.seed} {passed:6.0f} s] {text}\n")

    def _policies(self, arms: Sequence[str]) -> Iterator[tuple[str, Path]]:
        """Name of the evaluation and folder of the weights."""
        if (self.folder / WARM_UP / "weights").exists():
            yield WARM_UP, self.folder / WARM_UP / "weights"
        for arm in arms:
            kept = {path.name: path for path in (self.folder / arm / "kept").glob("round-*")}
            whole = [name for name in sorted(kept) if not name.endswith(".partial")]
            yield from ((f"{arm}/{name}", kept[name]) for name in whole)
            if (self.folder / arm / "weights").exists():
                yield f"{arm}/round-{self.settings.rounds}", self.folder / arm / "weights"

    def _is_done(self, name: str) -> bool:
        return (self.folder / "evaluations" / name / MANIFEST).exists()

    def _evaluate(self, name: str, weights: Path, engine: OpenEngine) -> dict[str, Any]:
        """As ``cli.py make evaluate``, with an engine that stays open for the next weights."""
        settings = self.settings
        recipe = Evaluate(
            verifier=partial(ByDomain, forms=FORMS),
            policy=str(weights),
            corpus=Corpus(str(self.root / "problems" / "held_out.jsonl")),
            sampling=Sampling(
                settings.eval_samples, settings.eval_temperature, max_tokens=settings.max_tokens
            ),
            engine=engine,
            seed=self.seed,
        )
        figures: dict[str, Any] = make_round(recipe, self.folder / "evaluations" / name)["figures"]
        return figures

    def _fit(self, name: str, arm: Callable[[Settings, Machine, int, Path], Fit]) -> None:
        folder = self.folder / name
        if (folder / "weights").exists():
            return
        fit = arm(self.settings, self.machine, self.seed, folder)
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / "arm.yaml"
        own.write_text(yaml.safe_dump(fit.own, sort_keys=False), encoding="utf-8")
        command = ["cli.py", "fit"]
        for config in (*fit.configs, str(own)):
            command += ["--config", config]
        with self._step(f"fit {name}", command):
            run(command, folder / "fit.log")
        self.say(f"{name}: trained")

    @contextmanager
    def _step(self, name: str, command: list[str]) -> Iterator[None]:
        start, row = time.monotonic(), {"step": name, "command": " ".join(command)}
        whole = False
        try:
            yield
            whole = True
        finally:
            seconds = round(time.monotonic() - start, 1)
            with open(self.folder / "steps.jsonl", "a", encoding="utf-8") as file:
                file.write(json.dumps({**row, "whole": whole, "seconds": seconds}) + "\n")


def run(command: list[str], log: Path) -> None:
    """Run one of the project's commands; what it says goes to the end of a file.

    Raises:
        ChildProcessError: It failed.
    """
    environment = {**os.environ, PARENT: str(os.getpid())}
    with open(log, "ab") as said:
        code = subprocess.run(
            [sys.executable, *command], env=environment, stdout=said, stderr=said, check=False
        ).returncode
    if code:
        last = log.read_text(encoding="utf-8", errors="replace")[-1500:]
        raise ChildProcessError(f"{' '.join(command)} ended with {code}; {log} ends with:\n{last}")
