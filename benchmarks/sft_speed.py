"""Tokens a second of supervised fine-tuning, ours and TRL's, on the same rows.

    PYTHONPATH=. python benchmarks/sft_speed.py                 # 1.4B random weights, a GPU
    PYTHONPATH=. python benchmarks/sft_speed.py --given         # the embedded model

Rows of random words, whose lengths are log-normal as those of traces are. All weights, float32
with bfloat16 arithmetic, AdamW, no recomputation unless asked for. Ours packs micro-batches within
a token budget; TRL 1.16 pads, which is its default, as many rows as ``--trl-rows`` says. Tokens
are the rows' own: padding counts for nothing. Each is a process of its own; the first ``WARM_UP``
steps are not counted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

WARM_UP = 5
STEPS = 25
WORDS = ("sum", "angle", "prime", "let", "then", "so", "x", "=", "2", "triangle", "modulo", "is")


def main(arguments: list[str]) -> None:
    """Measure; a JSON line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--folder", type=Path, default=Path("runs/sft_speed"))
    add("--weights", default="models/smollm2-135m-instruct")
    add("--given", action="store_true", help="train the given weights, not random ones of 1.4B")
    add("--mean", type=float, default=1200, help="tokens of a row")
    add("--budget", type=int, default=16384, help="tokens of one of our micro-batches")
    add("--trl-rows", type=int, default=4, help="rows of one of TRL's")
    add("--recompute", action="store_true", help="gradient checkpointing, in both")
    add("--who", choices=("prepare", "ours", "trl"), help="do this in this process")
    given = parser.parse_args(arguments)
    if given.who == "prepare":
        prepare(given)
        return
    if given.who:
        found = (ours if given.who == "ours" else trl)(given)
        sys.stdout.write(json.dumps({"who": given.who, **found}) + "\n")
        return
    for who in ("prepare", "ours", "trl"):  # each frees the GPU when it ends
        subprocess.run([sys.executable, __file__, *arguments, "--who", who], check=False)


def prepare(given: argparse.Namespace) -> None:
    """The model and the rows."""
    from round_overhead import write_random

    given.folder.mkdir(parents=True, exist_ok=True)
    if not given.given:
        write_random(given.folder / "random", given.weights, context=8192)
    random, lengths = Random(0), np.random.default_rng(0)
    sizes = lengths.lognormal(np.log(given.mean) - 0.32, 0.8, 2000).clip(32, 8000)
    with open(given.folder / "rows.jsonl", "w", encoding="utf-8") as file:
        for size in sizes:
            words = " ".join(random.choices(WORDS, k=int(size)))
            file.write(json.dumps({"prompt": "Solve it.", "solution": words}) + "\n")


def weights_of(given: argparse.Namespace) -> str:
    """Of the model that is trained."""
    return given.weights if given.given else str(given.folder / "random")


def data_of(given: argparse.Namespace) -> Any:  # noqa: ANN401
    """Our data module on the rows."""
    from datamodules import SolutionDataModule
    from promptcot.corpora import Corpus

    corpus = Corpus(str(given.folder / "rows.jsonl"))
    return SolutionDataModule(
        weights_of(given), corpus, max_tokens=min(8192, given.budget), token_budget=given.budget
    )


class Watch:
    """Times of optimizer steps, and the memory they took."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.tokens = 0

    def step(self) -> None:
        """A step is over."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        if len(self.times) == WARM_UP:
            self.tokens = 0

    def figures(self) -> dict[str, Any]:
        """Of the steps that count."""
        import torch

        seconds = self.times[-1] - self.times[WARM_UP - 1]
        peak = torch.cuda.max_memory_allocated() / (1 << 30) if torch.cuda.is_available() else 0
        return {
            "tokens": self.tokens,
            "seconds": round(seconds, 2),
            "tokens_per_s": round(self.tokens / seconds),
            "peak_gib": round(peak, 1),
        }


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """This project's."""
    from functools import partial

    import torch
    from lightning.pytorch import Callback, Trainer

    from modules import SFTModule

    watch = Watch()

    class Steps(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, n: int):  # noqa: ANN202, ANN401
            watch.tokens += batch.tokens.numel()
            watch.step()

    adamw = partial(torch.optim.AdamW, lr=1e-5, weight_decay=0.0, fused=True)
    module = SFTModule(weights_of(given), adamw, gradient_checkpointing=given.recompute)
    trainer = Trainer(
        max_steps=STEPS + WARM_UP,
        precision="bf16-mixed",
        devices=1,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=given.folder,
        callbacks=[Steps()],
    )
    trainer.fit(module, data_of(given))
    return watch.figures()


def trl(given: argparse.Namespace) -> dict[str, Any]:
    """TRL's, on the rows as ours encoded them."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from datamodules.rows import RowsOnDisk

    [store] = [path.parent for path in given.folder.glob("encoded/*/manifest.json")]
    rows, watch = RowsOnDisk(store), Watch()
    every = [rows[number] for number in range(len(rows))]
    ready = [{"input_ids": list(r.tokens), "labels": labels_of(r)} for r in every]
    size = given.trl_rows
    order = Random(0).sample(range(len(rows)), (STEPS + WARM_UP) * size)

    class Steps(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any):  # noqa: ANN202, ANN401
            done = order[size * (state.global_step - 1) : size * state.global_step]
            watch.tokens += sum(len(every[number]) for number in done)
            watch.step()

    weights = weights_of(given)
    config = SFTConfig(
        output_dir=str(given.folder / "trl"),
        per_device_train_batch_size=size,
        max_steps=STEPS + WARM_UP,
        learning_rate=1e-5,
        lr_scheduler_type="constant",
        max_length=None,
        bf16=torch.cuda.is_available(),
        use_cpu=not torch.cuda.is_available(),
        gradient_checkpointing=given.recompute,
        train_sampling_strategy="sequential",
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    SFTTrainer._send_telemetry = lambda self: None
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32),
        config,
        train_dataset=Dataset.from_list([ready[number] for number in order]),
        processing_class=AutoTokenizer.from_pretrained(weights),
        callbacks=[Steps()],
    )
    trainer.train()
    return watch.figures()


def labels_of(row: Any) -> list[int]:  # noqa: ANN401
    """As TRL takes them."""
    labels = [-100] * len(row)
    for start, end in row.spans:
        labels[start:end] = row.tokens[start:end]
    return labels


if __name__ == "__main__":
    main(sys.argv[1:])
