"""Every strategy steps as one process does, to the token, and goes on after a kill."""

import json
import math
import os
from importlib.util import find_spec
from pathlib import Path

import forked
import pytest
import torch
import yaml
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import save_tiny_adapter
from torch.testing import assert_close

CHECKOUT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": str(CHECKOUT / "tests"),
    "DS_ACCELERATOR": "cpu",
}
ROWS = [
    {"statement": "a" * n, "concepts": ["k", "l"], "rationale": "why " * n} for n in range(1, 9)
]
CLIP = 0.3
TRAINED = {
    "all": ("--trainer.gradient_clip_val", str(CLIP), "--model.optimizer.lr", "0.5"),
    # no clipping, which would hide a wrong scale
    "adapter": ("--model.adapter.rank", "4", "--model.adapter.alpha", "8"),
    "dora": ("--model.adapter.rank", "4", "--model.adapter.dora", "true"),
}
NAMES = {
    "all": "model.safetensors",
    "adapter": "adapter_model.safetensors",
    "dora": "adapter_model.safetensors",
}
BAD = 2
"""Number of the step whose gradient is not finite."""
FIT = {
    "model": {
        "class_path": "spoilt_fit.Spoilt",
        "init_args": {
            "spoilt": [BAD],
            # moves the weights by the gradient itself, and unlike Adam tells its scale
            "optimizer": {
                "class_path": "torch.optim.SGD",
                "init_args": {"lr": 0.1, "momentum": 0.9},
            },
        },
    },
    "data": {"init_args": {"batch_size": 3}},  # eight micro-batches of a step: most are empty
    "trainer": {
        "accelerator": "cpu",
        "precision": "32-true",
        "max_epochs": 2,
        "gradient_clip_val": None,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": True,
    },
}
needs_deepspeed = pytest.mark.skipif(find_spec("deepspeed") is None, reason="no deepspeed here")


