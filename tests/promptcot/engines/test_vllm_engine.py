"""The vLLM engine against plain transformers, and what happens when a process dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from array import array
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from promptcot.engines.child_environment import child_environment
from promptcot.engines.vllm_calls import Generate, Generation, own_seed
from promptcot.engines.vllm_engine import VLLMEngine
from promptcot.protocols import Engine, Request, Sampling, ScoreRequest, Target
from promptcot.tokens import Vocabulary, encode, in_chat

CHECKOUT = Path(__file__).parents[3]
PROMPTS = (
    "The capital of France is",
    "Two plus two is four. Three plus three is",
    "Once upon a time there was a",
)
LONG_AND_SHORT = (*[Request("Hi")] * 3, Request("What is the capital of France?"))
"""Greedily: the last ends at once, the others never do."""
RANK_OF_A_LAUNCHER = {
    "RANK": "3",
    "LOCAL_RANK": "3",
    "NODE_RANK": "0",
    "WORLD_SIZE": "8",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
    "TORCHELASTIC_RUN_ID": "none",
    "OMP_NUM_THREADS": "1",
}


def vllm(test):
    installed = pytest.mark.skipif(
        find_spec("vllm") is None, reason="vLLM is not installed: make setup installs it"
    )
    return pytest.mark.vllm(pytest.mark.timeout(180)(installed(test)))


def open_engine(weights: Path, **arguments) -> VLLMEngine:
    import torch

    dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    settings = {"dtype": dtype, "max_model_len": 512, "max_in_flight": 8} | arguments
    return VLLMEngine(str(weights), gpu_memory_utilization=0.3, **settings)


@pytest.fixture(scope="module")
def engine(embedded_weights):
    """One engine for all, opened by what looks like rank 3 of 8."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in RANK_OF_A_LAUNCHER.items():
            patch.setenv(name, value)
        before = dict(os.environ)
        opened = open_engine(embedded_weights)
        assert dict(os.environ) == before
    with closing(opened):
        yield opened


