"""What a round of a refreshed fit costs beside generating and training, on one GPU.

    export PYTHONPATH=.:$PYTHONPATH
    python benchmarks/round_overhead.py --weights models/smollm2-135m-instruct
    python benchmarks/round_overhead.py --random 1.5B

The fit is a real one: trainer and vLLM share the GPU, vLLM sleeps while the trainer trains. Each
round exports q, scores the probes, wakes vLLM up on q (and has it score the probes), generates,
reads p, scores, and puts vLLM to sleep. Round 0, which starts vLLM, is given apart.

Random weights of a 1.5B model (28 layers of 1536) write no text that could be parsed, so any text
counts as a rationale here.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from promptcot.corpora import Corpus
from promptcot.engines import KeptEngine, VLLMEngine
from promptcot.protocols import (
    Completion,
    Engine,
    Request,
    Sampling,
    ScoreRequest,
    SegmentLogprobs,
)
from promptcot.recipes import Rationales
from promptcot.recipes.rewarded import Sample

ROUNDS = 4


@dataclass(frozen=True)
class AnyText(Rationales):
    """Rationales, of which any text is one."""

    def _parse(self, completions: Sequence[Completion]) -> list[Sample]:
        return [Sample(c, c.text.strip() or "z") for c in completions]


class Timed:
    """An engine whose phases are timed: open (or reload), generate, score, close (or sleep)."""

    def __init__(self, keep: Any) -> None:  # noqa: ANN401
        self.keep = keep
        self.seconds: dict[str, float] = {}
        self.engine: Engine

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add what is done within to a phase."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """The seconds since the last take."""
        seconds, self.seconds = self.seconds, {}
        return seconds

    def open(self, weights: str) -> Engine:
        """What a recipe calls."""
        with self.phase("hand_over"):
            self.engine = self.keep(weights)
        return self

    def batches(self, count: int) -> Iterable[range]:
        return self.engine.batches(count)

    def overlong(
        self, requests: Sequence[Request | ScoreRequest], max_tokens: int = 0
    ) -> Mapping[int, str]:
        return self.engine.overlong(requests, max_tokens)

    def generate(
        self, requests: Sequence[Request], sampling: Sampling
    ) -> Iterator[tuple[int, list[Completion]]]:
        with self.phase("generate"):
            yield from self.engine.generate(requests, sampling)

    def score(self, requests: Sequence[ScoreRequest]) -> Iterator[tuple[int, SegmentLogprobs]]:
        is_probe = requests[0].target.ends is False
        with self.phase("probe_engine" if is_probe else "score"):
            yield from self.engine.score(requests)

    def close(self) -> None:
        with self.phase("sleep"):
            self.engine.close()


def main(arguments: Sequence[str]) -> None:
    """Print the parts of each round, in seconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--weights", default="models/smollm2-135m-instruct", help="and tokenizer")
    parser.add_argument("--random", choices=("", "1.5B"), default="", help="weights of this size")
    parser.add_argument("--folder", type=Path, default=Path("runs/round_overhead"))
    parser.add_argument("--gpu-share", type=float, default=0.4)
    options = parser.parse_args(arguments)
    folder = options.folder / (options.random or "given")
    weights = options.weights
    if options.random:
        weights = str(write_random(folder / "random", options.weights))
    rounds = run(folder, weights, options.gpu_share)
    for row in rounds:
        sys.stdout.write(json.dumps(row) + "\n")


def run(folder: Path, weights: str, gpu_share: float) -> list[dict[str, Any]]:
    """The rounds of one fit."""
    import torch
    from lightning.pytorch import Trainer

    from callbacks import RefreshTrainingSet
    from datamodules import RationaleDataModule
    from modules import EStepModule

    engine = partial(
        VLLMEngine,
        gpu_memory_utilization=gpu_share,
        sleeps=True,
        options={"max_model_len": 2048},
    )
    timed = Timed(KeptEngine(engine=engine))
    recipe = AnyText(
        prompt_model=weights,
        corpus=Corpus(limit=16),
        sampling=Sampling(n=4, max_tokens=64),
        engine=timed.open,
    )
    rounds: list[dict[str, Any]] = []

    class Watched(RefreshTrainingSet):
        def _report(self, trainer: Trainer, folder: Path, figures: dict[str, Any]) -> None:
            phases = timed.take()
            work = sum(phases.get(name, 0.0) for name in ("generate", "score"))
            whole = figures["export_s"] + figures["probe_s"] + figures["make_s"]
            row = {**figures, **phases, "overhead": whole - work}
            rounds.append({name: round(value, 2) for name, value in row.items()})

    trainer = Trainer(
        max_epochs=ROUNDS,
        reload_dataloaders_every_n_epochs=1,
        precision="bf16-mixed",
        devices=1,
        default_root_dir=folder,
        callbacks=[Watched(recipe=replace(recipe), max_difference=0.3)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    module = EStepModule(weights, partial(torch.optim.AdamW, lr=1e-5))
    trainer.fit(module, RationaleDataModule(weights, Corpus(limit=16), batch_size=16))
    timed.keep.close()
    peak = torch.cuda.max_memory_allocated() / (1 << 30) if torch.cuda.is_available() else 0.0
    size = sum(p.numel() for p in module.parameters())
    return [*rounds, {"parameters": size, "trainer_peak_gib": round(peak, 1)}]


def write_random(folder: Path, tokenizer: str, context: int = 2048) -> Path:
    """A Llama of 1.5B random parameters with a given tokenizer and so many positions."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    if not (folder / "config.json").exists():
        known = AutoTokenizer.from_pretrained(tokenizer)
        known.save_pretrained(folder)
        config = LlamaConfig(
            vocab_size=len(known),
            hidden_size=1536,
            intermediate_size=8960,
            num_hidden_layers=28,
            num_attention_heads=12,
            num_key_value_heads=2,
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=known.bos_token_id,
            eos_token_id=known.eos_token_id,
        )
        torch.manual_seed(0)
        with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
            model = LlamaForCausalLM(config)
        model.to(torch.bfloat16).cpu().save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main(sys.argv[1:])
