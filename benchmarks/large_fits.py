"""Full fine-tuning of a model of the shape of 7B on several GPUs: speed, memory, checkpoints."""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import yaml
from gpu_jobs import (
    GIB,
    GPUS,
    Config,
    Job,
    adamw,
    kill_group,
    say,
    scalars,
    show,
    side_by_side,
    timed_scalars,
    wait_for,
)

PEAK = 989.4e12
"""Dense bfloat16 operations a second of an H100 SXM, by the vendor's datasheet."""
SHAPE = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}
"""Of a 7B model (Qwen2.5), but for its layers."""
REHEARSED = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 49152,
}
WORDS = ("sum", "angle", "prime", "let", "then", "so", "x", "=", "2", "triangle", "modulo", "is")
REHEARSED_TOKENS = 512
ROWS_A_STEP = 2
"""Of each GPU, one a micro-batch."""
LEAST_STEPS = 4
"""Logged by a fit whose speed can be told."""


def speed(given: argparse.Namespace) -> None:
    """Tokens a second of full fine-tuning on rows of 8,192 tokens, two of each GPU in a step."""
    long = tokens_of(given, 8192)
    cases = [(strategy, count) for strategy in given.strategies for count in given.gpus]
    for batch in packed_on_gpus(cases):
        jobs = {}
        for (strategy, count), gpus in batch:
            own = large_fit(
                given,
                strategy,
                count,
                accumulate=ROWS_A_STEP,
                size=ROWS_A_STEP * count,
                tokens=long,
            )
            own["trainer"] |= {"max_steps": given.steps, "enable_checkpointing": False}
            name = f"{strategy}-{count}-{given.layers}-{given.recompute}"
            name += "-compiled" * given.compile
            after = by_flag(given, strategy)
            jobs[name] = Job(given.folder / "speed" / name, (), own, gpus, after=after)
        done = side_by_side(jobs, given.limit)
        for ((strategy, count), _), (name, job) in zip(batch, jobs.items(), strict=True):
            row = {"what": "speed", "strategy": strategy, "gpus": count, "layers": given.layers}
            row |= {"recompute": given.recompute, "compiled": given.compile}
            show([{**row, **rates(given, job.folder, count), "seconds": done.get(name)}])


def checkpoints(given: argparse.Namespace) -> None:
    """The first number of GPUs trains, saves, and is killed; the last goes on, and exports."""
    folder = given.folder / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    before, after = given.gpus[0], given.gpus[-1]
    job, times = saving_job(given, folder, before)
    process = job.start()

    def has_saved() -> bool:
        return times.exists() and '"_save"' in times.read_text()

    say(f"saved: {wait_for(has_saved, process, given.limit)}")
    kill_group(process)
    size = sum(map(size_of, (folder / "progress").glob("*.ckpt"))) / GIB
    rows = [{"checkpoint_gib": size}, *seconds_of(times, before)]
    job, times = saving_job(given, folder, after)
    side_by_side({f"resumed on {after}": job}, given.limit)
    rows += [{"export_gib": size_of(folder / "weights") / GIB}, *seconds_of(times, after)]
    show([{"what": "checkpoints", "layers": given.layers, **row} for row in rows])


def saving_job(given: argparse.Namespace, folder: Path, count: int) -> tuple[Job, Path]:
    """A fit with a clock that saves after its second step, and the file of its clock."""
    own = large_fit(given, "fsdp2", count, accumulate=1, size=8, tokens=tokens_of(given, 2048))
    own["trainer"] |= {"max_steps": 4}
    own["trainer"]["callbacks"] += [
        {"class_path": "callbacks.ExportWeights"},
        {"class_path": "callbacks.SaveProgress", "init_args": {"every_n_steps": 2}},
    ]
    times = folder.with_name(f"timed-{count}.jsonl")
    times.unlink(missing_ok=True)
    clock = {"TIMED_FIT": str(times)}
    launch = (sys.executable, "benchmarks/timed_fit.py")
    return Job(folder, (), own, GPUS[:count], launch, clock, by_flag(given, "fsdp2")), times


def seconds_of(times: Path, count: int) -> list[Config]:
    """What the clock of a fit says."""
    return [{"gpus": count, **json.loads(line)} for line in times.read_text().splitlines()]


def tokens_of(given: argparse.Namespace, tokens: int) -> int:
    """Of a row; fewer in a rehearsal."""
    return min(tokens, REHEARSED_TOKENS) if given.cpu else tokens


