"""What the arms of the EM figure share: the settings, one seed's folder, its engine and its fits.

Everything is made once: a fit whose weights are there and a round that is whole are not repeated,
so a run that was cut off goes on where it was.
"""

from __future__ import annotations

import gc
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from em_figure_engines import Machine, TwoEngines
from seeds import Clock, keep_to

from promptcot.columns import Columns
from promptcot.corpora import Corpus, read_corpus
from promptcot.fingerprints import weights_fingerprint
from promptcot.keyphrases import keyphrases
from promptcot.prompts import PromptFormat
from promptcot.protocols import (
    Engine,
    Sampling,
)
from promptcot.recipes import HeldOut, Rationales, Recipe, make_round
from promptcot.records import Annotation
from promptcot.split import statement_key
from promptcot.store import open_round, read_round

if TYPE_CHECKING:
    from datamodules.annotations import AnnotationDataModule
    from modules.base import LMModule


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides the figures of a run; machines and engines do not."""

    weights: str
    num_train: int
    num_held_out: int
    num_samples: int
    rounds: int
    bound_samples: int
    max_tokens: int
    compose_max_tokens: int
    batch_size: int
    lr: float
    pg_lr: float
    cold_batch_size: int
    cold_lr: float
    cold_epochs: int
    rationale_column: str

    @property
    def steps(self) -> int:
        """Optimizer steps of p in a round, the same in every arm."""
        return -(-self.num_train // self.batch_size)

    @property
    def cold_corpus(self) -> Corpus:
        """The bundled mathematics problems, which alone have brief rationales too."""
        columns = Columns(rationale=self.rationale_column)
        return Corpus(only={"domain": "math"}, columns=columns)


class Lab:
    """One seed's folder, and what is made in it.

    Args:
        folder: Of the whole run; the statements are in its ``seeds``.
        settings: Of the whole run.
        machine: What to make it with.
        seed: Of the orders and of all sampling.
    """

    def __init__(self, folder: Path, settings: Settings, machine: Machine, seed: int) -> None:
        self.folder = folder / f"seed-{seed}"
        self.settings, self.machine, self.seed = settings, machine, seed
        self.train, self.held_out = (
            Corpus(str(folder / "seeds" / f"{part}.jsonl")) for part in ("train", "held_out")
        )
        self.clock = Clock()
        self._early: threading.Thread | None = None
        # more rounds may follow later
        keep_to(
            self.folder / "settings.json",
            {k: v for k, v in asdict(settings).items() if k != "rounds"},
        )

    def open_early(self) -> None:
        """Start the sampling engine while something else is done."""
        if self.machine.open_early:
            opening = partial(self.machine.generator, self.settings.weights)
            self._early = threading.Thread(target=lambda: opening().close())
            self._early.start()

    def engine(self, weights: str) -> Engine:
        """The recipes' engine. As a function it leaves no trace in what makes a round."""
        if self._early is not None:
            with self.clock("open"):
                self._early.join()
            self._early = None
        return TwoEngines(weights, self.machine, self.clock)

    def make(self, name: str, recipe: Recipe) -> Path:
        """Make a round, unless it is there; returns its folder."""
        folder = self.folder / name
        make_round(recipe, folder)
        return folder

    def fit(self, name: str, module: LMModule, data: AnnotationDataModule, **length: int) -> str:
        """Train, unless it is done; returns the folder of the new weights.

        Args:
            name: Of the fit's folder.
            module: Holds the weights to start from.
            data: What to train on.
            **length: ``max_epochs`` or ``max_steps``.
        """
        from lightning.pytorch import Trainer

        from callbacks import ExportWeights

        folder = self.folder / name
        if (folder / "weights" / "config.json").exists():
            return str(folder / "weights")
        trainer = Trainer(
            **{"max_epochs": -1, **length},
            accelerator=self.machine.accelerator,
            devices=1,
            precision=self.machine.precision,
            accumulate_grad_batches=self.machine.accumulate,
            gradient_clip_val=1.0,
            default_root_dir=folder,
            callbacks=[ExportWeights()],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        with self.clock("fit"):
            trainer.fit(module, data)
        self.say(f"{name}: {trainer.global_step} steps")
        del trainer, module
        free_memory()
        return str(folder / "weights")

    def fit_q(self, name: str, weights: str, rows: Path, seed: int) -> str:
        """One epoch of maximum likelihood of the rationales in a round."""
        from datamodules import RationaleDataModule
        from modules import EStepModule

        data = RationaleDataModule(
            weights, Corpus(str(rows / "rows.jsonl")), self.settings.batch_size, seed=seed
        )
        module = EStepModule(weights, self.optimizer(self.settings.lr))
        return self.fit(name, module, data, max_epochs=1)

    def optimizer(self, lr: float) -> Any:  # noqa: ANN401
        """What a module calls with its parameters."""
        from torch.optim import AdamW

        return partial(AdamW, lr=lr, weight_decay=0.0)

    def rationales(self, q: str) -> Path:
        """The M-step's greedy rationales of q, once for the same weights."""
        recipe = Rationales(
            rationale_model=q,
            corpus=self.train,
            sampling=Sampling(temperature=0.0, max_tokens=self.settings.max_tokens),
            engine=self.engine,
            seed=self.seed,
        )
        return self.make(f"rationales/{weights_fingerprint(q)}", recipe)

    def evaluate(self, name: str, q: str, p: str) -> list[dict[str, Any]]:
        """The held-out rows of a pair; what q writes is asked once for the same weights."""
        recipe = HeldOut(
            rationale_model=q,
            prompt_model=p,
            corpus=self.held_out,
            num_samples=self.settings.bound_samples,
            max_tokens=self.settings.max_tokens,
            compose_max_tokens=self.settings.compose_max_tokens,
            engine=self.engine,
            seed=self.seed,
        )
        folder, shared = self.folder / name, self.folder / "proposals" / weights_fingerprint(q)
        begun = folder.with_name(folder.name + ".partial")
        if shared.exists() and not folder.exists() and not begun.exists():
            _copy_streams(shared, begun)
        self.make(name, recipe)
        if not shared.exists():
            _copy_streams(folder, shared)
        return read_round(folder)

    def say(self, text: str) -> None:
        """A line of progress."""
        passed = time.monotonic() - self.clock.start
        sys.stderr.write(f"[seed {self.seed} {passed:6.0f} s] {text}\n")


def _copy_streams(source: Path, target: Path) -> None:
    """What q wrote of a round, whole or not at all."""
    copying = target.with_name(target.name + ".copying")
    copying.mkdir(parents=True, exist_ok=True)
    for stage in ("greedy_rationales", "sampled_rationales"):
        shutil.copy(source / f"{stage}.jsonl", copying)
    copying.rename(target)


def prepare(folder: Path, settings: Settings, statements: Path) -> None:
    """Choose the statements and name their concepts, unless it is done.

    The order is that of a hash of the statement. Left out are statements with a picture's program
    or of more than 600 characters, repeated ones, and those without key phrases. The concepts are
    key phrases of the statement itself, and the rationale, which no arm uses, a form that names
    them, as by ``make annotate`` with ``engine: null``.
    """
    decided = {"num_train": settings.num_train, "num_held_out": settings.num_held_out}
    with open_round(folder / "seeds", decided) as making:
        if making is None:
            return
        for number, row in enumerate(_chosen(statements, sum(decided.values()))):
            part = "train" if number < settings.num_train else "held_out"
            making.append(part, row["id"], row)


def _chosen(statements: Path, count: int) -> Iterator[dict[str, Any]]:
    problems = {
        statement_key(problem.statement): problem
        for problem in read_corpus(Corpus(str(statements))).problems
        if "[asy]" not in problem.statement and len(problem.statement) <= LONGEST_STATEMENT
    }
    for key in sorted(problems, key=lambda key: sha256(key.encode()).digest()):
        concepts = keyphrases(problems[key].statement, NUM_CONCEPTS)
        if concepts and count:
            count -= 1
            problem = replace(problems[key], concepts=concepts)
            yield Annotation(problem, PromptFormat().plain_rationale(problem)).to_row()
        if not count:
            return
    raise ValueError(f"{statements} has {count} statements too few: lower --num-train")


LONGEST_STATEMENT = 600
NUM_CONCEPTS = 5


def free_memory() -> None:
    """What a fit held on the GPU is free for the engine."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):
            torch.cuda.empty_cache()
