"""Distillation on a small scale: what does a student learn from a teacher's traces?

    PYTHONPATH=. python benchmarks/distillation.py run        # goes on where it was
    PYTHONPATH=. python benchmarks/distillation.py collect    # JSON of all figures

The problems of self-play (``self_play_problems``), of which the student solves next to none; a
program as the teacher (``distillation_teacher``), behind the same protocol as any other;
``make distill``, which brings its formats to one form and drops what it spoils; ``make evaluate``
and ``fit`` with configs/sft.yaml, for each arm:

    full     all weights
    lora     a LoRA, exported as an adapter
    qlora    a LoRA on four bits, exported merged

Of every exported folder it is checked that transformers gives the trainer's log-probabilities, and
vLLM the greedy text of transformers. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from seeds import keep_to
from self_play import surroundings
from self_play_bench import run
from self_play_problems import draw_parts, to_row

from promptcot.embedded import embedded_model
from promptcot.store import MANIFEST, read_json, write_json

STUDENT = "models/smollm2-135m-instruct"
ARMS: Mapping[str, Mapping[str, Any]] = {
    "full": {"lr": 3e-4, "adapter": None, "merge": False},
    "lora": {"lr": 1e-3, "adapter": {"rank": 64, "alpha": 128}, "merge": False},
    "qlora": {"lr": 1e-3, "adapter": {"rank": 64, "alpha": 128, "base": "nf4"}, "merge": True},
}
"""Rate, adapter and export of each arm."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    given = parse(arguments)
    bench = Bench(given)
    if given.command == "collect":
        write_json(given.output / "distillation.json", bench.collect())
        return 0
    bench.prepare()
    bench.distill()
    with ThreadPoolExecutor(given.parallel) as pool:
        list(pool.map(bench.train, given.arms))
        checks = [pool.submit(bench.compare, arm) for arm in given.arms]
        list(pool.map(bench.evaluate, ["before", *given.arms]))
        for check in checks:
            check.result()
    return 0


