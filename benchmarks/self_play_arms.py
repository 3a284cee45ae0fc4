"""The arms of the self-play experiment as configurations of ``cli.py fit``.

Each arm is the project's own configuration files and one more that says what differs; it is written
beside what the fit makes. To add an arm, write a function of ``Settings``, ``Machine`` and seed,
and give it a line in ``ARMS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from promptcot.protocols import OpenEngine

Config = dict[str, Any]
GIB = 1 << 30
RARELY = 1_000_000
"""Steps between two checkpoints, so that only the end of an epoch has one."""
FORMS = ("boxed",)
"""Forms of answers that count: the one that the warm-up teaches and the recount knows."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that decides the figures; machines and engines do not."""

    weights: str
    problem_seed: int
    levels: list[float]
    size: float
    num_train: int
    num_held_out: int
    num_warm_up: int
    warm_up_lr: float
    warm_up_batch_size: int
    warm_up_epochs: int
    rounds: int
    epochs: int
    num_samples: int
    temperature: float
    max_tokens: int
    max_pass_rate: float
    max_pairs: int
    num_problems: int
    beta: float
    nll_weight: float
    lr: float
    batch_size: int
    sft_lr: float
    eval_samples: int
    eval_temperature: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What a run takes of the machine.

    Args:
        engine: ``vllm`` or ``hf``.
        gpu_share: vLLM's ``gpu_memory_utilization`` for a seed.
        kv_gib: vLLM's cache; 0 for what it finds free, which is wrong where others take memory at
            the same time.
        cuda_graphs: vLLM starts later and samples faster.
        hf_batch_size: Of the engine ``hf``.
        precision: Of the fits, as Lightning's trainer takes it.
        accelerator: Likewise.
        accumulate: Micro-batches of an optimizer step.
    """

    engine: str
    gpu_share: float
    kv_gib: float
    cuda_graphs: bool
    hf_batch_size: int
    precision: str
    accelerator: str
    accumulate: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A call of ``cli.py fit``: configuration files of the project, and what differs."""

    configs: tuple[str, ...]
    own: Config


def warm_up(settings: Settings, machine: Machine, seed: int, folder: Path) -> Fit:
    """Supervised fine-tuning on the programmed solutions of problems of their own."""
    corpus = {"path": str(folder.parent.parent / "problems" / "warm_up.jsonl")}
    module = sft_module(settings.weights, settings.warm_up_lr)
    rows = {"corpus": corpus, "batch_size": settings.warm_up_batch_size}
    data = data_module("SolutionDataModule", settings.weights, seed, rows)
    own = fit_config(machine, seed, folder, settings.warm_up_epochs, [save_progress()])
    return Fit(("configs/sft.yaml",), {**own, "model": module, "data": data})


def self_play(settings: Settings, machine: Machine, seed: int, folder: Path) -> Fit:
    """DPO on pairs of verified rollouts."""
    return pairs_fit("promptcot.recipes.SelfPlay", settings, machine, seed, folder)


def shuffled(settings: Settings, machine: Machine, seed: int, folder: Path) -> Fit:
    """The same, but a coin says which solution of a pair is chosen."""
    recipe = "benchmarks.self_play_parts.ShuffledSelfPlay"
    return pairs_fit(recipe, settings, machine, seed, folder)


def sft_right(settings: Settings, machine: Machine, seed: int, folder: Path) -> Fit:
    """Supervised fine-tuning on the right solutions of those pairs, made anew each round."""
    weights = warm_weights(folder)
    recipe = "benchmarks.self_play_parts.RightSolutions"
    rows = {"batch_size": settings.batch_size}
    data = data_module("SolutionDataModule", weights, seed, rows)
    own = refreshed_config(recipe, settings, machine, seed, folder)
    own |= {"model": sft_module(weights, settings.sft_lr), "data": data}
    return Fit(("configs/sft.yaml", "configs/refresh/self_play.yaml"), own)


Arm = Callable[[Settings, Machine, int, Path], Fit]
ARMS: Mapping[str, Arm] = {"self_play": self_play, "shuffled": shuffled, "sft_right": sft_right}


def pairs_fit(recipe: str, settings: Settings, machine: Machine, seed: int, folder: Path) -> Fit:
    """DPO with rounds that a recipe makes."""
    weights = warm_weights(folder)
    preference = {"beta": settings.beta, "nll_weight": settings.nll_weight}
    arguments = {"weights": weights, "preference": preference, "optimizer": adamw(settings.lr)}
    rows = {"batch_size": settings.batch_size}
    own = refreshed_config(recipe, settings, machine, seed, folder)
    own |= {
        "model": {"class_path": "modules.DPOModule", "init_args": arguments},
        "data": data_module("PairDataModule", weights, seed, rows),
    }
    return Fit(("configs/dpo.yaml", "configs/refresh/self_play.yaml"), own)