@pytest.fixture(scope="module")
def start(tiny_model, tmp_path_factory):
    """Folder of rows and overlays, which finished fits come to lie in as well."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "fit.yaml").write_text(yaml.safe_dump(FIT))
    for stage in (1, 2, 3):
        strategy = {"class_path": "cpu_deepspeed.CPUDeepSpeed", "init_args": {"stage": stage}}
        overlay = {"trainer": {"strategy": strategy, "devices": 2}}
        (folder / f"zero-{stage}.yaml").write_text(yaml.safe_dump(overlay))
    for name, devices in (("auto", 1), ("ddp", 2), ("fsdp2", 2)):
        overlay = {"trainer": {"strategy": name, "devices": devices}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(overlay))
    overlay = {"trainer": {"strategy": "fsdp2", "devices": 2, "precision": "bf16-mixed"}}
    (folder / "fsdp2-bf16.yaml").write_text(yaml.safe_dump(overlay))
    (folder / "model").symlink_to(tiny_model)
    return folder


def command(start, folder, strategy, trained):
    configs = ("configs/cold_start_p.yaml", start / "fit.yaml", start / f"{strategy}.yaml")
    return [
        "fit",
        *(part for config in configs for part in ("--config", str(config))),
        *("--model.weights", str(start / "model"), "--data.weights", str(start / "model")),
        *("--data.corpus.path", str(start / "rows.jsonl"), *TRAINED[trained]),
        *("--trainer.default_root_dir", str(folder)),
    ]


def fit(start, folder, strategy, trained, *more, name=None):
    """The exported weights, and what the command said."""
    arguments = [*command(start, folder, strategy, trained), *more]
    ended = forked.run(arguments, ENVIRONMENT, ranks=1 if strategy == "auto" else 2)
    assert ended.returncode == 0, ended.stderr
    return load_file(folder / "weights" / (name or NAMES[trained])), ended.stderr


def fitted(start, strategy, trained):
    """The weights of a fit that nobody disturbed, once for all tests."""
    folder = start / f"{strategy}-{trained}"
    if not folder.exists():
        fit(start, folder, strategy, trained)
    return load_file(folder / "weights" / NAMES[trained])


def logged(start, strategy, trained):
    """What each step logged, by quantity."""
    [version] = (start / f"{strategy}-{trained}" / "lightning_logs").iterdir()
    events = EventAccumulator(str(version))
    events.Reload()
    names = ("loss", "rationale_nll", "problem_nll", "grad_norm", "skipped_steps")
    return {name: [event.value for event in events.Scalars(f"m_step/{name}")] for name in names}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "trained"),
    [
        ("ddp", "all"),
        ("fsdp2", "all"),
        ("fsdp2", "dora"),
        pytest.param("zero-1", "all", marks=needs_deepspeed),
        pytest.param("zero-2", "all", marks=needs_deepspeed),
        pytest.param("zero-3", "all", marks=needs_deepspeed),
        pytest.param("zero-3", "adapter", marks=needs_deepspeed),
    ],
)
def test_two_processes_step_by_the_gradient_of_one(start, strategy, trained):
    one, two = (fitted(start, name, trained) for name in ("auto", strategy))
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert_close(two[name], value, atol=2e-5, rtol=1e-5)
    moved = load_file(start / "model" / "model.safetensors") if trained == "all" else {}
    assert not any(torch.equal(one[name], value) for name, value in moved.items())
    assert all(value.any() for value in one.values())
    losses = logged(start, "auto", trained)
    assert len(losses["loss"]) == 6  # eight rows in steps of three, twice
    assert losses["skipped_steps"] == [0, 0, 1, 1, 1, 1]
    norms = losses["grad_norm"]
    assert [math.isfinite(norm) for norm in norms] == [step != BAD for step in range(6)]
    assert trained != "all" or min(norms[:BAD] + norms[BAD + 1 :]) > 10 * CLIP
    for name, values in logged(start, strategy, trained).items():
        if name == "grad_norm":  # DeepSpeed calls infinite what is not a number
            assert not math.isfinite(values[BAD])
            values[BAD] = norms[BAD]
        assert values == pytest.approx(losses[name], rel=1e-5, nan_ok=True), name


@pytest.mark.slow
def test_sharded_weights_are_sent_rounded_and_kept_as_they_are(start):
    exact, rounded = (fitted(start, name, "all") for name in ("auto", "fsdp2-bf16"))
    losses, noisy = (logged(start, name, "all")["loss"] for name in ("auto", "fsdp2-bf16"))
    assert noisy[:BAD] == pytest.approx(losses[:BAD], rel=0.02)
    assert noisy != pytest.approx(losses, rel=1e-5)
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32
        assert_close(rounded[name], value, atol=0.05, rtol=0.05)
    finest = {name: (value - value.bfloat16()).abs().max() for name, value in rounded.items()}
    assert all(finest.values())


@pytest.mark.slow
@needs_deepspeed
@pytest.mark.parametrize(("strategy", "trained"), [("zero-2", "adapter"), ("zero-3", "all")])
def test_deepspeed_in_bfloat16_begins_with_the_weights_as_they_are(
    start, tmp_path, strategy, trained
):
    begin = start / "model"
    if trained == "adapter":
        begin = save_tiny_adapter(begin, tmp_path / "adapter")
    still = ("--trainer.precision", "bf16-mixed", "--model.optimizer.lr", "0")
    still += ("--trainer.gradient_clip_val", "null", "--model.weights", str(begin))
    found, _ = fit(start, tmp_path / "fit", strategy, "all", *still, name=NAMES[trained])
    given = load_file(begin / NAMES[trained])
    assert any(not torch.equal(value, value.bfloat16().float()) for value in given.values())
    for name, value in given.items():
        assert torch.equal(found[name], value), name


@pytest.mark.slow
@needs_deepspeed
def test_a_fit_that_was_killed_goes_on_bit_for_bit(start, tmp_path):
    strategy, trained = "zero-3", "adapter"
    expected = fitted(start, strategy, trained)
    saved = tmp_path / "progress" / "latest.json"
    forked.killed_when(saved, command(start, tmp_path, strategy, trained), ENVIRONMENT, ranks=2)
    found, said = fit(start, tmp_path, strategy, trained)
    assert "going on with the interrupted fit" in said
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
