"""Training on several GPUs, measured: agreement, rounds with vLLM, speed, checkpoints, lost ranks.

    export PYTHONPATH=.:$PYTHONPATH NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1
    python benchmarks/several_gpus.py prepare       # problems, a warmed-up policy
    python benchmarks/several_gpus.py large         # random weights of the shape of 7B
    python benchmarks/several_gpus.py live          # refreshed fits, vLLM asleep on the same GPUs
    python benchmarks/several_gpus.py agree         # losses of every strategy, on one round
    python benchmarks/several_gpus.py engines       # rounds by one, two and four engines
    python benchmarks/several_gpus.py lost          # one rank is killed in a round, in a save
    python benchmarks/several_gpus.py speed --gpus 4 --compile --recompute 0
    python benchmarks/several_gpus.py checkpoints --gpus 4 2

Every fit is a call of ``cli.py fit`` with the project's own configurations, a strategy by its flag,
and a small file that says what differs. Results are lines of JSON. Run it from the repository's
root, on a host with several GPUs (``own-gpus`` wants four); several small fits share a GPU.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from gpu_jobs import (
    GPUS,
    Job,
    adamw,
    say,
    scalars,
    show,
    side_by_side,
)
from large_fits import checkpoints, large, packed_on_gpus, speed
from lost_ranks import lost
from small_fits import KINDS, LOSS, described, rarely, refreshed, trainer_of

STRATEGIES = ("ddp", "fsdp2", "deepspeed_stage_2", "deepspeed_stage_3")


def main(arguments: Sequence[str]) -> None:
    """Run one experiment."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    commands = (prepare, large, live, agree, engines, lost, speed, checkpoints)
    add("command", choices=[command.__name__ for command in commands])
    add("--folder", type=Path, default=Path("runs/several_gpus"))
    add("--weights", default="models/smollm2-135m-instruct")
    add("--layers", type=int, default=28, help="of the shape of 7B")
    add("--gpus", type=int, nargs="+", default=[4], help="of each speed; that save, and load")
    add("--strategies", nargs="+", default=["fsdp2"], help="to measure the speed of")
    add("--steps", type=int, default=8)
    add("--recompute", type=float, default=1.0, help="share of the layers, where speed is measured")
    add("--compile", action="store_true", help="the layers, where speed is measured")
    add("--cpu", action="store_true", help="a rehearsal: gloo, transformers' engine")
    add("--only", nargs="+", help="names of fits, of those that run side by side")
    add("--limit", type=float, default=300, help="seconds after which fits are killed")
    given = parser.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    {command.__name__: command for command in commands}[given.command](given)
    say(f"{given.command}: {time.monotonic() - start:.0f} s")


# --- small fits -------------------------------------------------------------------------------


def prepare(given: argparse.Namespace) -> None:
    """Problems and a policy that solves some of them, by a short supervised fit."""
    from self_play_problems import write_parts

    counts = {"train": 2048, "held_out": 8, "warm_up": 16 if given.cpu else 1000}
    write_parts(given.folder / "problems", counts, 7, size=0.5)
    own = {
        "model": {"init_args": {"weights": given.weights, "optimizer": adamw(1e-4)}},
        "data": {
            "init_args": {
                "weights": given.weights,
                "corpus": {"path": str(given.folder / "problems" / "warm_up.jsonl")},
            }
        },
        "trainer": {**trainer_of(given, "auto", 1), "max_epochs": 1, "callbacks": [rarely()]},
    }
    job = Job(given.folder / "warm", ("configs/sft.yaml",), own, GPUS[:1])
    side_by_side({"warm": job}, given.limit)


def live(given: argparse.Namespace) -> None:
    """Two rounds of each kind under each strategy, and vLLM in other places, all side by side.

    By default vLLM sleeps in turn on the trainer's first GPU.
    """
    jobs: dict[str, Job] = {}
    for kind in KINDS:
        for strategy in ("auto", *STRATEGIES):
            count = 1 if strategy == "auto" else 2
            own = refreshed(given, kind, strategy, count, period=1)
            folder = given.folder / "live" / f"{kind}-{strategy}"
            gpus = (GPUS + GPUS)[len(jobs) % len(GPUS) :][:count]
            jobs[folder.name] = Job(folder, KINDS[kind], own, gpus)
    jobs |= {"own-gpus": own_gpus(given), "hasty": hasty(given)}
    if given.only is None or "tensor-parallel" in given.only:
        jobs["tensor-parallel"] = tensor_parallel(given)
    jobs = {name: jobs[name] for name in given.only or jobs}
    seconds = side_by_side(jobs, given.limit)
    show([described("live", name, job, seconds) for name, job in jobs.items()])


