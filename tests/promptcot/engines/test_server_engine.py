"""The server engine against a server on loopback that misbehaves on request, and real vLLM's."""

from __future__ import annotations

import asyncio
import copy
import importlib.metadata
import importlib.util
import json
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tiny import save_tiny_adapter

from promptcot import tokens
from promptcot.corpora import Corpus
from promptcot.engines.hf_engine import HFEngine
from promptcot.engines.patient_client import check_base_url, is_loopback
from promptcot.engines.server_engine import ServerEngine
from promptcot.protocols import Completion, Engine, Request, Sampling, ScoreRequest, Target
from promptcot.recipes import Annotate, Distill
from promptcot.store import open_round, read_manifest, read_round
from promptcot.traces import TraceFilter

KEY = 'sk-never/"shown"-0123456789'
KEY_PARTS = ["sk-never", "shown", "0123456789"]
QUICK = {"backoff_s": 0.01, "timeout_s": 20.0}


class Call(BaseHTTPRequestHandler):
    """One request to the fake server; a behaviour answers it by its methods."""

    protocol_version = "HTTP/1.1"
    server: FakeServer

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        [message] = self.body.get("messages", [{"content": ""}])
        self.prompt = self.body.get("prompt") or message["content"]
        with self.server.counted(self):
            self.server.behave(self)

    def send(self, status: int, content: str | dict[str, Any], **headers: str) -> None:
        raw = content if isinstance(content, str) else json.dumps(content)
        self.send_response(status)
        length = headers.pop("length", None) or str(len(raw.encode()))
        for name, value in {"Content-Length": length, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with suppress(OSError):  # the client may have gone
            self.wfile.write(raw.encode())

    def chat(self, texts: list[str]) -> None:
        choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in texts]
        self.send(200, {"choices": choices})

    def right(self, n: int | None = None) -> None:
        """Say the prompt and each choice's seed, for as many choices as asked for."""
        count = self.body["n"] if n is None else n
        self.chat([f"{self.prompt}/{self.body['seed'] + k}" for k in range(count)])

    def log_message(self, *_: object) -> None:
        pass


class FakeServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, behave: Callable[[Call], None], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Call)
        self.behave = behave
        self.url = f"http://127.0.0.1:{self.server_port}/v1"
        self.calls: list[Call] = []
        self.tries: Counter[str] = Counter()
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        self.over = threading.Event()

    @contextmanager
    def counted(self, call: Call) -> Iterator[None]:
        with self.lock:
            # A copy: the handler itself lives on for the connection's next request.
            self.calls.append(copy.copy(call))
            self.tries[str(call.prompt)] += 1
            self.active += 1
            self.most_active = max(self.most_active, self.active)
        try:
            yield
        finally:
            with self.lock:
                self.active -= 1

    def handle_error(self, *_: object) -> None:
        """A client that has gone is no error here."""


