"""Self-play on a small scale: does a policy learn from its own verified solutions?

    PYTHONPATH=. python benchmarks/self_play.py prepare      # problems, warm-up models
    PYTHONPATH=. python benchmarks/self_play.py run          # goes on where it was
    PYTHONPATH=. python benchmarks/self_play.py collect      # JSON, and the figure with matplotlib
    PYTHONPATH=. python benchmarks/self_play_recount.py runs/self_play_figure/seed-*

Programmed word problems (``self_play_problems``); a short warm-up by supervised fine-tuning on
programmed solutions of problems of their own; then rounds of self-play in one fit each:

    self_play    DPO on pairs of right and wrong rollouts
    shuffled     the same pairs, but a coin says which one is chosen
    sft_right    supervised fine-tuning on the right ones of those pairs

After every round pass@1 is measured on problems that no round has. A seed is a process of its own
with a warm-up of its own, and the seeds run side by side on one GPU. Run it from the repository's
root; a command that was cut off is given again, until it has nothing left to do.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from seeds import keep_to, quieten, side_by_side
from self_play_arms import ARMS, Machine, Settings
from self_play_bench import DECIDES_PROBLEMS, Bench
from self_play_problems import write_parts

from promptcot.children import die_with_parent
from promptcot.embedded import embedded_model
from promptcot.store import read_json, write_json


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    given = parse(arguments)
    settings, machine = (
        kind(**{f.name: getattr(given, f.name) for f in fields(kind)})
        for kind in (Settings, Machine)
    )
    match given.command:
        case "prepare" | "run" if given.seed is None:
            prepare_problems(given.folder, settings)
            return side_by_side(__file__, arguments, given.seeds, given.parallel)
        case "prepare" | "run":
            die_with_parent()
            run_seed(given, settings, machine)
        case "collect":
            from self_play_plot import collect

            given.output.mkdir(parents=True, exist_ok=True)
            write_json(given.output / "self_play.json", collect(given.folder))
            plot_if_possible(given.output)
        case "plot":
            plot_if_possible(given.output)
    return 0


def run_seed(given: argparse.Namespace, settings: Settings, machine: Machine) -> None:
    """The warm-up of a seed, or its arms: first all that is trained, then all evaluations."""
    quieten()
    bench = Bench(given.folder, settings, machine, given.seed)
    write_json(bench.folder / "machine.json", {**asdict(machine), **surroundings()})
    bench.say(given.command)
    if given.command == "prepare":
        bench.warm_up()
    else:
        for arm in given.arms:
            bench.train(arm)
        bench.evaluate(given.arms)
    bench.say("finished")


def prepare_problems(folder: Path, settings: Settings) -> None:
    """Draw the problems and unpack the embedded model, unless they are there."""
    if not Path(settings.weights).is_dir():
        embedded_model(Path(settings.weights))
    problems = folder / "problems"
    decided = {name: getattr(settings, name) for name in DECIDES_PROBLEMS}
    problems.mkdir(parents=True, exist_ok=True)
    keep_to(problems / "settings.json", decided)
    if not (problems / "warm_up.jsonl").exists():
        parts = ("train", "held_out", "warm_up")
        counts = {part: getattr(settings, f"num_{part}") for part in parts}
        levels = dict(enumerate(settings.levels, 1))
        write_parts(problems, counts, settings.problem_seed, levels, settings.size)


def surroundings() -> dict[str, Any]:
    """The device, and the versions of what computes."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    found: dict[str, Any] = {}
    for name in ("torch", "vllm", "transformers", "lightning"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {"device": device, "python": sys.version.split()[0], "versions": found}


def plot_if_possible(output: Path) -> None:
    """Draw the figure where matplotlib is installed."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        sys.stderr.write("matplotlib is not installed: `plot` draws the figure later\n")
        return
    from self_play_plot import plot

    plot(read_json(output / "self_play.json"), output)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=("prepare", "run", "collect", "plot"))
    add("--folder", type=Path, default=Path("runs/self_play_figure"), help="of all that is made")
    add("--output", type=Path, default=Path("docs/results"), help="of JSON and figure")
    add("--weights", default="models/smollm2-135m-instruct")
    add("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    add("--seed", type=int, help="run this one in this process")
    add("--parallel", type=int, default=3, help="seeds that run at the same time")
    add_problems(parser)
    add_training(parser)
    add_machine(parser)
    return parser.parse_args(arguments)


def add_problems(parser: argparse.ArgumentParser) -> None:
    """Flags of problems and warm-up."""
    add = parser.add_argument
    add("--problem-seed", type=int, default=0)
    add("--levels", type=float, nargs=5, default=[1.0] * 5, help="weight of each level")
    add("--size", type=float, default=0.5, help="share of the numbers' ranges: lower is easier")
    add("--num-train", type=int, default=4000)
    add("--num-held-out", type=int, default=1000)
    add("--num-warm-up", type=int, default=1000)
    add("--warm-up-lr", type=float, default=1e-4)
    add("--warm-up-batch-size", type=int, default=16)
    add("--warm-up-epochs", type=int, default=1)


def add_training(parser: argparse.ArgumentParser) -> None:
    """Flags of rounds and evaluations."""
    add = parser.add_argument
    add("--rounds", type=int, default=8)
    add("--epochs", type=int, default=1, help="on each round")
    add("--num-samples", type=int, default=8, help="rollouts of a problem")
    add("--temperature", type=float, default=1.0, help="of the rollouts")
    add("--max-tokens", type=int, default=96, help="of a solution")
    add("--max-pass-rate", type=float, default=1.0, help="from which a problem is too easy")
    add("--max-pairs", type=int, default=4, help="of a problem")
    add("--num-problems", type=int, default=1000, help="of a round, which takes the next ones")
    add("--beta", type=float, default=0.1)
    add("--nll-weight", type=float, default=1.0)
    add("--lr", type=float, default=1e-5, help="of DPO")
    add("--batch-size", type=int, default=16, help="pairs, or solutions, of a step")
    add("--sft-lr", type=float, default=1e-5, help="of the arm sft_right")
    add("--eval-samples", type=int, default=4)
    add("--eval-temperature", type=float, default=1.0)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Flags that decide no figure."""
    add = parser.add_argument
    add("--engine", choices=("vllm", "hf"), default="vllm")
    add("--gpu-share", type=float, default=0.15, help="vLLM's gpu_memory_utilization for a seed")
    add("--kv-gib", type=float, default=4, help="vLLM's cache; 0: what it finds free")
    add("--cuda-graphs", action="store_true", help="vLLM starts later and samples faster")
    add("--hf-batch-size", type=int, default=64)
    add("--precision", default="bf16-mixed")
    add("--accelerator", default="auto")
    add("--accumulate", type=int, default=1, help="micro-batches of an optimizer step")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
