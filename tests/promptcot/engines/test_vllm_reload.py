"""Real vLLM that is given other weights in place: folders, adapters, and what withholds them."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from importlib.util import find_spec

import pytest
from tiny import save_tiny_adapter

from promptcot.engines import HFEngine, KeptEngine, VLLMEngine
from promptcot.engines.vllm_weights import lora_arguments
from promptcot.freshness import Probe, write_probes
from promptcot.protocols import Request, Sampling, ScoreRequest, Target
from promptcot.recipes.asking import lazily
from promptcot.tokens import encode_piece, end_token

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vLLM is not installed: make setup installs it"
    ),
]
TEXTS = (
    ("The capital of France is", " Paris. It lies on the river Seine."),
    ("Two plus two is", " four, and three plus three is six."),
)
REQUESTS = [ScoreRequest(prompt, Target(((text,),))) for prompt, text in TEXTS]
OPEN = partial(
    VLLMEngine,
    dtype="float32",
    max_model_len=256,
    max_in_flight=8,
    gpu_memory_utilization=0.3,
    sleeps=True,
)


@pytest.fixture(scope="module")
def other(embedded_weights, tmp_path_factory):
    """The embedded model with other weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("other")
    model = AutoModelForCausalLM.from_pretrained(embedded_weights, dtype=torch.bfloat16)
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.data.mul_(0.9)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(embedded_weights).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(embedded_weights, tmp_path_factory):
    """Two of one base; the second has the larger rank."""
    folder = tmp_path_factory.mktemp("adapters")
    return [
        save_tiny_adapter(embedded_weights, folder / str(seed), seed, rank, std=0.04)
        for seed, rank in enumerate((4, 8))
    ]


def scores(engine):
    return [value for _, [values] in sorted(engine.score(REQUESTS)) for value in values]


@pytest.fixture(scope="module")
def expected(embedded_weights, other, adapters):
    """Of each folder, by transformers."""
    found = {}
    for folder in (embedded_weights, other, *adapters):
        with closing(HFEngine(str(folder), dtype="float32", device="cpu")) as engine:
            found[folder] = scores(engine)
    return found


def distance(ours, theirs):
    return sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(theirs)


def test_one_process_takes_adapters_and_their_base_in_turn(
    embedded_weights, other, adapters, expected
):
    first, second = adapters
    assert distance(expected[first], expected[embedded_weights]) > 0.1
    assert distance(expected[first], expected[second]) > 0.1
    assert distance(expected[other], expected[embedded_weights]) > 0.1
    with closing(OPEN(str(first))) as engine:
        process = engine._processes.pids[0]
        assert distance(scores(engine), expected[first]) < 0.01
        for folder in (second, embedded_weights, first, embedded_weights):
            greedy = list(engine.generate([Request(TEXTS[0][0])], Sampling(1, 0.0, 1.0, 8)))
            engine.reload(str(folder))
            assert distance(scores(engine), expected[folder]) < 0.01, folder
            again = list(engine.generate([Request(TEXTS[0][0])], Sampling(1, 0.0, 1.0, 8)))
            assert again != greedy  # nothing of the old weights is left in a cache
        engine.sleep()
        with pytest.raises(RuntimeError, match=r"is asleep and has no weights: call wake\(\)"):
            scores(engine)
        engine.wake()
        assert distance(scores(engine), expected[embedded_weights]) < 0.01
        assert not engine.can_reload(str(other))  # a base is what it was opened with
        with pytest.raises(ValueError, match="another base"):
            engine.reload(str(other))
        with pytest.raises(FileNotFoundError, match="no model folder"):
            engine.reload("models/nowhere")
        assert engine._processes.pids[0] == process


def test_adapters_that_vllm_cannot_apply_are_refused_before_it_starts(tiny_model, tmp_path):
    adapter = save_tiny_adapter(tiny_model, tmp_path)
    assert lora_arguments(str(tiny_model)) == {}
    assert lora_arguments(str(adapter))["max_lora_rank"] == 8
    path = adapter / "adapter_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "rank_pattern": {"q_proj": 17}}))
    assert lora_arguments(str(adapter))["max_lora_rank"] == 32
    path.write_text(json.dumps({**settings, "r": 600}))
    with pytest.raises(ValueError, match="has rank 600, vLLM takes 512 at most"):
        lora_arguments(str(adapter))
    path.write_text(json.dumps({**settings, "modules_to_save": ["lm_head"]}))
    with pytest.raises(ValueError, match="changes lm_head, which vLLM cannot load"):
        lora_arguments(str(adapter))
    path.write_text(json.dumps({**settings, "use_dora": True}))
    with pytest.raises(ValueError, match="is a DoRA, which vLLM cannot apply: choose HFEngine"):
        lora_arguments(str(adapter))


class Withholding(VLLMEngine):
    """Says that it has taken the weights, and has not."""

    def reload(self, weights):
        self.weights, self._asleep = weights, False


@pytest.fixture
def probed(embedded_weights, other, expected, tmp_path):
    """Both folders with what a trainer in float32 makes of two sequences."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(embedded_weights)
    made = []
    for folder in (embedded_weights, other):
        copy = tmp_path / folder.name
        copy.mkdir()
        for file in folder.iterdir():
            (copy / file.name).symlink_to(file)
        rest = list(expected[folder])
        probes = []
        for prompt, text in TEXTS:
            target = (*encode_piece(tokenizer, text), end_token(tokenizer))
            probes.append(Probe(prompt, target, tuple(rest[: len(target)])))
            del rest[: len(target)]
        write_probes(copy, probes)
        made.append(copy)
    return made


def test_a_kept_engine_hands_the_update_over_and_is_found_out_where_it_does_not(
    probed, expected, adapters, embedded_weights, other
):
    before, after = probed
    two = (expected[embedded_weights], expected[other])
    with closing(KeptEngine(OPEN)) as kept:
        for folder, scored in zip((before, after, before), (*two, two[0]), strict=True):
            with lazily(kept, str(folder)) as engine:
                assert distance(scores(engine()), scored) < 0.01
        opened = kept._kept[0]
        assert opened.can_reload(str(after))
        assert not opened.can_reload(str(adapters[0]))  # it was opened without room for one
        with pytest.raises(ValueError, match=r"cannot take .* in its place"):
            opened.reload(str(adapters[0]))
        opened.__class__ = Withholding
        with (
            pytest.raises(RuntimeError, match=r"trainer's -\d+\.\d+; token by token they differ"),
            lazily(kept, str(after)) as engine,
        ):
            engine()