@contextmanager
def served(behave: Callable[[Call], None], port: int = 0) -> Iterator[FakeServer]:
    with FakeServer(behave, port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def api_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def engine(server: FakeServer | str, **settings: Any) -> ServerEngine:
    url = server if isinstance(server, str) else server.url
    return ServerEngine("tiny", url, **{**QUICK, **settings})


def generate(
    server: FakeServer | str, prompts: list[str], n: int = 1, **settings: Any
) -> list[tuple[int, list[Completion]]]:
    requests = [Request(prompt, seed=10 * index) for index, prompt in enumerate(prompts)]
    return list(engine(server, **settings).generate(requests, Sampling(n=n)))


def failing(server: FakeServer | str, kind: type[Exception], **settings: Any) -> str:
    """The sentence of the error that one request ends with."""
    with pytest.raises(kind) as raised:
        generate(server, ["a"], **settings)
    return str(raised.value)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ----------------------------------------------------------------------- answers


def test_it_is_an_engine_of_the_protocol_and_closes_twice():
    subject = ServerEngine("tiny")
    assert isinstance(subject, Engine)
    assert list(subject.batches(2)) == [range(0, 1), range(1, 2)]
    subject.close()
    subject.close()


def test_each_request_is_answered_once_whatever_the_order():
    def slow_first(call: Call) -> None:
        if call.prompt == "p0":
            call.server.over.wait(0.3)
        call.right()

    with served(slow_first) as server:
        results = generate(server, [f"p{i}" for i in range(40)], n=2, concurrency=8)
    assert sorted(index for index, _ in results) == list(range(40))
    assert results[0][0] != 0
    for index, completions in results:
        assert [c.text for c in completions] == [f"p{index}/{10 * index + k}" for k in (0, 1)]
    assert set(server.tries.values()) == {1}


def test_results_come_while_others_are_under_way():
    def hang_on_second(call: Call) -> None:
        if call.prompt == "b":
            call.server.over.wait(20)
        call.right()

    with served(hang_on_second) as server:
        requests = [Request("a"), Request("b")]
        results = engine(server).generate(requests, Sampling())
        assert next(results)[0] == 0
        server.over.set()
        assert next(results)[0] == 1


@pytest.mark.parametrize("concurrency", [1, 5])
def test_the_limit_of_concurrency_is_reached_and_not_passed(concurrency: int):
    def slow(call: Call) -> None:
        time.sleep(0.03)
        call.right()

    with served(slow) as server:
        generate(server, ["p"] * 20, concurrency=concurrency)
    assert server.most_active == concurrency


def test_more_than_httpx_default_limit_of_a_hundred_connections():
    everyone = threading.Barrier(120)

    def wait_for_all(call: Call) -> None:
        everyone.wait(20)
        call.right()

    with served(wait_for_all) as server:
        assert len(generate(server, ["p"] * 120, concurrency=120, timeout_s=30)) == 120


def test_no_requests_ask_nothing():
    with served(Call.right) as server:
        assert generate(server, []) == []
    assert not server.calls


def test_everything_that_is_sampled_by_is_sent():
    with served(Call.right) as server:
        sampling = Sampling(n=2, temperature=0.5, top_p=0.9, max_tokens=7)
        list(engine(server).generate([Request("a", seed=3)], sampling))
    assert server.calls[0].path == "/v1/chat/completions"
    assert server.calls[0].body == {
        "model": "tiny",
        "messages": [{"role": "user", "content": "a"}],
        "n": 2,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 7,
        "seed": 3,
    }


def test_a_prompt_of_any_characters_arrives():
    prompt = 'é\u2028 "$x$" \U0001f600 \ud800 <|im_end|>'
    with served(Call.right) as server:
        generate(server, [prompt])
    assert server.calls[0].prompt == prompt


def test_extra_fields_are_added_and_null_takes_one_out():
    extra = {"top_k": 20, "max_tokens": None, "max_completion_tokens": 9}
    with served(Call.right) as server:
        generate(server, ["a"], extra_body=extra)
    body = server.calls[0].body
    assert (body["top_k"], body["max_completion_tokens"]) == (20, 9)
    assert "max_tokens" not in body


def test_the_model_is_called_by_its_name_where_that_differs_from_the_weights():
    with served(Call.right) as server:
        generate(server, ["a"], model="other")
    assert server.calls[0].body["model"] == "other"


@pytest.mark.parametrize("given", [1, 2, 9])
def test_missing_choices_are_asked_for_with_other_seeds(given: int):
    with served(lambda call: call.right(given)) as server:
        [(_, completions)] = generate(server, ["a"], n=5)
    assert [completion.text for completion in completions] == [f"a/{seed}" for seed in range(5)]
    assert [call.body["n"] for call in server.calls] == list(range(5, 0, -given))
    assert [call.body["seed"] for call in server.calls] == list(range(0, 5, given))


def test_reasoning_apart_and_the_account_come_with_the_text():
    message = {"content": "x", "reasoning_content": "hm"}
    usage = {"prompt_tokens": 5, "completion_tokens": 3}
    reply = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    with served(lambda call: call.send(200, reply)) as server:
        [(_, completions)] = generate(server, ["a"])
    assert completions == [Completion("x", True, (), (), "hm", "stop", 5, 3)]


def test_text_mode_asks_for_tokens_and_for_the_models_own_distribution():
    choice = {
        "text": " b c",
        "finish_reason": "stop",
        "token_ids": [5, 6, 2],
        "logprobs": {"token_logprobs": [-1.0, -0.5, -0.25]},
    }
    with served(lambda call: call.send(200, {"choices": [choice]})) as server:
        results = generate(server, ["a"], chat=False)
    [(_, [completion])] = results
    assert (completion.text, completion.finished) == (" b c", True)
    assert (completion.tokens, completion.logprobs) == ((5, 6), (-1.0, -0.5, -0.25))
    body = server.calls[0].body
    assert server.calls[0].path == "/v1/completions"
    assert body["prompt"] == "a"
    assert (body["logprobs"], body["return_token_ids"]) == (0, True)
    assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (-1, 0, 1)


def test_it_works_where_an_event_loop_runs_already():
    async def caller(server: FakeServer) -> list[tuple[int, list[Completion]]]:
        return generate(server, ["a"])

    with served(Call.right) as server:
        assert len(asyncio.run(caller(server))) == 1


# ----------------------------------------------------------------------- trouble


def test_429_is_asked_again_after_the_time_it_names():
    def busy_twice(call: Call) -> None:
        if call.server.tries[call.prompt] > 2:
            call.right()
        else:
            call.send(429, {"error": {"message": "slow down"}}, Retry_After="0.3")

    with served(busy_twice) as server:
        start = time.monotonic()
        assert len(generate(server, ["a"])) == 1
        took = time.monotonic() - start
    assert server.tries["a"] == 3
    assert 0.6 <= took < 6


def test_429_that_asks_for_a_day_is_not_waited_for():
    with served(lambda call: call.send(429, "", Retry_After="86400")) as server:
        said = failing(server, RuntimeError)
    assert "was tried once" in said
    assert "asks to wait 86400 s" in said


@pytest.mark.parametrize("max_retries", [0, 3])
def test_500_for_ever_is_a_sentence_in_the_end(max_retries: int):
    with served(lambda call: call.send(500, {"error": {"message": "CUDA error"}})) as server:
        start = time.monotonic()
        said = failing(server, RuntimeError, max_retries=max_retries)
        assert time.monotonic() - start < 6
    assert server.tries["a"] == max_retries + 1
    times = "once" if max_retries == 0 else "4 times"
    assert said == (
        f"request 0: POST {server.url}/chat/completions was tried {times}, last: status 500: "
        "CUDA error: look into the server's log, or raise max_retries or backoff_s"
    )


NONSENSE = {
    "HTML": "<html><b>It works!</b></html>",
    "cut-off JSON": '{"choices": [{"message": {"conte',
    "deep JSON": "[" * 100_000,
    "nothing": "",
    "no choices": '{"choices": []}',
    "an error with status 200": '{"error": {"message": "upstream"}}',
    "null content": '{"choices": [{"message": {"content": null}}]}',
    "no message": '{"choices": [{"finish_reason": "stop"}]}',
}


@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_tried_a_few_times_and_then_shown(body: str):
    with served(lambda call: call.send(200, body)) as server:
        said = failing(server, RuntimeError)
    assert server.tries["a"] == 4
    assert "4 times" in said
    assert (body or "nothing")[:100] in said
    assert "base_url" in said
    assert len(said) < 900


def test_nonsense_once_does_no_harm():
    def nonsense_once(call: Call) -> None:
        if call.server.tries[call.prompt] == 1:
            call.send(200, "<html>")
        else:
            call.right()

    with served(nonsense_once) as server:
        assert len(generate(server, ["a", "b"])) == 2
    assert server.tries == {"a": 2, "b": 2}


def test_a_server_that_hangs_is_left_after_the_timeout():
    with served(lambda call: call.server.over.wait(10)) as server:
        start = time.monotonic()
        said = failing(server, ConnectionError, timeout_s=0.3, max_retries=1)
        assert 0.6 <= time.monotonic() - start < 6
    assert "no answer within 0.3 s" in said
    assert "raise timeout_s" in said
    assert server.tries["a"] == 2


def test_a_server_that_trickles_is_left_after_the_timeout_too():
    def trickle(call: Call) -> None:
        call.send(200, "", length="1000")
        with suppress(OSError):
            while not call.server.over.wait(0.05):
                call.wfile.write(b" ")

    with served(trickle) as server:
        start = time.monotonic()
        failing(server, ConnectionError, timeout_s=0.3, max_retries=0)
        assert time.monotonic() - start < 6


def drop(call: Call) -> None:
    call.close_connection = True


def cut(call: Call) -> None:
    call.send(200, '{"choices"', length="1000")
    call.close_connection = True


@pytest.mark.parametrize("misbehave", [drop, cut])
def test_a_closed_connection_is_tried_again(misbehave: Callable[[Call], None]):
    def once(call: Call) -> None:
        misbehave(call) if call.server.tries[call.prompt] == 1 else call.right()

    with served(once) as server:
        assert len(generate(server, ["a"])) == 1
    assert server.tries["a"] == 2
    with served(misbehave) as server:
        assert "RemoteProtocolError" in failing(server, ConnectionError, max_retries=2)
    assert server.tries["a"] == 3


def test_a_server_that_is_not_there():
    url = f"http://127.0.0.1:{free_port()}/v1"
    said = failing(url, ConnectionError, max_retries=2)
    assert url in said
    assert "3 times" in said
    assert "start the server there, or set base_url" in said


def test_a_host_that_is_not_there():
    said = failing("http://host.invalid/v1", ConnectionError, max_retries=1)
    assert "http://host.invalid/v1" in said


def test_a_server_that_comes_up_late_is_waited_for():
    port = free_port()
    results: list[object] = []

    def ask() -> None:
        results.extend(generate(f"http://127.0.0.1:{port}/v1", ["a"], backoff_s=0.2))

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.3)
    with served(Call.right, port):
        waiting.join(20)
    assert len(results) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_final_and_in_the_servers_words(status: int):
    with served(lambda call: call.send(status, {"error": {"message": "because"}})) as server:
        said = failing(server, ValueError)
    assert server.tries["a"] == 1
    assert f"status {status}: because" in said


