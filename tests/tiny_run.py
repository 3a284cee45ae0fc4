"""A run of ``em`` that is over in a minute: a model of two layers, prompts of a few characters."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tiny import save_tiny_model

CHECKOUT = Path(__file__).parents[1]
FITS = ("cold_start_q", "cold_start_p", "e_step", "m_step")
FORMAT = {"rationale_tags": ["<z>", "</z>"], "problem_tags": ["<x>", "</x>"]}
FIT = {
    "model": {
        "init_args": {
            "optimizer": {
                "class_path": "torch.optim.AdamW",
                "init_args": {"lr": 1e-2, "weight_decay": 0.0},
            },
        }
    },
    "data": {"init_args": {"batch_size": 4}},
    "trainer": {
        "accelerator": "cpu",
        "precision": "32-true",
        "accumulate_grad_batches": 2,
        "max_epochs": 30,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
    },
}
SAVE_EACH_STEP = {
    "trainer": {
        "callbacks": [
            {"class_path": "callbacks.ExportWeights"},
            {"class_path": "callbacks.SaveProgress", "init_args": {"every_n_steps": 1}},
        ]
    }
}


def rows(count: int = 12, step: int = 1) -> list[dict[str, Any]]:
    """Annotated problems of a few characters each; the larger the step, the more lie between."""
    return [
        {
            "id": f"r{number}",
            "statement": f"sum {number * step}?",
            "concepts": [f"c{number % 5}", f"d{number % 4}"],
            "rationale": f"by {number % 3}",
        }
        for number in range(count)
    ]


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_run(folder: Path, **changes: Any) -> Path:
    """Model, corpus and configuration of a run in ``folder``; returns the configuration's file."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tiny_model(folder / "model")
    templates = folder / "templates"
    templates.mkdir(exist_ok=True)
    for name in ("compose_math", "compose_code"):
        (templates / f"{name}.txt").write_text("$concepts\n$level\n")
    (templates / "infer_rationale.txt").write_text("$concepts\n$level\n$statement\n")
    (folder / "fit.yaml").write_text(yaml.safe_dump(FIT))
    (folder / "save.yaml").write_text(yaml.safe_dump(SAVE_EACH_STEP))
    sampling = {"max_tokens": 24}
    settings = {
        "folder": str(folder / "run"),
        "corpus": {"path": str(write_jsonl(folder / "rows.jsonl", rows(step=37)))},
        "weights": str(folder / "model"),
        "held_out": 0.25,
        "rounds": 1,
        "min_improvement": -100.0,
        "engine": {
            "class_path": "promptcot.engines.HFEngine",
            "init_args": {"dtype": "float32", "device": "cpu", "batch_size": 3},
        },
        "format": {**FORMAT, "templates": str(templates)},
        "fits": {name: [f"configs/{name}.yaml", str(folder / "fit.yaml")] for name in FITS},
        "e_step": {"sampling": {"n": 3, **sampling}},
        "m_step": {"sampling": {"temperature": 0.0, **sampling}},
        "evaluation": {"num_samples": 3, "max_tokens": 24, "compose_max_tokens": 60},
        "compose": {"num_sets": 24, "num_concepts": 2, "sampling": {"n": 3, "max_tokens": 60}},
        **changes,
    }
    path = folder / "em.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def command(*arguments: str) -> list[str]:
    """A command of ``cli.py``."""
    return [sys.executable, str(CHECKOUT / "cli.py"), *arguments]


def files_of(run: Path) -> Mapping[str, Any]:
    """What a run left: rows of every round by key, figures, and the bytes of all weights."""
    found: dict[str, Any] = {}
    for path in sorted(run.rglob("*.jsonl")):
        if path.name in ("rows.jsonl", "train.jsonl", "held_out.jsonl", "all.jsonl"):
            lines = path.read_text().splitlines()
            found[str(path.relative_to(run))] = {
                (r := json.loads(line))["key"]: r for line in lines
            }
    for path in sorted(run.rglob("*.safetensors")):
        found[str(path.relative_to(run))] = path.read_bytes()
    found["figures"] = json.loads((run / "figures.json").read_text())
    return found
