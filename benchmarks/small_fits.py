"""Refreshed fits of the embedded model: E-step, policy gradient, self-play, any strategy."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from gpu_jobs import GIB, Config, Job, adamw, scalars

RARELY = 1_000_000
KINDS: dict[str, tuple[str, ...]] = {
    "e_step": ("configs/e_step.yaml", "configs/refresh/e_step.yaml"),
    "policy_gradient": ("configs/e_step.yaml", "configs/refresh/policy_gradient.yaml"),
    "dpo": ("configs/dpo.yaml", "configs/refresh/self_play.yaml"),
}
LOSS = {"e_step": "e_step/loss", "policy_gradient": "e_step/loss", "dpo": "dpo/loss"}


def refreshed(  # noqa: PLR0913
    given: argparse.Namespace,
    kind: str,
    strategy: str,
    count: int,
    *,
    period: int,
    engine: Config | None = None,
    problems: int = 16,
) -> Config:
    """A fit of two epochs with rounds.

    Args:
        given: Of the command.
        kind: Of ``KINDS``.
        strategy: By its flag.
        count: GPUs of the trainer.
        period: Epochs on a round.
        engine: Arguments of vLLM that differ.
        problems: Of a round, at most.
    """
    self_play = kind == "dpo"
    weights = str(given.folder / "warm" / "weights") if self_play else given.weights
    corpus: Config = {"path": "bundled", "only": {"domain": "math"}, "limit": problems}
    if self_play:
        corpus = {"path": str(given.folder / "problems" / "train.jsonl"), "limit": 4 * problems}
    recipe: Config = {
        "corpus": corpus,
        "sampling": {"n": 8 if self_play else 4, "max_tokens": 96 if self_play else 200},
        "engine": {"class_path": "promptcot.engines.KeptEngine", "init_args": {}},
    }
    recipe["engine"]["init_args"]["engine"] = vllm(given, chat=self_play, more=engine or {})
    if self_play:
        recipe["sampling"]["temperature"] = 1.0
        recipe["max_pass_rate"] = 1.0
        verifier = {"forms": ["boxed"], "num_workers": 2}
        recipe["verifier"] = {"class_path": "verify.ByDomain", "init_args": verifier}
    else:
        recipe["prompt_model"] = given.weights
    # above the default: the trainer's float32 against vLLM's bfloat16
    refresh: Config = {"every_n_epochs": period, "recipe": {"init_args": recipe}}
    names = {"e_step": "Rationales", "policy_gradient": "Rollouts", "dpo": "SelfPlay"}
    refresh["recipe"]["class_path"] = f"promptcot.recipes.{names[kind]}"
    callbacks = [rarely(), {"class_path": "callbacks.RefreshTrainingSet", "init_args": refresh}]
    rows: Config = {"weights": weights, "batch_size": 16}
    return {
        "model": {"init_args": {"weights": weights, "optimizer": adamw(1e-5)}},
        "data": {"init_args": rows},
        "trainer": {**trainer_of(given, strategy, count), "max_epochs": 2, "callbacks": callbacks},
    }


def trainer_of(given: argparse.Namespace, strategy: str, count: int) -> Config:
    """Devices, strategy, and as many micro-batches of a step over all of them as ever: four."""
    return {
        "accelerator": "cpu" if given.cpu else "gpu",
        "devices": count,
        "strategy": strategy,
        "accumulate_grad_batches": 4 // count,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }


def vllm(given: argparse.Namespace, *, chat: bool, more: Config) -> Config:
    """An engine whose memory does not depend on who else is on its GPU."""
    if given.cpu:
        return {"class_path": "promptcot.engines.HFEngine", "init_args": {"chat": chat}}
    options = {"max_model_len": 1024, "kv_cache_memory_bytes": 2 * GIB}
    arguments: Config = {
        "chat": chat,
        "sleeps": True,
        "gpu_memory_utilization": 0.1,
        "options": options,
        **more,
    }
    return {"class_path": "promptcot.engines.VLLMEngine", "init_args": arguments}


def described(what: str, name: str, job: Job, seconds: dict[str, float]) -> dict[str, Any]:
    """What a refreshed fit logged."""
    kind = next(kind for kind, configs in KINDS.items() if configs == job.configs)
    rounds = sorted(job.folder.glob("rounds/round-?/rows.jsonl"))
    return {
        "what": what,
        "fit": name,
        "seconds": seconds.get(name),
        "losses": scalars(job.folder, LOSS[kind]),
        "rows": [len(path.read_text().splitlines()) for path in rounds],
        "round_hash": [hash_of(path) for path in rounds],
        "make_s": scalars(job.folder, "round/make_s"),
        "export_s": scalars(job.folder, "round/export_s"),
        "sampler_difference": scalars(job.folder, "sampler/mean_abs_difference"),
        "peak_gib": max(scalars(job.folder, "throughput/peak_gib"), default=None),
    }


def rarely() -> Config:
    """A checkpoint at the end of each epoch alone."""
    return {"class_path": "callbacks.SaveProgress", "init_args": {"every_n_steps": RARELY}}


def hash_of(path: Path) -> str:
    """Of a file, short."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]