def agree(given: argparse.Namespace) -> None:
    """Losses of two epochs on one GPU's round, under every strategy and number of GPUs."""
    for precision in ("32-true", "bf16-mixed"):
        jobs: dict[str, Job] = {}
        for kind in KINDS:
            for strategy, count in (("auto", 1), *((s, 2) for s in STRATEGIES), ("fsdp2", 4)):
                name = f"{kind}-{strategy}-{count}-{precision}"
                gpus = (GPUS + GPUS)[2 * (len(jobs) % 2) :][:count]
                jobs[name] = on_known_round(given, name, kind, strategy, gpus)
                jobs[name].own["trainer"]["precision"] = precision
        seconds = side_by_side(jobs, given.limit)
        for name, job in jobs.items():
            kind = name.partition("-")[0]
            one = scalars(jobs[f"{kind}-auto-1-{precision}"].folder, LOSS[kind])
            found = scalars(job.folder, LOSS[kind])
            row = {"what": "agree", "fit": name, "ended": name in seconds, "losses": found}
            show([{**row, "worst": worst(one, found)}])


def on_known_round(
    given: argparse.Namespace, name: str, kind: str, strategy: str, gpus: tuple[int, ...]
) -> Job:
    """A fit of two epochs on the first round that one GPU made, whose reference it computes."""
    folder = given.folder / "agree" / name
    known = given.folder / "live" / f"{kind}-auto" / "rounds" / "round-0"
    shutil.rmtree(folder, ignore_errors=True)
    others = shutil.ignore_patterns("reference_logprobs")
    shutil.copytree(known, folder / "rounds" / "round-0", ignore=others)
    own = refreshed(given, kind, strategy, len(gpus), period=2)
    return Job(folder, KINDS[kind], own, gpus)


def engines(given: argparse.Namespace) -> None:
    """Rounds of 8,192 solutions by one, two and four engines, each on a GPU of its own."""
    for batch in packed_on_gpus([("fsdp2", count) for count in (1, 2, 4) if count <= len(GPUS)]):
        jobs: dict[str, Job] = {}
        for (strategy, count), gpus in batch:
            engine = {"data_parallel_size": count}
            own = refreshed(given, "dpo", strategy, count, period=1, engine=engine, problems=256)
            own["trainer"]["callbacks"][-1]["init_args"]["recipe"]["init_args"]["max_pairs"] = 1
            name = f"engines-{count}"
            jobs[name] = Job(given.folder / "engines" / name, KINDS["dpo"], own, gpus)
        seconds = side_by_side(jobs, given.limit)
        show([described("engines", name, job, seconds) for name, job in jobs.items()])


def own_gpus(given: argparse.Namespace) -> Job:
    """Two GPUs for the trainer, and an engine on each of two others."""
    engine = {"devices": [2, 3], "data_parallel_size": 2, "sleeps": False}
    own = refreshed(given, "dpo", "fsdp2", 2, period=1, engine=engine)
    return Job(given.folder / "live" / "own-gpus", KINDS["dpo"], own, GPUS)


def hasty(given: argparse.Namespace) -> Job:
    """The trainer's collectives give up earlier than a round takes."""
    own = refreshed(given, "policy_gradient", "fsdp2", 2, period=1)
    own["trainer"]["strategy"] = {
        "class_path": "modules.strategies.FSDP2Strategy",
        "init_args": {"timeout": "0:00:25"},
    }
    return Job(given.folder / "live" / "hasty", KINDS["policy_gradient"], own, GPUS[-2:])


def tensor_parallel(given: argparse.Namespace) -> Job:
    """One engine over the two GPUs of the trainer, on random weights, as ours cannot be halved."""
    from round_overhead import write_random

    folder = str(write_random(given.folder / "random", given.weights))
    own = refreshed(given, "e_step", "fsdp2", 2, period=1, engine={"tensor_parallel_size": 2})
    own["model"]["init_args"]["weights"] = own["data"]["init_args"]["weights"] = folder
    refresh = own["trainer"]["callbacks"][-1]["init_args"]
    refresh["max_difference"] = 0.3
    refresh["recipe"]["class_path"] = "benchmarks.round_overhead.AnyText"
    refresh["recipe"]["init_args"]["prompt_model"] = folder
    return Job(given.folder / "live" / "tensor-parallel", KINDS["e_step"], own, GPUS[:2])


def worst(one: Sequence[float], found: Sequence[float]) -> float | None:
    """The largest difference of two lists that are equally long."""
    if not one or len(one) != len(found):
        return None
    return max(abs(a - b) for a, b in zip(one, found, strict=True))


if __name__ == "__main__":
    main(sys.argv[1:])
