"""Requests shared out over processes that have no vLLM, and iterators read side by side."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from promptcot.engines import VLLMEngine, vllm_process, vllm_processes
from promptcot.engines.auto_engine import _has_gpu
from promptcot.engines.child_environment import device_groups
from promptcot.engines.sharing import Share, Turns, dealt, equal_share, merged
from promptcot.engines.vllm_calls import Ask, Config, Generate, Measure, Stop, Take
from promptcot.engines.vllm_process import VLLMProcess
from promptcot.engines.vllm_processes import VLLMProcesses
from promptcot.engines.vllm_worker import serve
from promptcot.protocols import Request, Sampling

WORKER = '''
"""Answers with its own process id; a prompt that names a file is answered once that is there."""
import os, sys, time
from multiprocessing.connection import Connection
from promptcot.engines.sharing import Share, equal_share
from promptcot.engines.vllm_calls import Close, Done, Generate, Measure, Result, Stop, Take

def answer(call, config, connection):
    share, running = Share(connection), []
    room = min(config.max_in_flight, equal_share(len(call.requests), config.processes))
    while True:
        running += share.take(room - len(running), wait=not running)
        if share.is_stopped or not running:
            break
        for index in list(running):
            prompt = call.requests[index].prompt
            if not prompt or os.path.exists(prompt):
                running.remove(index)
                connection.send(Result(index, str(os.getpid())))
        time.sleep(0.001)
    connection.send(Done())

connection = Connection(int(sys.argv[1]))
config = connection.recv()
if os.environ["CUDA_VISIBLE_DEVICES"] == config.arguments.get("broken"):
    sys.exit("this GPU is broken")
if "broken" in config.arguments:
    time.sleep(60)
connection.send(Done())
while not isinstance(call := connection.recv(), Close):
    if isinstance(call, Generate) and any(r.prompt == "wrong" for r in call.requests):
        connection.send(ValueError("a prompt is wrong"))
    elif isinstance(call, Generate):
        answer(call, config, connection)
    elif isinstance(call, Measure):
        connection.send(Result(0, str(os.getpid())))
        connection.send(Done())
    elif not isinstance(call, Stop | Take):
        connection.send(Done())
'''


@pytest.fixture
def start(monkeypatch):
    """Opens processes of the above; ends them."""
    monkeypatch.setattr(vllm_process, "_RUN", WORKER)
    opened = []

    def start(count, max_in_flight=4, **arguments):
        config = Config("weights", False, max_in_flight, False, count, arguments)
        groups = [[number] for number in range(count)]
        opened.append(VLLMProcesses(config, groups, alone=True))
        return opened[-1]

    yield start
    for processes in opened:
        processes.close()


def asking(*prompts):
    return Generate(tuple(map(Request, prompts)), Sampling())


def is_gone(pid):
    return not Path(f"/proc/{pid}").exists()


def test_each_request_is_answered_once_and_every_process_has_its_share(start):
    processes = start(3)
    answers = list(processes.call(asking(*[""] * 30)))
    assert sorted(index for index, _ in answers) == list(range(30))
    assert {value for _, value in answers} <= set(map(str, processes.pids))
    assert list(processes.call(asking())) == []
    [(_, measurer)] = processes.call(Measure((Request(""),), 8))
    assert measurer == str(processes.pids[0])


def test_a_process_with_a_long_request_holds_up_none_of_the_others(start, tmp_path):
    later = tmp_path / "later"
    answers = start(2, max_in_flight=1).call(asking(str(later), *[""] * 20))
    assert sorted(next(answers)[0] for _ in range(20)) == list(range(1, 21))
    later.touch()
    assert [index for index, _ in answers] == [0]


def test_few_requests_are_split_evenly_though_one_process_could_hold_all(
    start, tmp_path, monkeypatch
):
    later, given = tmp_path / "later", []

    class Watched(VLLMProcess):
        def send(self, message):
            super().send(message)
            if isinstance(message, Take):
                given.append(message.indices)
                later.touch() if len(given) == 2 else None

    monkeypatch.setattr(vllm_processes, "VLLMProcess", Watched)
    list(start(2, max_in_flight=100).call(asking(*[str(later)] * 8)))
    assert sorted(given[:2]) == [(0, 2, 4, 6), (1, 3, 5, 7)]  # whoever asked first


def test_leaving_early_stops_all_and_the_next_call_is_answered(start, tmp_path):
    processes = start(2)
    left = processes.call(asking("", *[str(tmp_path / "never")] * 20))
    next(left)
    with pytest.raises(RuntimeError, match="in the middle of another call"):
        next(processes.call(asking("")))
    left.close()
    assert len(list(processes.call(asking(*[""] * 5)))) == 5


def interrupted(processes, monkeypatch, owner, name):
    """A call in which Ctrl-C is pressed where ``owner`` calls ``name``."""

    def press(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, press)
        with pytest.raises(KeyboardInterrupt):
            list(processes.call(asking("", "")))


def test_after_an_interrupt_no_request_is_lost_without_a_word(start, monkeypatch):
    processes = start(1)
    interrupted(processes, monkeypatch, vllm_processes, "merged")
    with pytest.raises(RuntimeError, match=r"answered 0 of 4 requests: open a new one"):
        list(processes.call(asking(*[""] * 4)))
    assert len(list(processes.call(asking(*[""] * 4)))) == 4


def test_an_interrupt_while_a_call_is_sent_ends_the_processes(start, monkeypatch):
    processes = start(2)
    interrupted(processes, monkeypatch, VLLMProcess, "send")
    with pytest.raises(RuntimeError, match="closed: open a new one"):
        next(processes.call(asking("")))


@pytest.mark.parametrize("content", ["{", "\xff"])
def test_a_damaged_tokenizer_is_told_and_not_a_traceback(tiny_model, tmp_path, content):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "tokenizer_config.json").write_bytes(content.encode("latin-1"))
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        ours.send(Config(str(folder), False, 1, False, 1, {}))
        serve(theirs)
        error = ours.recv()
    assert type(error) is ValueError
    assert f"the tokenizer of {folder} cannot be used" in str(error)


def test_a_mistake_is_raised_once_and_the_next_call_is_answered(start):
    processes = start(2)
    with pytest.raises(ValueError, match="a prompt is wrong"):
        list(processes.call(asking("", "wrong")))
    assert len(list(processes.call(asking(*[""] * 5)))) == 5


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_that_dies_is_named_and_takes_the_others_along(start, tmp_path):
    processes = start(2)
    answers = processes.call(asking("", *[str(tmp_path / "never")] * 20))
    next(answers)
    os.kill(processes.pids[1], signal.SIGKILL)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"process 2 of 2 \(devices=\[1\]\) died with .* -9"):
        list(answers)
    assert time.monotonic() - begin < 3
    assert all(map(is_gone, processes.pids))
    with pytest.raises(RuntimeError, match="closed: open a new one"):
        next(processes.call(asking("")))


def test_one_that_cannot_start_ends_all_at_once_with_its_log(start):
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=r"process 2 of 3 \(devices=\[1\]\) (.|\n)*is broken"):
        start(3, broken="1")
    assert time.monotonic() - begin < 20  # the others would have taken 60 seconds


def test_a_call_that_is_closed_half_way_does_not_end_as_if_it_were_complete(start, tmp_path):
    processes = start(2)
    answers = processes.call(asking("", *[str(tmp_path / "never")] * 20))
    next(answers)
    processes.close()
    with pytest.raises(RuntimeError, match="closed: open a new one"):
        list(answers)


def test_an_engine_that_would_begin_nothing_is_refused(tiny_model):
    pytest.importorskip("vllm")
    with pytest.raises(ValueError, match="max_in_flight=0: at least 1 request must be under way"):
        VLLMEngine(str(tiny_model), max_in_flight=0)


@pytest.mark.parametrize("hidden", ["", " ", "-1"])
def test_gpus_that_are_hidden_are_none(monkeypatch, tmp_path, hidden):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho GPU 0: A GPU\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert _has_gpu()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert not _has_gpu()


def test_turns_go_round_and_a_share_asks_once_at_a_time():
    assert list(dealt(7, 3)) == [0, 3, 6, 1, 4, 2, 5]
    turns = Turns(dealt(3, 1))
    assert [turns.take(2), turns.take(2), turns.take(2)] == [(0, 1), (2,), ()]
    assert [equal_share(count, 4) for count in (0, 1, 8, 9)] == [0, 1, 2, 3]
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        share = Share(theirs)
        assert share.take(3, wait=False) == share.take(3, wait=False) == ()
        assert ours.recv() == Ask(3)
        assert not ours.poll()
        ours.send(Take((4, 5)))
        assert share.take(3, wait=True) == (4, 5)
        ours.send(Take(()))
        assert share.take(1, wait=True) == ()
        assert ours.recv() == Ask(1)
        assert share.take(1, wait=True) == ()  # nothing is left, so it does not ask again
        assert not ours.poll()
        ours.send(Stop())
        assert share.take(1, wait=False) == ()
        assert share.is_stopped


def test_iterators_are_read_side_by_side_and_none_waits_for_the_reader():
    both = threading.Barrier(2, timeout=10)
    read = [threading.Event(), threading.Event()]

    def source(number):
        both.wait()
        yield from range(3)
        read[number].set()

    results = merged([source(0), source(1)], lambda: pytest.fail("they end by themselves"))
    first = next(results)
    assert all(event.wait(10) for event in read)
    assert sorted([first, *results]) == [0, 0, 1, 1, 2, 2]


def test_an_error_or_a_reader_that_leaves_stops_all():
    def endless(stopped):
        yield 1
        stopped.wait(10)

    def broken():
        yield 2
        raise KeyError("broken")

    stopped = threading.Event()
    with pytest.raises(KeyError, match="broken"):
        list(merged([endless(stopped), broken()], stopped.set))
    assert stopped.is_set()
    stopped.clear()
    with closing(merged([endless(stopped)], stopped.set)) as results:
        assert next(results) == 1
    assert stopped.is_set()


@pytest.mark.parametrize(
    ("devices", "processes", "each", "groups"),
    [
        (None, 1, 2, [None]),
        (None, 2, 1, [[0], [1]]),
        (None, 2, 2, [[0, 1], [2, 3]]),
        ([7], 1, 1, [[7]]),
        ([6, 4, 5, 7], 2, 2, [[6, 4], [5, 7]]),
    ],
)
def test_each_process_has_the_next_gpus(monkeypatch, devices, processes, each, groups):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = device_groups(devices, processes, each)
    assert [group and list(group) for group in found] == groups


@pytest.mark.parametrize(
    ("devices", "processes", "each", "sentence"),
    [
        ([0, 1, 2], 1, 2, r"devices=\[0, 1, 2\]: .*=1 with 2 .* of 2 different GPUs.* as many$"),
        ([0, 1, 2], 2, 2, r"=2 with 2 .* needs the numbers of 4 different GPUs"),
        ([0, 1, 2, 3], 1, 2, "give as many, or set data_parallel_size to 2"),
        ([0, 1], 1, 1, "set data_parallel_size to 2"),
        ([0, 0], 2, 1, "set data_parallel_size to 1"),
        ([-1], 1, 1, "counted from 0"),
        ([], 1, 1, "numbers of 1 different GPUs"),
        (None, 0, 1, "data_parallel_size=0.* at least 1"),
        (None, 4, 1, r"needs 4 GPUs, this process sees 3 \(CUDA_VISIBLE_DEVICES=4,5,6\)"),
    ],
)
def test_gpus_that_do_not_come_out_even_are_refused(
    monkeypatch, devices, processes, each, sentence
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    with pytest.raises(ValueError, match=sentence):
        device_groups(devices, processes, each)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert device_groups(None, 2, 1) == [None, None]
