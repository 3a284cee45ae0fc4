"""LoRA and QLoRA: what is trained, what is saved, and that both are as exact as the whole model."""

import json
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from peft import PeftModel
from quiet_fit import quiet_trainer
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from callbacks import ExportWeights, SaveProgress
from datamodules import ComposeDataModule
from modules import MStepModule
from modules.adapters import LoRA, trained
from promptcot.batches import pack
from promptcot.corpora import Corpus
from promptcot.tokens import Example

OPTIMIZER = partial(torch.optim.AdamW, lr=1e-2)
SMALL = LoRA(rank=4, alpha=8)
TOKENS = [tuple(range(start, start + 9 + start % 5)) for start in (5, 40, 90)]
EXAMPLES = [Example(tokens[:4], tokens[4:], (len(tokens) - 4,)) for tokens in TOKENS]
ROWS = [
    {"statement": "a" * n, "concepts": ["k", "l"], "rationale": "why " * n} for n in range(1, 9)
]


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return Corpus(str(path))


class Blow(Exception):
    """Ends a fit."""


class BlowAt(Callback):
    def __init__(self, number):
        self.number = number

    def on_train_batch_start(self, trainer, *_):
        if trainer.fit_loop.total_batch_idx == self.number:
            sizes = [path.stat().st_size for path in trainer.progress.glob("*.ckpt")]
            raise Blow(max(sizes, default=0))


def fit(weights, corpus, folder, adapter=SMALL, blow_at=-1, seed=1):
    """Two epochs of two steps, or the rest of them; the module that was trained."""
    torch.manual_seed(seed)
    module = MStepModule(str(weights), OPTIMIZER, adapter=adapter)
    saver = SaveProgress(every_n_steps=1)
    trainer = quiet_trainer(
        folder,
        precision="bf16-mixed" if adapter and adapter.base == "nf4" else "32-true",
        max_epochs=2,
        accumulate_grad_batches=2,
        gradient_clip_val=1.0,
        callbacks=[BlowAt(blow_at), ExportWeights(), saver],
    )
    trainer.progress = folder / "progress"
    data = ComposeDataModule(str(weights), corpus, batch_size=4)
    trainer.fit(module, data, ckpt_path=saver.resume(folder, CONFIG))
    return module


CONFIG = {"seed_everything": 1, "model": {}, "data": {}, "trainer": {}}


def logits(lm):
    with torch.no_grad():
        return lm(torch.tensor([TOKENS[0]])).logits


@pytest.mark.parametrize(("base", "dora"), [("float32", False), ("bfloat16", True)])
def test_only_float32_adapters_are_trained_and_the_base_stays(
    tiny_model, corpus, tmp_path, base, dora
):
    module = fit(tiny_model, corpus, tmp_path, LoRA(rank=4, alpha=8, base=base, dora=dora))
    start = load_file(tiny_model / "model.safetensors")
    names = trained(module)
    for name, value in module.named_parameters():
        assert (name in names) == ("lora_" in name)
        if name in names:
            assert value.dtype == torch.float32
        else:
            plain = name.removeprefix("policy.lm.base_model.model.").replace(".base_layer", "")
            assert torch.equal(value, start[plain].to(getattr(torch, base)))
    # A and B (and DoRA's lengths) of the seven matrices of two layers
    assert len(names) == (3 if dora else 2) * 7 * 2
    lora_b = [value for name, value in module.named_parameters() if "lora_B" in name]
    assert all(value.abs().sum() > 0 for value in lora_b)