def refuse_bad(call: Call) -> None:
    if "bad" in call.prompt:
        call.send(400, {"error": {"message": "against the rules"}})
    else:
        call.right()


def test_as_many_refusals_as_are_allowed_are_completions_that_were_cut_off(caplog):
    prompts = ["a", "bad 1", "b", "bad 2"]
    refused = Completion("", finished=False, finish_reason="refused")
    with served(refuse_bad) as server:
        found = dict(generate(server, prompts, n=2, max_refused=2, concurrency=1))
        assert found[1] == found[3] == [refused, refused]
        assert [completion.text for completion in found[2]] == ["b/20", "b/21"]
        assert server.tries["bad 1"] == 1
        assert "refused, number 2: request 3: POST" in caplog.text
        assert "against the rules" in caplog.text
        with pytest.raises(ValueError, match=r"request 3: .* max_refused \(now 1\)"):
            generate(server, prompts, max_refused=1, concurrency=1)


def test_a_negative_number_of_refusals_is_refused():
    with pytest.raises(ValueError, match="max_refused=-1: give 0 or more"):
        engine("http://127.0.0.1:1/v1", max_refused=-1)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_refuses_whoever_asks_is_not_asked_on(status: int):
    with served(lambda call: call.send(status, "no")) as server:
        said = failing(server, ValueError, max_refused=5)
    assert f"status {status}: no" in said
    assert "max_refused" not in said


