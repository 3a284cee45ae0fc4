"""The overlays of configs/strategy, and what is said where a strategy cannot be had."""

import sys
from pathlib import Path

import pytest
import yaml

import cli
from modules.adapters import LoRA
from modules.strategies import check_strategy
from modules.zero import check_adapter, prepare

CHECKOUT = Path(__file__).parents[2]
OVERLAYS = sorted((CHECKOUT / "configs" / "strategy").glob("*.yaml"))
CLASSES = {
    "ddp": "DDPStrategy",
    "fsdp2": "FSDP2Strategy",
    "deepspeed_stage_2": "DeepSpeedStrategy",
    "deepspeed_stage_3": "DeepSpeedStrategy",
}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_each_overlay_completes_a_fit(overlay, monkeypatch, capsys):
    monkeypatch.chdir(CHECKOUT)
    configs = ("--config", "configs/e_step.yaml", "--config", str(overlay))
    adapter = ("--model.adapter.rank", "8", "--model.adapter.base", "bfloat16")
    monkeypatch.setattr(sys, "argv", ["cli.py", "fit", *configs, *adapter, "--print_config"])
    with pytest.raises(SystemExit) as ended:
        cli.train()
    assert not ended.value.code
    printed = capsys.readouterr().out
    config = yaml.safe_load(printed[printed.index("seed_everything:") :])
    assert config["trainer"]["strategy"]["class_path"].endswith("." + CLASSES[overlay.stem])
    assert config["trainer"]["gradient_clip_val"] == 1.0
    assert config["model"]["init_args"]["adapter"]["rank"] == 8
    assert config["model"]["init_args"]["adapter"]["target_modules"] == "all-linear"


def test_all_overlays_are_tested():
    assert {path.stem for path in OVERLAYS} == set(CLASSES)


def test_a_missing_deepspeed_is_told_with_its_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "deepspeed", None)
    with pytest.raises(ImportError, match=r"needs the package deepspeed.* pip install"):
        check_strategy("deepspeed_stage_2")
    check_strategy("fsdp2")


def test_an_adapter_is_refused_where_its_base_would_be_sliced(tiny_model):
    pytest.importorskip("deepspeed")
    from cpu_deepspeed import CPUDeepSpeed

    weights = str(tiny_model)
    with pytest.raises(ValueError, match=r"stage 3 cannot slice .* use --trainer\.strategy fsdp2"):
        check_adapter(CPUDeepSpeed(stage=3), weights, LoRA(base="nf4"))
    with pytest.raises(ValueError, match=r"DoRA measures whole .* use --trainer\.strategy fsdp2"):
        check_adapter(CPUDeepSpeed(stage=3), weights, LoRA(dora=True))
    check_adapter(CPUDeepSpeed(stage=3), weights, LoRA(base="bfloat16"))
    check_adapter(CPUDeepSpeed(stage=3), weights, None)
    check_adapter(CPUDeepSpeed(stage=2), weights, LoRA(base="nf4", dora=True))


def test_the_stage_that_shares_nothing_is_refused():
    pytest.importorskip("deepspeed")
    from cpu_deepspeed import CPUDeepSpeed

    with pytest.raises(ValueError, match=r"stage 0 shares nothing out.* --trainer\.strategy ddp"):
        prepare(CPUDeepSpeed(stage=0))
    prepare(CPUDeepSpeed(stage=1))
