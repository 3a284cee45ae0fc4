"""The paper's EM figure on a small scale: do rationales help, and does the E-step?

    export PYTHONPATH=.:$PYTHONPATH
    python benchmarks/em_figure.py prepare --statements math_train.json   # needs yake, no GPU
    python benchmarks/em_figure.py run                                    # goes on where it was
    python benchmarks/em_figure.py collect                                # needs matplotlib

Held-out negative log-likelihood over the optimizer steps of the prompt model p, in four arms:

    e_step   each round the rationale model q learns the best of its n rationales, p what q then
             writes greedily
    policy_gradient    as e_step, but q learns from all n by a policy gradient (GRPO)
    fixed    p learns, for as many steps, what the cold-started q writes greedily
    none     p learns the problems without any rationale, for as many steps

-log p(x | c) can be compared between arms: it is exact without rationale, and an upper bound by
importance weighting with it. -log p(x | z, c), which the paper shows, is given beside it.
A seed is a process of its own, and the seeds run side by side on one GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from em_figure_engines import Machine
from em_figure_lab import Lab, Settings, prepare
from seeds import quieten, side_by_side

from promptcot.children import die_with_parent
from promptcot.embedded import embedded_model
from promptcot.protocols import OpenEngine
from promptcot.store import read_json, write_json

ARM_NAMES = ("e_step", "policy_gradient", "fixed", "none")
NLLS = ("nll", "nll_given_rationale")
GIB = 1 << 30


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit status."""
    given = parse(arguments)
    settings = Settings(**{f.name: getattr(given, f.name) for f in fields(Settings)})
    match given.command:
        case "prepare":
            if not Path(given.weights).is_dir():
                embedded_model(Path(given.weights))
            prepare(given.folder, settings, given.statements)
        case "run" if given.seed is None:
            return side_by_side(__file__, arguments, given.seeds, given.parallel)
        case "run":
            die_with_parent()
            run_seed(given, settings)
        case "collect":
            from em_figure_plot import collect, plot

            plot(collect(given.folder, given.output), given.output)
        case "plot":
            from em_figure_plot import plot

            plot(read_json(given.output / "em_figure.json"), given.output)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=("prepare", "run", "collect", "plot"))
    add("--folder", type=Path, default=Path("runs/em_figure"), help="of everything that is made")
    add("--output", type=Path, default=Path("docs/results"), help="of JSON and figure")
    add("--statements", type=Path, default=Path("math_train.json"), help="rows with `problem`")
    add("--weights", default="models/smollm2-135m-instruct")
    add("--num-train", type=int, default=2000)
    add("--num-held-out", type=int, default=500)
    add("--num-samples", type=int, default=4, help="rationales to choose from in the E-step")
    add("--rounds", type=int, default=3)
    add("--bound-samples", type=int, default=4, help="rationales that weigh the bound")
    add("--max-tokens", type=int, default=96, help="of a rationale")
    add("--compose-max-tokens", type=int, default=240, help="of p's own rationale and problem")
    add("--batch-size", type=int, default=16)
    add("--lr", type=float, default=1e-4, help="of the rounds")
    add("--pg-lr", type=float, default=2e-5, help="of q in the arm policy_gradient")
    add("--cold-batch-size", type=int, default=4)
    add("--cold-lr", type=float, default=1e-4)
    add("--cold-epochs", type=int, default=3)
    add("--rationale-column", default="brief", help="of the bundled corpus: brief or rationale")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add("--arms", nargs="+", default=list(ARM_NAMES))
    add("--seed", type=int, help="run this one in this process")
    add("--parallel", type=int, default=8, help="seeds that run at the same time")
    add("--engine", choices=("kept_vllm", "vllm", "hf"), default="kept_vllm")
    add("--scorer", choices=("same", "hf"), default="hf", help="engine that scores")
    add("--hf-batch-size", type=int, default=64)
    add("--gpu-share", type=float, default=0.2, help="vLLM's gpu_memory_utilization for a seed")
    add("--kv-gib", type=float, default=8, help="vLLM's cache; 0: what it finds free")
    add("--cuda-graphs", action="store_true", help="vLLM starts later and samples faster")
    add("--vllm-options", type=json.loads, default={}, help="JSON of what vllm.LLM takes")
    add(
        "--sleep",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether a kept vLLM frees its memory while it is not asked",
    )
    add("--open-early", action="store_true", help="start vLLM while the cold start is trained")
    add("--precision", default="bf16-mixed")
    add("--accelerator", default="auto")
    add("--accumulate", type=int, default=1, help="micro-batches of an optimizer step")
    return parser.parse_args(arguments)


def run_seed(given: argparse.Namespace, settings: Settings) -> None:
    """All arms of a seed, round by round, each point on disk as soon as it is measured."""
    from em_figure_arms import ARMS, State

    quieten()
    lab = Lab(given.folder, settings, machine(given), given.seed)
    lab.say("started")
    lab.open_early()
    states: dict[str, State] = {}
    files = {name: given.folder / "points" / f"seed-{lab.seed}-{name}.json" for name in given.arms}
    for number in range(settings.rounds + 1):
        for name, file in files.items():
            arm = ARMS[name]
            states[name] = arm.advance(lab, states[name]) if number else arm.start(lab)
            points = read_json(file)["points"] if file.exists() else []
            if number >= len(points):
                point = {**arm.measure(lab, states[name]), "seconds": lab.clock.take()}
                lab.say(f"{name} {in_a_line(point)}")
                row = {"arm": name, "seed": lab.seed, "settings": asdict(settings)}
                file.parent.mkdir(parents=True, exist_ok=True)
                write_json(file, {**row, "points": [*points, point]})
    lab.say("finished")


def in_a_line(point: Mapping[str, Any]) -> str:
    """A point in words."""
    nats = [f"{point[name]['per_token']:.4f}" for name in NLLS if point.get(name)]
    seconds = ", ".join(f"{phase} {value} s" for phase, value in point["seconds"].items())
    return f"round {point['round']}: {' / '.join(nats)} nats a token; {seconds}"


def machine(given: argparse.Namespace) -> Machine:
    """The engines and the rest that decides no figure."""
    from promptcot.engines import HFEngine

    hf = partial(HFEngine, batch_size=given.hf_batch_size)
    generator = hf if given.engine == "hf" else vllm(given)
    return Machine(
        generator=generator,
        scorer=generator if given.scorer == "same" else hf,
        precision=given.precision,
        accelerator=given.accelerator,
        accumulate=given.accumulate,
        open_early=given.open_early,
    )


def vllm(given: argparse.Namespace) -> OpenEngine:
    """vLLM, opened anew each time or kept open."""
    from promptcot.engines import VLLMEngine

    options = {"max_model_len": 2048, **given.vllm_options}
    if given.kv_gib:  # what vLLM finds free is wrong where others take memory at the same time
        options["kv_cache_memory_bytes"] = int(given.kv_gib * GIB)
    engine = partial(
        VLLMEngine,
        gpu_memory_utilization=given.gpu_share,
        enforce_eager=not given.cuda_graphs,
        options=options,
    )
    if given.engine == "vllm":
        return engine
    from promptcot.engines import KeptEngine

    kept: OpenEngine = KeptEngine(engine=partial(engine, sleeps=given.sleep))
    return kept


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