def test_a_prompt_that_is_too_long_is_named():
    def refuse_long(call: Call) -> None:
        if len(call.prompt) > 5:
            call.send(400, {"error": {"message": "maximum context length is 5 tokens"}})
        else:
            call.right()

    with (
        served(refuse_long) as server,
        pytest.raises(ValueError, match=r"request 2: .* maximum context length is 5 tokens"),
    ):
        generate(server, ["a", "b", "too long", "c"], concurrency=1)


def test_one_failure_cancels_the_rest_after_what_was_ready():
    def behave(call: Call) -> None:
        if call.prompt == "bad":
            call.server.over.wait(0.3)
            call.send(400, "no")
        elif call.prompt == "slow":
            call.server.over.wait(20)
        else:
            call.right()

    results: list[int] = []
    with served(behave) as server:
        start = time.monotonic()
        requests = [Request(p) for p in ["good", "slow", "bad", "good", "slow", *["never"] * 50]]
        subject = engine(server, concurrency=4, timeout_s=30)
        with pytest.raises(ValueError, match="request 2"):
            results.extend(i for i, _ in subject.generate(requests[:5], Sampling()))
        assert time.monotonic() - start < 6
        assert sorted(results) == [0, 3]
        with pytest.raises(ValueError, match="request 2"):
            list(engine(server, concurrency=3).generate(requests, Sampling()))
    assert server.tries["never"] < 50


def test_a_caller_who_stops_early_leaves_nothing_behind():
    def behave(call: Call) -> None:
        call.right() if call.prompt == "a" else call.server.over.wait(20)

    with served(behave) as server:
        start = time.monotonic()
        requests = [Request("a"), *[Request("b")] * 100]
        with closing(engine(server, concurrency=4).generate(requests, Sampling())) as results:
            assert next(results)[0] == 0
        assert time.monotonic() - start < 6
    assert len(server.calls) < 10
    assert not [t for t in threading.enumerate() if t.name == "promptcot-requests"]


# ----------------------------------------------------------------------- the key


def test_the_key_is_read_at_call_time(monkeypatch: pytest.MonkeyPatch):
    with served(Call.right) as server:
        subject = engine(server, api_key_env="OTHER_KEY")
        for value in ("first", "second", ""):
            monkeypatch.setenv("OTHER_KEY", value)
            list(subject.generate([Request("a")], Sampling()))
    sent = [call.headers["Authorization"] for call in server.calls]
    assert sent == ["Bearer first", "Bearer second", None]


def echo(status: int, **headers: str) -> Callable[[Call], None]:
    def behave(call: Call) -> None:
        key = call.headers["Authorization"].removeprefix("Bearer ")
        filler = "x" * 380  # so that the text's limit falls into the key
        call.send(status, {"error": {"message": f"bad key {key} {filler} {key}"}}, **headers)

    return behave


def echo_raw(call: Call) -> None:
    call.send(200, f"<html>{call.headers['Authorization']} {KEY}</html>")


def echo_location(call: Call) -> None:
    call.send(307, "", Location=f"http://elsewhere.invalid/?key={quote(KEY, safe='')}")


@pytest.mark.parametrize(
    "behave", [echo(401), echo(400), echo(500), echo(200), echo_raw, echo_location, drop]
)
def test_the_key_is_in_no_message_log_traceback_or_pickle(
    behave: Callable[[Call], None], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "httpcore")  # below that it logs the headers that servers send
    with served(behave) as server:
        subject = engine(server, max_retries=1)
        with pytest.raises((ValueError, RuntimeError, ConnectionError)) as raised:
            list(subject.generate([Request("a")], Sampling()))
    assert server.calls[0].headers["Authorization"] == f"Bearer {KEY}"
    error = raised.value
    frames = traceback.TracebackException.from_exception(error, capture_locals=True)
    # The last frame of the traceback is the test's own, with what it knows.
    ours = [line for line in frames.format() if "test_server_engine" not in line]
    shown = [
        str(error),
        repr(error.args),
        "".join(ours),
        caplog.text,
        repr(subject),
        str(vars(subject)),
        str([vars(value) for value in vars(subject).values() if hasattr(value, "__dict__")]),
        pickle.dumps(subject).decode("latin-1"),
        pickle.dumps(error).decode("latin-1"),
    ]
    for text in shown:
        assert not [part for part in KEY_PARTS if part in text]


def test_an_engine_survives_pickling():
    with served(Call.right) as server:
        subject = pickle.loads(pickle.dumps(engine(server)))
        assert len(list(subject.generate([Request("a")], Sampling()))) == 1