def large(given: argparse.Namespace) -> None:
    """Random weights in bfloat16, and rows of nearly 2,048 and 8,192 tokens."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = large_folder(given)
    known = AutoTokenizer.from_pretrained(given.weights)
    for tokens in (tokens_of(given, 2048), tokens_of(given, 8192)):
        random = Random(0)
        with open(given.folder / f"rows-{tokens}.jsonl", "w", encoding="utf-8") as file:
            for _ in range(128):
                words = " ".join(random.choices(WORDS, k=tokens))
                ids = known(words)["input_ids"][: tokens - 100]
                row = {"prompt": "Solve it.", "solution": known.decode(ids)}
                file.write(json.dumps(row) + "\n")
    if (folder / "config.json").exists():
        return
    import torch

    known.save_pretrained(folder)
    shape = {**SHAPE, **REHEARSED} if given.cpu else SHAPE
    config = Qwen2Config(
        **shape,
        num_hidden_layers=given.layers,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=known.bos_token_id,
        eos_token_id=known.eos_token_id,
        dtype="bfloat16",
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cpu" if given.cpu else "cuda"):
        model = Qwen2ForCausalLM(config)
    model.save_pretrained(folder)
    say(f"{sum(p.numel() for p in model.parameters()) / 1e9:.2f}e9 parameters")


def large_fit(
    given: argparse.Namespace, strategy: str, count: int, accumulate: int, size: int, tokens: int
) -> Config:
    """Supervised fine-tuning of all weights."""
    weights = str(large_folder(given))
    arguments = {
        "weights": weights,
        "optimizer": adamw(1e-6, fused=not given.cpu),
        "torch_compile": given.compile,
    }
    rows = {
        "weights": weights,
        "corpus": {"path": str(given.folder / f"rows-{tokens}.jsonl")},
        "batch_size": size,
        "max_tokens": tokens,
    }
    trainer: Config = {
        "accelerator": "cpu" if given.cpu else "gpu",
        "devices": count,
        "precision": "bf16-mixed",
        "accumulate_grad_batches": accumulate,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "callbacks.Throughput"}],
    }
    if given.cpu:
        trainer["strategy"] = strategy
    return {
        "seed_everything": 42,
        "model": {"class_path": "modules.SFTModule", "init_args": arguments},
        "data": {"class_path": "datamodules.SolutionDataModule", "init_args": rows},
        "trainer": trainer,
    }


def by_flag(given: argparse.Namespace, strategy: str) -> tuple[str, ...]:
    """The project's configuration of a strategy, for all GPUs that a fit sees, and what differs."""
    own = given.folder / f"recompute-{given.recompute}.yaml"
    arguments = {"gradient_checkpointing": given.recompute}
    own.write_text(yaml.safe_dump({"model": {"init_args": arguments}}))
    overlay = () if strategy == "auto" or given.cpu else (f"configs/strategy/{strategy}.yaml",)
    return (*overlay, str(own))


def rates(given: argparse.Namespace, folder: Path, count: int) -> dict[str, Any]:
    """Of the second half of the steps, by the wall clock: logging counts, the start does not."""
    logged = timed_scalars(folder, "throughput/tokens_per_s")
    if len(logged) < LEAST_STEPS:
        return {"failed": True}
    later = logged[len(logged) // 2 - 1 :]
    step_s = statistics.median(after[0] - before[0] for before, after in pairwise(later))
    per_gpu = ROWS_A_STEP * row_tokens(folder) / step_s
    return {
        "steps": len(logged),
        "step_s": round(step_s, 3),
        "tokens_per_s_per_gpu": round(per_gpu),
        "mfu": round(per_gpu * flops_a_token(given.layers, 8192) / PEAK, 4),
        "logged": round(statistics.median(value for _, value in later[1:]) / count),
        "peak_gib": round(max(scalars(folder, "throughput/peak_gib")), 1),
        "loss": scalars(folder, "sft/loss"),
    }


def row_tokens(folder: Path) -> float:
    """The mean of the rows that a fit encoded."""
    from datamodules.rows import RowsOnDisk

    [store] = [path.parent for path in folder.glob("encoded/*/manifest.json")]
    return float(RowsOnDisk(store).lengths.mean())


def flops_a_token(layers: int, length: int) -> float:
    """Forward and backward, without recomputation; attention sees half of its square."""
    hidden, inner = SHAPE["hidden_size"], SHAPE["intermediate_size"]
    keys = 2 * SHAPE["num_key_value_heads"] * hidden // SHAPE["num_attention_heads"]
    matrices = layers * hidden * (2 * hidden + keys + 3 * inner) + hidden * SHAPE["vocab_size"]
    return 6 * matrices + 6 * layers * hidden * length


def packed_on_gpus(cases: Sequence[tuple[str, int]]) -> list[list[tuple[tuple[str, int], Any]]]:
    """Cases that fit on the GPUs at the same time, and the GPUs of each."""
    batches: list[list[tuple[tuple[str, int], Any]]] = []
    free = 0
    for case in cases:
        if case[1] > free or not batches:
            batches.append([])
            free = len(GPUS)
        batches[-1].append((case, GPUS[len(GPUS) - free :][: case[1]]))
        free -= case[1]
    return batches


def large_folder(given: argparse.Namespace) -> Path:
    """Of the random weights."""
    return Path(given.folder) / f"random-{given.layers}"


def size_of(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(inner.stat().st_size for inner in path.rglob("*") if inner.is_file())
