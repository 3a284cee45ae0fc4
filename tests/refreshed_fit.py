"""Fits of the tiny model whose training set is refreshed, run as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked
import yaml
from safetensors.torch import load_file
from tiny import save_tiny_model
from tiny_run import CHECKOUT, FIT, FORMAT, rows, write_jsonl
from torch import Tensor

EPOCHS = 3
SHARDED = ("--trainer.strategy", "fsdp2", "--trainer.devices", "2")


def write_start(folder: Path) -> Path:
    """A rationale model that writes rationales, the prompt model, and the corpus."""
    save_tiny_model(folder / "p")
    write_jsonl(folder / "rows.jsonl", rows(8))
    overlay = folder / "cold.yaml"
    overlay.write_text(yaml.safe_dump(FIT))
    given = [*data_flags(folder / "p", folder), "--config", str(overlay)]
    given += ["--data.corpus.path", str(folder / "rows.jsonl")]
    ended = fit(["--config", "configs/cold_start_q.yaml", *given], folder / "q")
    assert ended.returncode == 0, ended.stderr
    return folder


def data_flags(weights: Path, folder: Path) -> list[str]:
    """Of what a fit starts from, and how its prompts are worded."""
    return [
        *("--model.weights", str(weights), "--data.weights", str(weights)),
        *("--data.format", json.dumps(FORMAT)),
    ]


def arguments(
    start: Path,
    *more: str,
    max_tokens: int = 24,
    policy_gradient: bool = False,
    engine: str = "promptcot.engines.HFEngine",
) -> list[str]:
    """Of a fit whose training set is refreshed before every epoch.

    Args:
        start: What ``write_start`` wrote.
        more: Further arguments.
        max_tokens: Of a rationale.
        policy_gradient: Refresh before every second epoch, learn by a policy gradient.
        engine: Class of the engine.
    """
    recipe: dict[str, Any] = {
        "class_path": "promptcot.recipes.Rationales",
        "init_args": {
            "prompt_model": str(start / "p"),
            "corpus": {"path": str(start / "rows.jsonl")},
            "sampling": {"n": 2, "temperature": 0.5, "max_tokens": max_tokens},
            "format": FORMAT,
            "engine": {
                "class_path": engine,
                "init_args": {"dtype": "float32", "device": "cpu"},
            },
        },
    }
    # float32 on both sides: trainer and engine agree closely, or the fit ends
    refresh: dict[str, Any] = {"recipe": recipe, "max_difference": 1e-3}
    settings: dict[str, Any] = {**FIT, "trainer": {**FIT["trainer"]}}
    settings["trainer"] |= {"max_epochs": EPOCHS, "accumulate_grad_batches": 1}
    if policy_gradient:
        recipe["class_path"] = "promptcot.recipes.Rollouts"
        recipe["init_args"]["sampling"] = {"n": 4, "max_tokens": max_tokens}
        recipe["init_args"]["reference_model"] = str(start / "q" / "weights")
        refresh["every_n_epochs"] = 2
        optimizer = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}}
        settings["model"] = {
            "init_args": {"optimizer": optimizer, "estimator": {"kl_coefficient": 0.05}}
        }
        settings["data"] = {"init_args": {"batch_size": 8}}
        settings["trainer"] |= {"max_epochs": 4, "logger": True}
    settings["trainer"]["callbacks"] = [
        {"class_path": "callbacks.SaveProgress", "init_args": {"every_n_steps": 1}},
        {"class_path": "callbacks.RefreshTrainingSet", "init_args": refresh},
    ]
    name = "policy_gradient" if policy_gradient else "e_step"
    overlay = start / f"{name}-{max_tokens}-{engine}.yaml"
    overlay.write_text(yaml.safe_dump(settings))
    configs = ("configs/e_step.yaml", f"configs/refresh/{name}.yaml", str(overlay))
    named = [part for config in configs for part in ("--config", config)]
    return [*named, *data_flags(start / "q" / "weights", start), *more]


def command(given: list[str], folder: Path) -> list[str]:
    """A fit's command line."""
    return [sys.executable, "cli.py", "fit", *given, "--trainer.default_root_dir", str(folder)]


ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(CHECKOUT / "tests"),  # for cpu_deepspeed
    "DS_ACCELERATOR": "cpu",
}


def fit(given: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a fit to its end."""
    return forked.run(command(given, folder)[2:], ENVIRONMENT, ranks=ranks_of(given))


def killed_at(moment: Path, given: list[str], folder: Path) -> None:
    """Start a fit and kill all of its processes as soon as a file is there."""
    forked.killed_when(moment, command(given, folder)[2:], ENVIRONMENT, ranks_of(given))


def ranks_of(given: list[str]) -> int:
    """Of a fit with these arguments."""
    return int(given[given.index("--trainer.devices") + 1]) if "--trainer.devices" in given else 1


def weights(folder: Path) -> dict[str, Tensor]:
    """What a fit exported, a model or an adapter."""
    [file] = (folder / "weights").glob("*model.safetensors")
    return load_file(file)