class Bench:
    """The run in a folder; every step is made once.

    Args:
        given: The command line.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.folder = given, Path(given.folder)
        self.problems = self.folder / "problems"

    def prepare(self) -> None:
        """Draw the problems, unpack the student."""
        given = self.given
        if not Path(STUDENT).is_dir():
            embedded_model(Path(STUDENT))
        counts = {"train": given.num_train, "held_out": given.num_held_out}
        decided = {**counts, "epochs": given.epochs, "batch_size": given.batch_size}
        keep_to(self.folder / "settings.json", decided)
        write_json(self.folder / "machine.json", surroundings())
        self.problems.mkdir(parents=True, exist_ok=True)
        parts = draw_parts(counts, seed=1)
        for part, drawn in parts.items():
            rows = [to_row(problem, f"{part}-{number}") for number, problem in enumerate(drawn)]
            write_rows(self.problems / f"{part}.jsonl", rows)
        known = [
            {"statement": problem.statement, "solution": problem.solution}
            for problem in parts["train"]
        ]
        write_rows(self.problems / "answers.jsonl", known)

    def distill(self) -> None:
        """Ask the teacher."""
        folder = self.folder / "traces"
        if (folder / MANIFEST).exists():
            return
        with teacher(self.problems / "answers.jsonl") as url, self._step("distill"):
            own = {
                "teacher": "program",
                "corpus": {"path": str(self.problems / "train.jsonl")},
                "engine": {
                    "class_path": "promptcot.engines.ServerEngine",
                    "init_args": {"base_url": url},
                },
                "verifier": VERIFIER,
                "folder": str(folder),
            }
            self._make("distill", own)

    def train(self, arm: str) -> None:
        """The fit of an arm."""
        folder = self.folder / arm
        if (folder / "weights").exists():
            return
        with self._step(f"fit {arm}"):
            self._command("fit", "configs/sft.yaml", fit_config(self.given, arm, self.folder), arm)

    def evaluate(self, name: str) -> None:
        """pass@1 of the student before, or after an arm, on problems that no trace is of."""
        folder = self.folder / "evaluations" / name
        if (folder / MANIFEST).exists():
            return
        own = {
            "policy": STUDENT if name == "before" else str(self.folder / name / "weights"),
            "corpus": {"path": str(self.problems / "held_out.jsonl")},
            "sampling": {"n": 4, "temperature": 1.0, "max_tokens": 192},
            "verifier": VERIFIER,
            "engine": engine(self.given),
            "folder": str(folder),
        }
        with self._step(f"evaluate {name}"):
            self._make("evaluate", own)

    def compare(self, arm: str) -> None:
        """Trainer, transformers and vLLM on the exported folder."""
        result = self.folder / arm / "compared.json"
        if not result.exists():
            command = ["benchmarks/distillation_check.py", str(self.folder / arm)]
            command += ["--prompts", str(self.problems / "held_out.jsonl")]
            if self.given.engine == "vllm":
                command += ["--vllm", "--kv-gib", str(self.given.kv_gib)]
            with self._step(f"compare {arm}"):
                run(command, self.folder / f"compare_{arm}.log")

    def collect(self) -> dict[str, Any]:
        """All figures."""
        traces = read_json(self.folder / "traces" / MANIFEST)
        named = {
            path.parent.name: read_json(path)["figures"]
            for path in sorted((self.folder / "evaluations").glob(f"*/{MANIFEST}"))
        }
        steps = (self.folder / "steps.jsonl").read_text(encoding="utf-8").splitlines()
        return {
            "machine": read_json(self.folder / "machine.json"),
            "settings": read_json(self.folder / "settings.json"),
            "arms": {arm: dict(ARMS[arm]) for arm in named if arm in ARMS},
            "traces": {name: traces[name] for name in ("rows", "dropped", "figures")},
            "evaluations": named,
            "compared": {
                path.parent.name: read_json(path) for path in self.folder.glob("*/compared.json")
            },
            "seconds": {row["step"]: row["seconds"] for row in map(json.loads, steps)},
        }

    def _make(self, recipe: str, own: Mapping[str, Any]) -> None:
        name = f"{recipe}_{Path(own['folder']).name}"
        self._command(f"make {recipe}", f"configs/make/{recipe}.yaml", own, name)

    def _command(self, what: str, config: str, own: Mapping[str, Any], name: str) -> None:
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(dict(own), sort_keys=False), encoding="utf-8")
        command = ["cli.py", *what.split(), "--config", config, "--config", str(path)]
        run(command, self.folder / f"{name}.log")

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        seconds = round(time.monotonic() - start, 1)
        with open(self.folder / "steps.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"step": name, "seconds": seconds}) + "\n")
        sys.stderr.write(f"{name}: {seconds} s\n")


VERIFIER = {"class_path": "verify.ByDomain", "init_args": {"forms": ["boxed"]}}


def fit_config(given: argparse.Namespace, arm: str, folder: Path) -> dict[str, Any]:
    """What differs from configs/sft.yaml."""
    chosen = ARMS[arm]
    arguments = {"lr": chosen["lr"], "weight_decay": 0.0}
    adamw = {"class_path": "torch.optim.AdamW", "init_args": arguments}
    adapter = {} if chosen["adapter"] is None else {"adapter": chosen["adapter"]}
    rows = {
        "weights": STUDENT,
        "corpus": {"path": str(folder / "traces" / "rows.jsonl")},
        "batch_size": given.batch_size,
        "max_tokens": 512,
    }
    export = {"merge": True} if chosen["merge"] else {}
    callbacks = [
        {"class_path": "callbacks.ExportWeights", "init_args": export},
        {"class_path": "callbacks.SaveProgress", "init_args": {"every_n_steps": 1_000_000}},
        {"class_path": "benchmarks.distillation_check.ScoreAtEnd"},
    ]
    return {
        "seed_everything": 1,
        "model": {"init_args": {"weights": STUDENT, "optimizer": adamw, **adapter}},
        "data": {"init_args": rows},
        "trainer": {
            "max_epochs": given.epochs,
            "accelerator": given.accelerator,
            "precision": given.precision,
            "accumulate_grad_batches": 1,
            "enable_progress_bar": False,
            "default_root_dir": str(folder / arm),
            "callbacks": callbacks,
        },
    }


def engine(given: argparse.Namespace) -> dict[str, Any]:
    """Of the student, for its evaluation."""
    if given.engine == "hf":
        arguments: dict[str, Any] = {"chat": True, "batch_size": 64}
        return {"class_path": "promptcot.engines.HFEngine", "init_args": arguments}
    options = {"max_model_len": 1024, "kv_cache_memory_bytes": int(given.kv_gib * (1 << 30))}
    arguments = {"chat": True, "gpu_memory_utilization": 0.2, "options": options}
    return {"class_path": "promptcot.engines.VLLMEngine", "init_args": arguments}


@contextmanager
def teacher(answers: Path) -> Iterator[str]:
    """The teacher's address while it serves."""
    command = [sys.executable, "benchmarks/distillation_teacher.py", str(answers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.kill()


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """As JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=("run", "collect"))
    add("--folder", type=Path, default=Path("runs/distillation"), help="of all that is made")
    add("--output", type=Path, default=Path("docs/results"), help="of the JSON")
    add("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    add("--num-train", type=int, default=16000)
    add("--num-held-out", type=int, default=1000)
    add("--epochs", type=int, default=3)
    add("--batch-size", type=int, default=64)
    add("--parallel", type=int, default=7, help="processes at the same time")
    add("--engine", choices=("vllm", "hf"), default="vllm")
    add("--kv-gib", type=float, default=4, help="vLLM's cache")
    add("--precision", default="bf16-mixed")
    add("--accelerator", default="auto")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