@pytest.mark.parametrize("value", [f"{KEY}\nX-Other: 1", f"{KEY} {KEY}", f"{KEY}é"])
def test_a_key_that_is_none_is_refused_unseen(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", value)
    with served(Call.right) as server:
        said = failing(server, ValueError)
    assert "OPENAI_API_KEY" in said
    assert KEY not in said
    assert not server.calls


def test_a_key_in_place_of_its_variables_name_is_refused_unseen():
    with pytest.raises(ValueError, match="never the key itself") as raised:
        ServerEngine("tiny", api_key_env=KEY)
    assert KEY not in str(raised.value)


def test_a_key_within_the_address_is_refused_unseen():
    for url in (f"http://me:{KEY[:8]}@host/v1", f"http://host/v1?key={KEY[:8]}"):
        with pytest.raises(ValueError, match="api_key_env") as raised:
            ServerEngine("tiny", url)
        assert KEY[:8] not in str(raised.value)


def test_a_redirect_is_not_followed():
    with served(Call.right) as other:
        to_other = {"Location": f"{other.url}/chat/completions"}
        with served(lambda call: call.send(307, "", **to_other)) as server:
            said = failing(server, ValueError)
    assert not other.calls
    assert other.url in said
    assert "set base_url" in said


def test_no_proxy_stands_before_loopback(monkeypatch: pytest.MonkeyPatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with served(Call.right) as server:
        assert len(generate(server, ["a"])) == 1
        assert len(generate(server.url.replace("127.0.0.1", "localhost"), ["a"])) == 1


def test_a_proxy_serves_other_hosts(monkeypatch: pytest.MonkeyPatch):
    with served(Call.right) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.server_port}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        generate("http://host.invalid/v1", ["a"])
    assert proxy.calls[0].path == "http://host.invalid/v1/chat/completions"


# ----------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("a.localhost", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("0.0.0.0", True),
        ("10.0.0.1", False),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool):
    assert is_loopback(f"http://{host}:8000/v1") is loopback


@pytest.mark.parametrize("url", ["", "host:8000/v1", "ftp://host/v1", "http://", "http://[::1"])
def test_an_address_that_is_none_is_refused(url: str):
    with pytest.raises(ValueError, match=r"base_url is .*: write http"):
        ServerEngine("tiny", url)


@pytest.mark.parametrize(
    "url",
    [
        f"http://user:{KEY}@127.0.0.1:80x/v1",
        f"http://user:{KEY}@[::1/v1",
        f"user:{KEY}@host/v1",
        f"http://host/v1?key={KEY}\n",
        f"http://host/v1#{KEY}",
    ],
)
def test_a_secret_in_an_address_is_never_shown_though_it_cannot_be_read(url: str):
    with pytest.raises(ValueError, match="user name, a query or a fragment") as raised:
        ServerEngine("tiny", url)
    assert KEY not in str(raised.value)


def test_a_port_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"base_url is 'http://127.0.0.1:99999/v1': write http"):
        ServerEngine("tiny", "http://127.0.0.1:99999/v1")


@pytest.mark.parametrize("charset", ["hex", "base64", "rot13", "idna", "undefined", "no-such"])
def test_a_body_is_read_whatever_encoding_its_header_names(charset: str):
    kind = {"Content_Type": f"application/json; charset={charset}"}

    def answer(call: Call) -> None:
        if len(call.server.calls) == 1:
            call.send(500, {"error": "busy"}, **kind)
        else:
            call.send(400, {"error": {"message": "no such model"}}, **kind)

    with served(answer) as server:
        said = failing(server, ValueError)
    assert "status 400: no such model" in said
    assert len(server.calls) == 2


def test_a_slash_at_the_end_of_the_address_does_no_harm():
    assert check_base_url("http://host:8000/v1/") == "http://host:8000/v1"


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="no model is named"):
        ServerEngine()
    with pytest.raises(ValueError, match="concurrency=0"):
        ServerEngine("tiny", concurrency=0)
    with pytest.raises(ValueError, match=r"extra_body=\{'stop': \{'a'\}\} is no JSON"):
        ServerEngine("tiny", extra_body={"stop": {"a"}})
    with pytest.raises(ValueError, match="max_retries=-1"):
        ServerEngine("tiny", max_retries=-1)


# ----------------------------------------------------------------------- scores

SCORE = ScoreRequest("a b", Target((("c ", "d"), ("e",))))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tokenizer of five words, "a" is 3, that ends with 2."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["?", "<s>", "</s>", "a", "b", "c", "d", "e"]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder = tmp_path_factory.mktemp("words")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="?")
    fast.save_pretrained(folder)
    return str(folder)


def test_scores_are_those_of_the_target_by_segment(words: str):
    def score(call: Call) -> None:
        rows = [{str(token): {"logprob": -float(token)}} for token in call.body["prompt"]]
        call.send(200, {"choices": [{"text": "", "prompt_logprobs": [None, *rows[1:]]}]})

    with served(score) as server:
        scores = list(engine(server, tokenizer=words).score([SCORE]))
    # a b | c d | e and the end token
    assert server.calls[0].body["prompt"] == [3, 4, 5, 6, 7, 2]
    assert scores == [(0, ((-5.0, -6.0), (-7.0, -2.0)))]


def test_text_mode_with_a_tokenizer_sends_token_ids(words: str):
    with served(lambda call: call.send(200, {"choices": [{"text": "c"}]})) as server:
        generate(server, ["a b"], chat=False, tokenizer=words)
    assert server.calls[0].body["prompt"] == [3, 4]