def test_documents_in_one_row_do_not_see_each_other_through_an_adapter(
    tiny_model, corpus, tmp_path
):
    module = fit(tiny_model, corpus, tmp_path, LoRA(rank=4, alpha=64))
    alone = torch.cat([module.nll(pack([example])) for example in EXAMPLES])
    assert_close(module.nll(pack(EXAMPLES)), alone, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("base", ["float32", "nf4"])
def test_the_exported_folder_gives_peft_the_trainers_logits(tiny_model, corpus, tmp_path, base):
    module = fit(tiny_model, corpus, tmp_path, LoRA(rank=4, alpha=8, base=base))
    folder = tmp_path / "weights"
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert not (folder / "config.json").exists()
    settings = json.loads((folder / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tiny_model)
    kept = module.policy.lm.get_base_model().config
    plain = AutoModelForCausalLM.from_pretrained(
        tiny_model,
        dtype=module.policy.lm.dtype,
        quantization_config=getattr(kept, "quantization_config", None),
    )
    loaded = PeftModel.from_pretrained(
        plain, folder
    ).train()  # on a CPU bitsandbytes rounds in eval
    assert_close(logits(loaded), logits(module.policy.lm), atol=1e-6, rtol=1e-6)


def test_a_four_bit_base_learns_too(tiny_model, corpus, tmp_path):
    module = fit(tiny_model, corpus, tmp_path, LoRA(rank=4, alpha=8, base="nf4"))
    layer = module.policy.lm.get_decoder().layers[0].mlp.up_proj.base_layer
    assert layer.weight.dtype == torch.uint8
    assert layer.compute_dtype == torch.bfloat16
    batch = pack(EXAMPLES)
    with torch.no_grad():
        ours = module.nll(batch).mean()
        with module.policy.lm.disable_adapter():
            base = module.nll(batch).mean()
    assert (ours - base).abs() > 0.01


def test_an_adapters_folder_as_weights_is_trained_on(tiny_model, corpus, tmp_path):
    first = fit(tiny_model, corpus, tmp_path / "first")
    before = {name: value.clone() for name, value in first.named_parameters()}
    exported = tmp_path / "first" / "weights"
    for number, given in enumerate((None, SMALL)):
        module = MStepModule(str(exported), adapter=given)
        module.trainer = Trainer(accelerator="cpu", logger=False)
        module.configure_model()
        assert all(torch.equal(v, before[name]) for name, v in module.named_parameters())
        folder = tmp_path / f"second-{number}"
        second = fit(exported, corpus, folder, given)
        assert trained(second) == trained(first)
        now = dict(second.named_parameters())
        assert all(torch.equal(now[name], before[name]) == ("lora" not in name) for name in now)
        settings = json.loads((folder / "weights" / "adapter_config.json").read_text())
        assert settings["base_model_name_or_path"] == str(tiny_model)


@pytest.mark.parametrize("alpha", [0.0, -8.0, float("nan")])
def test_an_adapter_that_would_change_nothing_or_the_wrong_way_is_refused(alpha):
    with pytest.raises(ValueError, match=rf"adapter\.alpha={alpha}: it must be above 0"):
        LoRA(rank=4, alpha=alpha)


def test_another_rank_than_the_folders_is_refused(tiny_model, corpus, tmp_path):
    fit(tiny_model, corpus, tmp_path / "first")
    with pytest.raises(ValueError, match=r"has rank 4, but adapter\.rank is 8: set it to 4"):
        fit(tmp_path / "first" / "weights", corpus, tmp_path / "second", LoRA(rank=8, alpha=8))


def test_another_kind_than_the_folders_is_refused(tiny_model, corpus, tmp_path):
    fit(tiny_model, corpus, tmp_path / "first", LoRA(rank=4, alpha=8, dora=True))
    with pytest.raises(ValueError, match=r"has dora True, but adapter\.dora is False: set it to"):
        fit(tmp_path / "first" / "weights", corpus, tmp_path / "second")


def test_dropout_is_at_work_in_training_and_not_in_scoring(tiny_model, corpus, tmp_path):
    module = fit(tiny_model, corpus, tmp_path, LoRA(rank=4, alpha=64, dropout=0.5))
    batch = pack(EXAMPLES)
    assert module.policy.training
    assert not torch.equal(module.nll(batch), module.nll(batch))
    module.eval()
    assert torch.equal(module.nll(batch), module.nll(batch))


@pytest.mark.parametrize("base", ["float32", "nf4"])
def test_a_fit_with_dropout_that_was_cut_off_ends_with_the_same_adapter(
    tiny_model, corpus, tmp_path, base
):
    adapter = LoRA(rank=4, alpha=8, dropout=0.3, base=base, dora=base == "float32")
    calm = fit(tiny_model, corpus, tmp_path / "calm", adapter)
    expected = load_file(tmp_path / "calm" / "weights" / "adapter_model.safetensors")
    adapters = sum(v.nbytes for n, v in calm.named_parameters() if "lora_" in n)
    for number in (3, 4, 7):
        folder = tmp_path / f"cut-{number}"
        with pytest.raises(Blow) as blown:
            fit(tiny_model, corpus, folder, adapter, number)
        size = blown.value.args[0]
        assert size < 3 * adapters + 60_000  # what is trained, two moments of each, no base
        assert size > 0
        fit(tiny_model, corpus, folder, adapter, seed=number)
        found = load_file(folder / "weights" / "adapter_model.safetensors")
        assert all(torch.equal(found[name], expected[name]) for name in expected), number