def refreshed_config(
    recipe: str, settings: Settings, machine: Machine, seed: int, folder: Path
) -> Config:
    """A fit with rounds of a recipe, whose weights are kept for the evaluation."""
    sampling = {
        "n": settings.num_samples,
        "temperature": settings.temperature,
        "max_tokens": settings.max_tokens,
    }
    arguments = {
        "verifier": {"class_path": "verify.ByDomain", "init_args": {"forms": list(FORMS)}},
        "corpus": {"path": str(folder.parent.parent / "problems" / "train.jsonl")},
        "sampling": sampling,
        "max_pass_rate": settings.max_pass_rate,
        "max_pairs": settings.max_pairs,
        "num_problems": settings.num_problems,
        "engine": {
            "class_path": "promptcot.engines.KeptEngine",
            "init_args": {"engine": engine_config(machine, sleeps=True)},
        },
        "seed": 1000 * seed,  # a round adds its number
    }
    period = {"every_n_epochs": settings.epochs}
    made = {**period, "recipe": {"class_path": recipe, "init_args": arguments}}
    callbacks = [
        {"class_path": "benchmarks.self_play_parts.KeepWeights", "init_args": period},
        save_progress(),
        {"class_path": "callbacks.RefreshTrainingSet", "init_args": made},
    ]
    return fit_config(machine, seed, folder, settings.rounds * settings.epochs, callbacks)


def fit_config(
    machine: Machine, seed: int, folder: Path, epochs: int, callbacks: list[Config]
) -> Config:
    """Of trainer and seed."""
    trainer = {
        "max_epochs": epochs,
        "accelerator": machine.accelerator,
        "devices": 1,
        "precision": machine.precision,
        "accumulate_grad_batches": machine.accumulate,
        "enable_progress_bar": False,
        "default_root_dir": str(folder),
        "callbacks": callbacks,
    }
    return {"seed_everything": seed, "trainer": trainer}


def engine_config(machine: Machine, *, sleeps: bool) -> Config:
    """The engine of the policy, as YAML names it.

    Args:
        machine: What to take of it.
        sleeps: Whether a trainer needs the same GPU's memory in between.
    """
    if machine.engine == "hf":
        arguments: Config = {"chat": True, "batch_size": machine.hf_batch_size}
        return {"class_path": "promptcot.engines.HFEngine", "init_args": arguments}
    options: Config = {"max_model_len": 1024}
    if machine.kv_gib:
        options["kv_cache_memory_bytes"] = int(machine.kv_gib * GIB)
    arguments = {
        "chat": True,
        "sleeps": sleeps,
        "gpu_memory_utilization": machine.gpu_share,
        "enforce_eager": not machine.cuda_graphs,
        "options": options,
    }
    return {"class_path": "promptcot.engines.VLLMEngine", "init_args": arguments}


def open_engine(machine: Machine) -> OpenEngine:
    """The same engine for use in this process, opened once for all weights."""
    from functools import partial

    from promptcot import engines

    config = engine_config(machine, sleeps=False)
    kind = getattr(engines, config["class_path"].rpartition(".")[2])
    kept: OpenEngine = engines.KeptEngine(engine=partial(kind, **config["init_args"]))
    return kept


def sft_module(weights: str, lr: float) -> Config:
    """Of supervised fine-tuning."""
    arguments = {"weights": weights, "optimizer": adamw(lr)}
    return {"class_path": "modules.SFTModule", "init_args": arguments}


def data_module(name: str, weights: str, seed: int, rows: Config) -> Config:
    """A data module."""
    arguments = {"weights": weights, "seed": seed, **rows}
    return {"class_path": f"datamodules.{name}", "init_args": arguments}


def adamw(lr: float) -> Config:
    """The optimizer; what else it takes the project's files say."""
    return {"class_path": "torch.optim.AdamW", "init_args": {"lr": lr, "weight_decay": 0.0}}


def save_progress() -> Config:
    """A checkpoint at the end of each epoch."""
    return {"class_path": "callbacks.SaveProgress", "init_args": {"every_n_steps": RARELY}}


def warm_weights(folder: Path) -> str:
    """The weights that the arms of the folder's seed start from."""
    return str(folder.parent / "warm_up" / "weights")
