"""An adapter's folder is as good as a model's: it loads, scores, and is told apart."""

import json
import shutil

import pytest
import torch
from tiny import save_tiny_adapter, save_tiny_model
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from promptcot.adapters import adapter_rank, base_of, is_adapter
from promptcot.engines import HFEngine
from promptcot.fingerprints import weights_fingerprint
from promptcot.protocols import ScoreRequest, Target
from promptcot.weights import architecture, check_weights, context_length


@pytest.fixture(scope="module")
def adapter(tiny_model, tmp_path_factory):
    return save_tiny_adapter(tiny_model, tmp_path_factory.mktemp("adapter"))


def test_the_engine_scores_as_peft_does_without_merging(adapter, tiny_model):
    from peft import PeftModel

    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), adapter)
    engine = HFEngine(str(adapter), dtype="float32", device="cpu")
    [(_, [ours])] = engine.score([ScoreRequest("hello", Target(((" you",),)))])
    tokens = [*map(ord, "hello you"), 0]
    with torch.no_grad():
        logprobs = plain(torch.tensor([tokens])).logits[0].log_softmax(-1)
    expected = logprobs[4:-1][range(5), tokens[5:]]
    assert_close(torch.tensor(ours), expected, atol=1e-4, rtol=1e-4)
    [(_, [without])] = HFEngine(str(tiny_model), "float32", "cpu").score(
        [ScoreRequest("hello", Target(((" you",),)))]
    )
    assert (torch.tensor(without) - expected).abs().mean() > 0.1


def test_it_has_the_length_and_the_architecture_of_its_base(adapter, tiny_model):
    check_weights(str(adapter))
    assert is_adapter(str(adapter))
    assert not is_adapter(str(tiny_model))
    assert base_of(str(adapter)) == str(tiny_model)
    assert adapter_rank(str(adapter)) == 4
    assert context_length(str(adapter)) == context_length(str(tiny_model)) == 2048
    assert architecture(str(adapter)) == architecture(str(tiny_model))


def test_it_is_named_by_its_weights_and_its_base_not_by_the_order_of_its_settings(
    adapter, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(adapter, copy)
    path = copy / "adapter_config.json"
    settings = json.loads(path.read_text())
    settings["target_modules"].reverse()  # a set of PEFT's: every process writes another order
    path.write_text(json.dumps(settings))
    (copy / "probes.json").write_text("{}")
    assert weights_fingerprint(str(copy)) == weights_fingerprint(str(adapter))
    settings["base_model_name_or_path"] = str(save_tiny_model(tmp_path / "other", seed=1))
    path.write_text(json.dumps(settings))
    assert weights_fingerprint(str(copy)) != weights_fingerprint(str(adapter))


def test_what_is_missing_of_it_is_named(adapter, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(adapter, copy)
    path = copy / "adapter_config.json"
    settings = json.loads(path.read_text())
    settings["base_model_name_or_path"] = str(tmp_path / "gone")
    path.write_text(json.dumps(settings))
    with pytest.raises(FileNotFoundError, match=r"base model of the adapter .*copy: .*gone"):
        check_weights(str(copy))
    (copy / "adapter_model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"without its weights \(no adapter_model"):
        check_weights(str(copy))


def test_weights_of_equal_shape_have_one_architecture_whatever_their_names(tiny_model, tmp_path):
    other = save_tiny_model(tmp_path / "other", seed=1)
    assert architecture(str(other)) == architecture(str(tiny_model))
    path = other / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "transformers_version": "1", "dtype": "bfloat16"}))
    assert architecture(str(other)) == architecture(str(tiny_model))
    path.write_text(json.dumps({**config, "num_hidden_layers": 3}))
    assert architecture(str(other)) != architecture(str(tiny_model))
    assert architecture("a/b") == architecture("a/b") != architecture("a/c")