def test_what_is_too_long_is_known_with_a_tokenizer_and_the_context(words: str):
    subject = ServerEngine("tiny", chat=False, tokenizer=words, max_model_len=6)
    # a b | c d | e and the end token is 6, and the server writes one more; a b with 4 is 6.
    assert ServerEngine("tiny", tokenizer=words, max_model_len=7).overlong([SCORE]) == {}
    assert "6 tokens" in subject.overlong([SCORE])[0]
    assert subject.overlong([Request("a b")], 4) == {}
    assert "5 to write, the context holds 6" in subject.overlong([Request("a b")], 5)[0]
    assert ServerEngine("tiny").overlong([Request("a " * 999)], 9) == {}


def test_scores_need_a_tokenizer():
    with pytest.raises(ValueError, match="set tokenizer to the folder"):
        ServerEngine("tiny").score([SCORE])


def test_scores_need_a_server_that_gives_them(words: str):
    with (
        served(lambda call: call.send(200, {"choices": [{"text": "c"}]})) as server,
        pytest.raises(ValueError, match="set base_url to a vLLM server"),
    ):
        list(engine(server, tokenizer=words).score([SCORE]))
    assert len(server.calls) == 1


def test_a_target_after_an_empty_prompt_cannot_be_scored(words: str):
    with served(Call.right) as server, pytest.raises(ValueError, match="nothing predicts"):
        list(engine(server, tokenizer=words).score([ScoreRequest("", SCORE.target)]))


# ----------------------------------------------------------------------- other weights


def reloading(url: str, weights: Path, **settings: Any) -> ServerEngine:
    return ServerEngine(str(weights), url, "tiny", reloads=True, **settings)


def refused(behave: Callable[[Call], None], weights: Path) -> str:
    with served(behave) as server, pytest.raises(RuntimeError) as raised:
        reloading(server.url, weights)
    return str(raised.value)


def test_a_folder_is_loaded_at_the_servers_root_and_its_cache_emptied(tiny_model: Path):
    with served(lambda call: call.send(200, {"results": [None]})) as server:
        subject = reloading(server.url, tiny_model)
        subject.close()
    assert subject.model == "tiny"
    assert [call.path for call in server.calls] == ["/collective_rpc", "/reset_prefix_cache"]
    assert server.calls[0].body == {
        "method": "reload_weights",
        "kwargs": {"weights_path": str(tiny_model)},
    }


def test_an_adapter_gets_a_new_name_each_time_and_is_taken_away(tiny_model: Path, tmp_path: Path):
    adapter = save_tiny_adapter(tiny_model, tmp_path)
    with served(lambda call: call.send(200, "{}")) as server:
        subjects = [reloading(server.url, adapter) for _ in range(2)]
        subjects[0].close()
        subjects[0].close()
    loads = [c.body["lora_name"] for c in server.calls if c.path == "/v1/load_lora_adapter"]
    assert loads == [subject.model for subject in subjects]
    assert len(set(loads)) == 2
    assert server.calls[0].body["kwargs"] == {"weights_path": str(tiny_model)}
    assert server.calls[-1].path == "/v1/unload_lora_adapter"
    assert server.calls[-1].body == {"lora_name": loads[0]}


def test_a_server_that_cannot_load_weights_is_told_how_it_is_to_be_started(
    tiny_model: Path, tmp_path: Path
):
    adapter = save_tiny_adapter(tiny_model, tmp_path)

    def without(call: Call) -> None:
        call.send(404, {"detail": "Not Found"})

    assert "VLLM_SERVER_DEV_MODE=1 in its environment" in refused(without, tiny_model)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True in its" in refused(without, adapter)
    said = refused(lambda call: call.send(500, {"error": {"message": "no such file"}}), tiny_model)
    assert "/collective_rpc was refused, status 500: no such file: look into the" in said
    with pytest.raises(ConnectionError, match="brought no answer"):
        reloading(f"http://127.0.0.1:{free_port()}/v1", tiny_model)
    with pytest.raises(ValueError, match="no model is named: set model to the name under which"):
        ServerEngine(str(tiny_model), reloads=True)


# ----------------------------------------------------------------------- real vLLM

PROMPTS = ["The capital of France is", "def add(a, b):\n    return", "1, 2, 3, 4,"]
VLLM_SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "THP_MEM_ALLOC_ENABLE": "1",
    "TORCHDYNAMO_DISABLE": "1",  # as VLLMEngine does; 3 seconds at the first request
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else every vLLM of this machine takes the same core
    "VLLM_NO_USAGE_STATS": "1",
}
needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vllm is not installed"
)


def vllm_serve() -> list[str]:
    """The command ``vllm serve``, which asks for the version of "vllm" where that is "vllm-cpu"."""
    names = {distribution.name for distribution in importlib.metadata.distributions()}
    if "vllm" in names:
        return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve"]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model"]