@pytest.fixture(scope="module")
def model(embedded_weights):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(embedded_weights, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer(embedded_weights):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(embedded_weights)


def generate(engine, prompts, seed=0, **sampling):
    requests = [Request(prompt, seed) for prompt in prompts]
    return [value for _, value in sorted(engine.generate(requests, Sampling(**sampling)))]


def logprobs_of(model, example):
    """Log-probability of every target token, by one plain forward pass."""
    import torch

    with torch.no_grad():
        logits = model(torch.tensor([example.tokens])).logits[0].float()
    before = logits[len(example.prompt) - 1 : -1].log_softmax(-1)
    return before[range(len(example.target)), example.target].tolist()


def mean_distance(ours, theirs):
    assert len(ours) == len(theirs)
    return sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(ours)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@vllm
def test_it_is_an_engine(engine):
    assert isinstance(engine, Engine)
    assert list(engine.batches(2)) == [range(0, 1), range(1, 2)]


@vllm
def test_greedy_text_is_that_of_transformers(engine, model, tokenizer):
    import torch

    for prompt, [completion] in zip(
        PROMPTS, generate(engine, PROMPTS, temperature=0, max_tokens=16), strict=True
    ):
        tokens = torch.tensor([tokenizer(prompt)["input_ids"]])
        sampled = model.generate(tokens, do_sample=False, max_new_tokens=16)[0, tokens.shape[1] :]
        assert completion.text == tokenizer.decode(sampled, skip_special_tokens=True)


@vllm
def test_scores_are_those_of_a_plain_forward_pass_segment_by_segment(engine, model, tokenizer):
    target = Target(((" Paris", "."), (" It lies on the river Seine",)))
    requests = [ScoreRequest(prompt, target) for prompt in PROMPTS]
    for index, segments in engine.score(requests):
        example = encode(tokenizer, PROMPTS[index], target)
        assert tuple(len(segment) for segment in segments) == example.segment_lengths
        expected = logprobs_of(model, example)
        assert mean_distance([p for segment in segments for p in segment], expected) < 0.05


@vllm
def test_sampled_logprobs_are_the_scores_of_the_same_tokens_at_any_temperature(engine):
    prompts = (*PROMPTS, "What is the capital of France?")
    sampling = {"n": 4, "temperature": 0.8, "top_p": 0.9, "max_tokens": 24}
    sampled = generate(engine, prompts, **sampling)
    assert any(completion.finished for completion in sampled[-1])
    for prompt, completions in zip(prompts, sampled, strict=True):
        for completion in completions:
            target = Target(((completion.tokens,),), ends=completion.finished)
            [(_, [scored])] = engine.score([ScoreRequest(prompt, target)])
            assert mean_distance(completion.logprobs, scored) < 0.05


@vllm
def test_the_end_token_is_scored_but_neither_in_the_tokens_nor_in_the_text(engine, tokenizer):
    [[answered], [cut]] = generate(
        engine,
        ["Answer with one word: yes or no?\nyes", "The capital of France is"],
        temperature=0,
        max_tokens=16,
    )
    assert answered.finished
    assert answered.text == tokenizer.decode(answered.tokens)
    assert tokenizer.eos_token_id not in answered.tokens
    assert len(answered.logprobs) == len(answered.tokens) + 1
    assert not cut.finished
    assert len(cut.logprobs) == len(cut.tokens) == 16
    assert (answered.finish_reason, cut.finish_reason) == ("stop", "length")
    assert answered.completion_tokens == len(answered.logprobs)
    assert cut.completion_tokens == 16
    assert cut.prompt_tokens == len(tokenizer("The capital of France is")["input_ids"])


@vllm
def test_four_completions_are_four_and_depend_on_the_request_alone(engine):
    [first] = generate(engine, PROMPTS[:1], n=4, max_tokens=12)
    assert len({completion.tokens for completion in first}) == 4
    alone, among_others = (
        generate(engine, PROMPTS[:1], n=4, max_tokens=12),
        generate(engine, PROMPTS, n=4, max_tokens=12),
    )
    assert [c.tokens for c in alone[0]] == [c.tokens for c in first]
    assert [c.tokens for c in among_others[0]] == [c.tokens for c in first]
    [neighbour] = generate(engine, PROMPTS[:1], seed=1, n=4, max_tokens=12)
    assert not {c.tokens for c in first} & {c.tokens for c in neighbour}


@vllm
def test_requests_that_the_context_cannot_hold_are_named_with_their_length(engine):
    requests = [Request("a"), Request("a " * 600), ScoreRequest("a", Target((("b " * 600,),)))]
    found = engine.overlong(requests, max_tokens=8)
    assert found.keys() == {1, 2}
    assert "and 8 to write, the context holds 511" in found[1]


@vllm
def test_prompts_that_one_step_cannot_read_whole_are_sampled_with_their_seeds(embedded_weights):
    # Some 280 tokens each, of which a step reads 1,024: the fourth falls into two steps.
    requests = [Request(f"Item {number}: " + "one two three " * 90, number) for number in range(6)]
    narrow = open_engine(
        embedded_weights, max_in_flight=64, options={"max_num_batched_tokens": 1024}
    )
    with closing(narrow):
        assert sorted(dict(narrow.generate(requests, Sampling(max_tokens=4)))) == list(range(6))


@vllm
def test_requests_beyond_those_in_flight_get_their_turn_each_once(engine):
    requests = [Request(f"Item {number}:", number) for number in range(20)]
    indices = [index for index, _ in engine.generate(requests, Sampling(max_tokens=4))]
    assert sorted(indices) == list(range(20))
    assert list(engine.generate([], Sampling())) == []


@vllm
def test_a_completion_is_handed_over_while_others_are_still_running(engine):
    requests = [Request("Hi"), *LONG_AND_SHORT]
    order = [
        index for index, _ in engine.generate(requests, Sampling(temperature=0, max_tokens=64))
    ]
    assert order.index(len(requests) - 1) < order.index(0)


@vllm
def test_an_iterator_left_early_ends_its_call_and_no_other(engine):
    requests = [Request(f"Item {number}:", number) for number in range(20)]
    left = engine.generate(requests, Sampling(max_tokens=40))
    next(left)
    with pytest.raises(RuntimeError, match="in the middle of another call"):
        next(engine.generate(requests, Sampling()))
    left.close()
    assert len(generate(engine, PROMPTS, max_tokens=2)) == 3


@vllm
def test_a_sequence_beyond_the_context_is_refused_before_anything_is_sampled(engine):
    too_long = "word " * 600
    with pytest.raises(ValueError, match=r"prompt 1 has 60\d tokens.* context of 511"):
        next(engine.generate([Request("short"), Request(too_long)], Sampling(max_tokens=4)))
    with pytest.raises(ValueError, match=r"sequence 0 has 60\d tokens"):
        next(engine.score([ScoreRequest("short", Target(((too_long,),)))]))
    with pytest.raises(ValueError, match="prompt 0 has no tokens"):
        next(engine.generate([Request("")], Sampling(max_tokens=4)))
    assert len(generate(engine, PROMPTS, max_tokens=2)) == 3


@vllm
def test_a_sequence_that_fills_the_context_can_be_sampled_and_scored(engine):
    prompt = "word " * 480
    [[completion]] = generate(engine, [prompt], temperature=0, max_tokens=511 - 481)
    target = Target(((completion.tokens,),), ends=completion.finished)
    [(_, [scored])] = engine.score([ScoreRequest(prompt, target)])
    assert mean_distance(completion.logprobs, scored) < 0.05


@vllm
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_is_no_rank_of_the_launcher(engine):
    environment = Path(f"/proc/{engine._processes.pids[0]}/environ").read_text().split("\0")
    names = {entry.partition("=")[0] for entry in environment}
    assert not names & set(RANK_OF_A_LAUNCHER)
    assert "VLLM_NO_USAGE_STATS" in names


def test_only_a_single_openmp_thread_is_taken_back(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert child_environment(alone=True)["OMP_NUM_THREADS"] == "6"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS" not in child_environment(alone=True)


@pytest.mark.parametrize(
    ("seen", "devices", "given"),
    [(None, [3], "3"), (None, [1, 0], "1,0"), ("4,5, 6", [2, 0], "6,4"), ("GPU-a", [0], "GPU-a")],
)
def test_gpus_are_counted_among_those_that_this_process_sees(monkeypatch, seen, devices, given):
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        assert "CUDA_VISIBLE_DEVICES" not in child_environment(alone=True)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    assert child_environment(alone=True, devices=devices)["CUDA_VISIBLE_DEVICES"] == given
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(ValueError, match=r"sees 2 GPUs .* there is no 2"):
        child_environment(alone=True, devices=[0, 2])


def test_neighbouring_seeds_share_no_stream():
    prompt = array("i", [5, 6])
    streams = {own_seed(seed, prompt) + k for seed in range(-50, 50) for k in range(64)}
    assert len(streams) == 100 * 64
    assert own_seed(0, prompt) != own_seed(0, array("i", [6, 5]))
    assert max(streams) < 2**63


def test_a_chat_prompt_is_one_message_of_the_user(tokenizer):
    call = Generate((Request("Hello"),), Sampling(max_tokens=8))
    work = Generation(call, Vocabulary(tokenizer, max_length=512, chat=True))
    assert tuple(work.sequences[0]) == in_chat(tokenizer, "Hello")
    assert tokenizer.decode(work.sequences[0].tolist()).endswith(
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


@vllm
def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        VLLMEngine(str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="holds no model"):
        VLLMEngine(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises((FileNotFoundError, ValueError), match="tokenizer"):
        VLLMEngine(str(tmp_path))


@vllm
def test_a_process_that_is_killed_half_way_is_reported_not_awaited(
    embedded_weights, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # what it drops there stays
    with closing(open_engine(embedded_weights)) as engine:
        results = engine.generate([Request("Item:", n) for n in range(40)], Sampling(max_tokens=40))
        next(results)
        os.kill(engine._processes.pids[0], signal.SIGKILL)
        begin = time.monotonic()
        with pytest.raises(RuntimeError, match=r"exit code -9(.|\n)*log") as raised:
            list(results)
        assert time.monotonic() - begin < 3
        assert "vllm" in str(raised.value).lower()
        with pytest.raises(RuntimeError, match="closed: open a new one"):
            next(engine.score([ScoreRequest("a", Target(((" b",),)))]))
        engine.close()


SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from promptcot.engines.vllm_engine import VLLMEngine
from promptcot.protocols import Request, Sampling

with ThreadPoolExecutor() as threads:  # a thread that ends must not take the engine along
    engine = threads.submit(VLLMEngine, sys.argv[1], max_model_len=512).result()
requests = [Request("Hi"), Request("What is the capital of France?")]
results = engine.generate(requests, Sampling(temperature=0, max_tokens=400))
next(results)
print(engine._processes.pids[0], flush=True)
list(results)
"""


@vllm
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_process_is_gone_soon_after_its_parent_was_killed(embedded_weights, tmp_path):
    command = [sys.executable, "-c", SCRIPT, str(embedded_weights)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_running(child)


@vllm
def test_closing_twice_is_safe_and_ends_the_process(engine, embedded_weights):
    """Last: it takes the engine of the others away."""
    pid = engine._processes.pids[0]
    engine.close()
    engine.close()
    assert not is_running(pid)
    with pytest.raises(RuntimeError, match="closed: open a new one"):
        next(engine.generate([Request("a")], Sampling()))
