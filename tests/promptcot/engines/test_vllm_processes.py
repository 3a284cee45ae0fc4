"""Two real vLLM processes that answer as one: on an adapter and its base, kept, killed."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny import save_tiny_adapter

from promptcot.engines import KeptEngine, VLLMEngine, vllm_processes
from promptcot.engines.vllm_calls import Take
from promptcot.engines.vllm_process import VLLMProcess
from promptcot.protocols import Engine, Request, Sampling, ScoreRequest, Target
from promptcot.recipes.asking import lazily

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        find_spec("vllm") is None, reason="vLLM is not installed: make setup installs it"
    ),
]
PROMPTS = ("The capital of France is", "Two plus two is", "Once upon a time", "Water boils at")
REQUESTS = [Request(prompt, seed) for prompt in PROMPTS for seed in range(3)]
SCORED = [ScoreRequest(prompt, Target(((" four.",), (" Paris.",)))) for prompt in PROMPTS]
OPEN = partial(
    VLLMEngine,
    dtype="float32",
    max_model_len=256,
    max_in_flight=3,
    gpu_memory_utilization=0.3,
    sleeps=True,
)


class Watched(VLLMProcess):
    """Writes down who was given what."""

    given: list[tuple[int, tuple[int, ...]]] = []  # noqa: RUF012

    def send(self, message):
        if isinstance(message, Take) and message.indices:
            self.given.append((self.pid, message.indices))
        super().send(message)


@pytest.fixture(scope="module")
def adapter(embedded_weights, tmp_path_factory):
    return save_tiny_adapter(embedded_weights, tmp_path_factory.mktemp("adapter"), std=0.04)


@pytest.fixture(scope="module")
def expected(adapter, embedded_weights):
    """What one process answers, on the adapter and on its base."""
    import torch

    if torch.cuda.device_count() == 1:
        pytest.skip("two processes need two GPUs, or none")
    found = {}
    with closing(OPEN(str(adapter))) as engine:
        for folder in (adapter, embedded_weights):
            engine.reload(str(folder))
            found[folder] = answers(engine)
    return found


@pytest.fixture(scope="module")
def engine(adapter, expected):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vllm_processes, "VLLMProcess", Watched)
        opened = OPEN(str(adapter), data_parallel_size=2)
    with closing(opened):
        yield opened


@pytest.fixture
def given(engine):
    Watched.given.clear()
    return Watched.given


def answers(engine):
    """Completions, greedy and sampled, token for token; and scores."""
    found = []
    for sampling in (Sampling(temperature=0, max_tokens=8), Sampling(n=2, max_tokens=8)):
        results = sorted(engine.generate(REQUESTS, sampling))
        assert [index for index, _ in results] == list(range(len(REQUESTS)))
        found.append([[c.tokens for c in completions] for _, completions in results])
    scores = sorted(engine.score(SCORED))
    assert [index for index, _ in scores] == list(range(len(SCORED)))
    return found, [p for _, segments in scores for segment in segments for p in segment]


def check(engine, expected):
    tokens, scores = answers(engine)
    assert tokens == expected[0]
    assert scores == pytest.approx(expected[1], abs=1e-3)


def test_two_processes_answer_token_for_token_as_one(engine, expected, adapter, given):
    assert isinstance(engine, Engine)
    check(engine, expected[adapter])
    assert {pid for pid, _ in given} == set(engine._processes.pids)
    assert sorted(engine.overlong([*REQUESTS, Request("a " * 300)])) == [len(REQUESTS)]


def test_a_prompt_beyond_the_context_is_refused_before_any_process_begins(engine, given):
    with pytest.raises(ValueError, match=r"prompt 12 has 30\d tokens.* context of 255"):
        list(engine.generate([*REQUESTS, Request("a " * 300)], Sampling(max_tokens=4)))
    assert given == []


def test_an_iterator_left_early_ends_the_call_in_every_process(engine, expected, adapter):
    left = engine.generate(REQUESTS, Sampling(max_tokens=40))
    next(left)
    with pytest.raises(RuntimeError, match="in the middle of another call"):
        next(engine.generate(REQUESTS, Sampling()))
    begin = time.monotonic()
    left.close()
    assert time.monotonic() - begin < 10
    check(engine, expected[adapter])


def test_kept_they_take_other_weights_and_sleep_in_between(
    engine, expected, adapter, embedded_weights
):
    pids = engine._processes.pids
    kept = KeptEngine(lambda _weights: engine)
    for folder in (adapter, embedded_weights, adapter):
        with lazily(kept, str(folder)) as opened:
            check(opened(), expected[folder])
        with pytest.raises(RuntimeError, match="is asleep and has no weights"):
            list(engine.score(SCORED))
    engine.wake()
    check(engine, expected[adapter])
    assert engine._processes.pids == pids


def test_one_that_is_killed_half_way_ends_the_call_and_the_other(engine):
    """Last: it takes the engine of the others away."""
    first, second = engine._processes.pids
    results = engine.generate(REQUESTS, Sampling(max_tokens=40))
    next(results)
    os.kill(second, signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"process 2 of 2 \(devices=\[1\]\) died with .* -9"):
        list(results)
    assert time.monotonic() - begin < 5
    assert not Path(f"/proc/{first}").exists()
    with pytest.raises(RuntimeError, match="closed: open a new one"):
        list(engine.score(SCORED))
    engine.close()
    engine.close()