@contextmanager
def vllm_served(
    weights: Path, log: Path, *flags: str, settings: Mapping[str, str] = VLLM_SETTINGS
) -> Iterator[str]:
    """Serve a folder on a free port as "tiny", until the block ends in whatever way."""
    port = free_port()
    command = [*vllm_serve(), str(weights), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--served-model-name", "tiny", "--dtype", "float32", "--max-model-len", "512"]
    command += ["--enforce-eager", "--gpu-memory-utilization", "0.3", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings, "VLLM_API_KEY": KEY},
            start_new_session=True,
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), opener.open(url, timeout=2):
            return
        time.sleep(0.5)
    pytest.fail(f"vllm serve did not come up:\n{log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(scope="module")
def vllm_url(embedded_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with vllm_served(embedded_weights, tmp_path_factory.mktemp("vllm") / "log") as url:
        yield url


class Oracle:
    """Plain transformers in float32."""

    def __init__(self, weights: Path) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.torch = torch
        self.tokenizer = AutoTokenizer.from_pretrained(weights)
        self.model = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()

    def forward(self, prompt: Sequence[int], target: Sequence[int]) -> Any:
        """Log-probabilities of the whole vocabulary before each target token."""
        with self.torch.no_grad():
            logits = self.model(self.torch.tensor([[*prompt, *target]])).logits[0]
        return logits.log_softmax(-1)[len(prompt) - 1 : -1]

    def logprobs(self, prompt: Sequence[int], target: Sequence[int]) -> list[float]:
        rows = self.forward(prompt, target)
        return [float(row[token]) for row, token in zip(rows, target, strict=True)]

    def greedy(self, prompt: Sequence[int], target: Sequence[int]) -> list[int]:
        """The likeliest token after each prefix of ``target``.

        It is ``target`` itself just where that is the greedy continuation, in one forward.
        """
        return list(self.forward(prompt, target).argmax(-1).tolist())

    def sampled(self, completion: Completion) -> list[int]:
        """The completion's tokens with its end token."""
        return [*completion.tokens, *[self.tokenizer.eos_token_id] * completion.finished]


@pytest.fixture(scope="module")
def oracle(embedded_weights: Path) -> Oracle:
    return Oracle(embedded_weights)


def mean_gap(ours: Any, theirs: Any) -> float:
    return sum(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / len(theirs)


@needs_vllm
@pytest.mark.vllm
@pytest.mark.parametrize("with_tokenizer", [True, False])
def test_vllm_greedy_is_transformers_greedy(
    vllm_url: str, embedded_weights: Path, oracle: Oracle, with_tokenizer: bool
):
    folder = str(embedded_weights) if with_tokenizer else ""
    subject = ServerEngine("tiny", vllm_url, chat=False, tokenizer=folder)
    requests = [Request(prompt) for prompt in PROMPTS]
    results = dict(subject.generate(requests, Sampling(temperature=0, max_tokens=24)))
    for index, prompt in enumerate(PROMPTS):
        [completion] = results[index]
        ids = oracle.tokenizer(prompt)["input_ids"]
        sampled = oracle.sampled(completion)
        assert len(sampled) == 24 or completion.finished
        assert sampled == oracle.greedy(ids, sampled)
        assert completion.text == oracle.tokenizer.decode(completion.tokens)
        assert mean_gap(completion.logprobs, oracle.logprobs(ids, sampled)) < 0.01


@needs_vllm
@pytest.mark.vllm
def test_vllm_scores_are_transformers_scores(vllm_url: str, embedded_weights: Path, oracle: Oracle):
    subject = ServerEngine("tiny", vllm_url, tokenizer=str(embedded_weights))
    requests = [
        ScoreRequest("The capital of France is", Target(((" Paris", "."), (" It is old.",)))),
        ScoreRequest("2 + 2 =", Target(((" 4",),), ends=False)),
        ScoreRequest("Say <|im_end|>.", Target((("<|im_start|> no", (5, 6, 7)),))),
    ]
    scores = dict(subject.score(requests))
    for index, request in enumerate(requests):
        example = tokens.encode(oracle.tokenizer, request.prompt, request.target)
        expected = oracle.logprobs(example.prompt, example.target)
        assert tuple(map(len, scores[index])) == example.segment_lengths
        gap = mean_gap([value for segment in scores[index] for value in segment], expected)
        assert gap < 0.05


@needs_vllm
@pytest.mark.vllm
def test_vllm_chat_is_transformers_with_the_chat_template(vllm_url: str, oracle: Oracle):
    prompt = "What is 2 + 2?"
    subject = ServerEngine("tiny", vllm_url)
    [(_, [completion])] = subject.generate(
        [Request(prompt)], Sampling(temperature=0, max_tokens=64)
    )
    text = oracle.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
    )
    ids = oracle.tokenizer(text, add_special_tokens=False)["input_ids"]
    sampled = oracle.tokenizer(completion.text, add_special_tokens=False)["input_ids"]
    sampled += [oracle.tokenizer.eos_token_id] * completion.finished
    assert sampled == oracle.greedy(ids, sampled)


@needs_vllm
@pytest.mark.vllm
@pytest.mark.parametrize("chat", [True, False])
def test_vllm_samples_n_and_the_same_again(
    vllm_url: str, embedded_weights: Path, oracle: Oracle, chat: bool
):
    subject = ServerEngine("tiny", vllm_url, chat=chat, tokenizer=str(embedded_weights))
    prompts = ["Once upon a time", "My favourite", "Why do"]
    requests = [Request(prompt, seed=7 * index) for index, prompt in enumerate(prompts)]
    sampling = Sampling(n=3, temperature=0.7, top_p=0.9, max_tokens=12)
    results = dict(subject.generate(requests, sampling))
    assert results == dict(subject.generate(requests, sampling))
    for index, completions in results.items():
        assert len(completions) == 3
        assert len({completion.text for completion in completions}) > 1
        for completion in [] if chat else completions:
            # at temperature 1, though sampled at another
            ids = tokens.encode_prompt(oracle.tokenizer, prompts[index])
            expected = oracle.logprobs(ids, oracle.sampled(completion))
            assert mean_gap(completion.logprobs, expected) < 0.01


@needs_vllm
@pytest.mark.vllm
def test_vllm_names_what_it_refuses(vllm_url: str, monkeypatch: pytest.MonkeyPatch):
    requests = [Request("a"), Request("a " * 600)]
    for chat in (True, False):
        subject = ServerEngine("tiny", vllm_url, chat=chat, concurrency=1)
        with pytest.raises(ValueError, match=r"request 1: .*status 400: .*512"):
            list(subject.generate(requests, Sampling(max_tokens=8)))
    said = failing(vllm_url, ValueError, model="other")
    assert "status 404" in said
    assert "`other` does not exist" in said
    monkeypatch.setenv("OPENAI_API_KEY", "wrong")
    assert "set the environment variable OPENAI_API_KEY" in failing(vllm_url, ValueError)


@needs_vllm
@pytest.mark.vllm
def test_a_served_teacher_annotates_and_every_problem_is_accounted_for(
    vllm_url: str, tmp_path: Path
):
    problems = tmp_path / "problems.jsonl"
    statements = ["What is 2 + 2?", "How many primes are below 10?", "Sort three numbers."]
    problems.write_text("".join(json.dumps({"statement": text}) + "\n" for text in statements))
    recipe = Annotate(
        Corpus(str(problems)),
        teacher="tiny",
        engine=partial(ServerEngine, base_url=vllm_url),
        num_concepts=2,
        sampling=Sampling(n=4, temperature=0.7, max_tokens=160),
    )
    with open_round(tmp_path / "r", recipe.settings()) as making:
        assert making is not None
        recipe.make(making)  # not make_round: so small a teacher may leave no row at all
    manifest = read_manifest(tmp_path / "r")
    assert manifest["rows"].get("rows", 0) + sum(manifest["dropped"].values()) == len(statements)
    for row in read_round(tmp_path / "r", "concepts"):
        assert len(row["completions"]) == 4


@needs_vllm
@pytest.mark.vllm
def test_a_served_teachers_traces_have_their_ends_and_tokens(vllm_url: str, tmp_path: Path):
    problems = tmp_path / "problems.jsonl"
    statements = ["What is 2 + 2?", "How many primes are below 10?", "Name three numbers."]
    problems.write_text("".join(json.dumps({"statement": text}) + "\n" for text in statements))
    recipe = Distill(
        "tiny",
        Corpus(str(problems)),
        Sampling(n=2, temperature=0.7, max_tokens=40),
        partial(ServerEngine, base_url=vllm_url),
        filters=TraceFilter(boxed=False, loops=True, max_repeated=None),
    )
    with open_round(tmp_path / "r", recipe.settings()) as making:
        assert making is not None
        recipe.make(making)  # not make_round: none may end within so few tokens
    replies = [row["completions"][0] for row in read_round(tmp_path / "r", "replies")]
    assert len(replies) == 6
    for reply in replies:
        assert reply["prompt_tokens"] > 10
        assert 0 < reply["completion_tokens"] <= 40
        assert reply["finished"] or reply["completion_tokens"] == 40
        assert reply["finish_reason"] == ("stop" if reply["finished"] else "length")
    manifest = read_manifest(tmp_path / "r")
    assert manifest["rows"].get("rows", 0) + sum(manifest["dropped"].values()) == 6
    assert manifest["figures"]["tokens_untold"] == 0


@needs_vllm
@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_takes_other_weights_and_adapters_in_turn(embedded_weights: Path, tmp_path: Path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    other, adapter = tmp_path / "other", tmp_path / "adapter"
    model = AutoModelForCausalLM.from_pretrained(embedded_weights, dtype=torch.bfloat16)
    for layer in model.model.layers:
        layer.mlp.down_proj.weight.data.mul_(0.9)
    model.save_pretrained(other)
    AutoTokenizer.from_pretrained(embedded_weights).save_pretrained(other)
    save_tiny_adapter(embedded_weights, adapter)
    request = ScoreRequest("The capital of France is", Target(((" Paris. It is old.",),)))
    settings = {
        **VLLM_SETTINGS,
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
    }
    flags = ("--enable-lora", "--max-lora-rank", "8")
    with vllm_served(embedded_weights, tmp_path / "log", *flags, settings=settings) as url:
        for folder in (other, adapter, embedded_weights):
            with closing(HFEngine(str(folder), "float32", "cpu")) as plain:
                [(_, [expected])] = plain.score([request])
            with closing(reloading(url, folder, tokenizer=str(embedded_weights))) as subject:
                [(_, [scored])] = subject.score([request])
            assert mean_gap(scored, expected) < 0.01, folder
