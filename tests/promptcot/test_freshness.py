"""An engine that does not hold the weights of its folder is found out before it is asked."""

import math
import shutil
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file

from promptcot.engines import HFEngine, ScriptedEngine
from promptcot.freshness import (
    Probe,
    check_freshness,
    read_probes,
    update_share,
    write_probes,
)
from promptcot.protocols import ScoreRequest, Target
from promptcot.recipes.asking import lazily

PROBES = [Probe("a", (1, 2), (-1.0, -1.1)), Probe("b", (3, 4), (-0.9, -1.0))]
"""The scripted engine says -1 of every token: the mean difference is 0.2 / 4 = 0.05."""


def test_what_was_written_is_read_again(tmp_path):
    assert read_probes(str(tmp_path)) is None
    assert read_probes("Qwen/Qwen2.5-7B") is None
    write_probes(tmp_path, PROBES, max_difference=0.3)
    found = read_probes(str(tmp_path))
    assert found.probes == tuple(PROBES)
    assert found.max_difference == 0.3


def test_the_mean_difference_of_a_token_is_what_counts(tmp_path):
    engine = ScriptedEngine()
    check_freshness(engine, str(tmp_path))
    write_probes(tmp_path, PROBES, max_difference=0.051)
    check_freshness(engine, str(tmp_path))
    write_probes(tmp_path, PROBES, max_difference=0.049)
    with pytest.raises(RuntimeError, match="over 4 tokens") as raised:
        check_freshness(engine, str(tmp_path))
    said = str(raised.value)
    assert str(tmp_path) in said
    assert "is -1.0000 nats, the trainer's -1.0000" in said
    assert "differ by 0.0500 on average, where max_difference is 0.049" in said


def test_a_value_that_is_no_number_is_a_difference(tmp_path):
    write_probes(tmp_path, [Probe("a", (1,), (math.nan,))])
    with pytest.raises(RuntimeError, match="differ by nan"):
        check_freshness(ScriptedEngine(), str(tmp_path))


def test_an_engine_is_checked_when_it_is_opened_and_closed_when_it_fails(tmp_path):
    closed = []

    class Stale(ScriptedEngine):
        def close(self):
            closed.append(self)

    write_probes(tmp_path, PROBES, max_difference=0.01)
    with (
        pytest.raises(RuntimeError, match="does not hold the weights of that folder"),
        lazily(Stale, str(tmp_path)) as engine,
    ):
        engine()
    assert len(closed) == 1


def test_a_file_that_holds_no_probes_is_named(tmp_path):
    (tmp_path / "probes.json").write_text('{"probes": []}')
    with pytest.raises(ValueError, match=r"probes.json holds no probes .*export the weights again"):
        check_freshness(ScriptedEngine(), str(tmp_path))
    with pytest.raises(ValueError, match="2 target tokens and 1 log-probabilities"):
        Probe("a", (1, 2), (-1.0,))
    with pytest.raises(ValueError, match="0 probes"):
        write_probes(tmp_path, [])


def test_an_update_smaller_than_rounding_shows_in_the_slope_over_many_tokens():
    draw = Random(0).gauss
    old = [draw(-2, 1) for _ in range(500)]
    new = [value + draw(0, 0.02) for value in old]  # rounding is twice as large
    rounded_new, rounded_old = ([value + draw(0, 0.04) for value in by] for by in (new, old))
    fresh, error = update_share(rounded_new, new, old)
    stale, _ = update_share(rounded_old, new, old)
    assert fresh == pytest.approx(1, abs=4 * error)
    assert stale == pytest.approx(0, abs=4 * error)
    assert error == pytest.approx(0.04 / 0.02 / 500**0.5, rel=0.1)
    assert update_share([-1.0, -2.0], [-1.0, -2.0], [-2.0, -2.0]) == (1.0, 0.0)
    assert update_share([-1.0, -2.0], [-1.0, -2.0], [-1.0, -2.0])[1] == math.inf


def test_an_engine_with_the_weights_of_the_round_before_is_found_out(tiny_model, tmp_path):
    # The update moves a token by a hundredth of what max_difference forgives.
    after = tmp_path / "after"
    shutil.copytree(tiny_model, after)
    state = load_file(after / "model.safetensors")
    for value in state.values():
        value += 3e-4 * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    save_file(state, after / "model.safetensors", {"format": "pt"})
    texts = ("a text", "of a hundred letters, more or less, so that there is something to see")
    requests = [ScoreRequest(texts[0], Target(((tuple(map(ord, texts[1])),),), ends=False))]
    found = {}
    for folder in (tiny_model, after):
        engine = HFEngine(str(folder), dtype="float32", device="cpu")
        [(_, [logprobs])] = engine.score(requests)
        found[folder] = logprobs
    target = tuple(map(ord, texts[1]))
    write_probes(after, [Probe(texts[0], target, found[after], found[tiny_model])])
    check_freshness(HFEngine(str(after), dtype="float32", device="cpu"), str(after))
    check_freshness(HFEngine(str(after), dtype="bfloat16", device="cpu"), str(after))
    stale = HFEngine(str(tiny_model), dtype="float32", device="cpu")
    with pytest.raises(RuntimeError, match=r"still holds the weights of before: .* shows 0%"):
        check_freshness(stale, str(after))
