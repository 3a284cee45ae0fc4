"""A teacher's traces, from a server that answers in every format and misbehaves in many ways."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_run import CHECKOUT, command

from promptcot.accounts import Prices
from promptcot.command_line import make_command
from promptcot.configs import to_config
from promptcot.corpora import Corpus
from promptcot.engines import HFEngine, ScriptedEngine, ServerEngine
from promptcot.protocols import Sampling
from promptcot.reasoning import Format, TraceFlaw
from promptcot.recipes import Compose, Distill, make_round
from promptcot.recipes.agreement import DISAGREEING, VERDICTS
from promptcot.recipes.asking import LONG_PROMPT
from promptcot.recipes.distill import BENCHMARK, REPLIES, SAME_STATEMENT, SAME_TRACE
from promptcot.recipes.making import COPY
from promptcot.records import Outcome
from promptcot.solutions import SolutionFlaw
from promptcot.store import DROPPED, read_manifest, read_round
from promptcot.traces import NOT_ENDED, Rejection, TraceFilter
from verify import ByDomain

VERIFIER = partial(ByDomain, num_workers=1)
USAGE = {"prompt_tokens": 10, "completion_tokens": 100}
RIGHT = "It is \\boxed{3}."
ONE_FORM = f"<think>\nhm\n</think>\n\n{RIGHT}"


class Call(BaseHTTPRequestHandler):
    """One request; the server's ``answer`` gets it and sends what it likes."""

    protocol_version = "HTTP/1.1"
    server: Teacher

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = self.body["messages"][0]["content"]
        self.asked = prompt, self.body["seed"]
        with self.server.lock:
            self.server.calls[self.asked] += 1
        name = next((n for n in self.server.names if f"The {n}?" in prompt), "")
        with suppress(OSError):  # the client may have gone
            self.server.answer(self, name)

    def say(self, message: dict[str, Any], reason: str | None = "stop", **more: Any) -> None:
        choice = {"message": message, "finish_reason": reason}
        self.send({"choices": [choice], "usage": USAGE, **more})

    def send(self, reply: Any, cut: int = 0, status: int = 200) -> None:
        raw = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw[: len(raw) - cut])
        self.close_connection = bool(cut)

    def log_message(self, *_: object) -> None:
        pass


class Teacher(ThreadingHTTPServer):
    """Speaks OpenAI's dialect; counts how often each prompt came with each seed."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, names: list[str], answer: Callable[[Call, str], None]) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.names, self.answer = names, answer
        self.calls: Counter[tuple[str, int]] = Counter()
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def served(names: list[str], answer: Callable[[Call, str], None]) -> Iterator[Teacher]:
    with Teacher(names, answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def problems(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"id": name, "statement": f"The {name}?", "reference": "3", **more} for name in names]


def recipe(corpus: Corpus, url: str = "", **changes: Any) -> Distill:
    engine = partial(ServerEngine, base_url=url, backoff_s=0.01, timeout_s=20.0, concurrency=4)
    sampling = Sampling(max_tokens=1000)
    given = {"corpus": corpus, "sampling": sampling, "engine": engine, **changes}
    return Distill("teacher", **given)


def made(recipe: Distill, folder: Path) -> dict[str, dict[str, Any]]:
    make_round(recipe, folder)
    return {row["id"]: row for row in read_round(folder)}


def reasons(folder: Path) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in read_round(folder, DROPPED)}


# ----------------------------------------------------------------------- formats

SAID: dict[str, tuple[dict[str, Any], str]] = {
    "tags": ({"content": f"<think>hm</think>{RIGHT}"}, Format.TAGS),
    "open": ({"content": f"hm\n</think>\n\n{RIGHT}"}, Format.TAGS),
    "harmony": (
        {
            "content": "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
            f"<|channel|>final<|message|>{RIGHT}<|return|>"
        },
        Format.HARMONY,
    ),
    "skipped": ({"content": f"analysishmassistantfinal{RIGHT}"}, Format.SKIPPED),
    "field": ({"content": RIGHT, "reasoning_content": "hm"}, Format.FIELD),
    "other": ({"content": f"\n{RIGHT}", "reasoning": "hm\n", "tool_calls": None}, Format.FIELD),
    "parts": (
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": RIGHT}]},
        Format.FIELD,
    ),
}


def test_every_format_comes_to_one_form(write_corpus, tmp_path, caplog):
    names = list(SAID)
    with served(names, lambda call, name: call.say(SAID[name][0])) as server:
        rows = made(recipe(write_corpus(problems(*names)), server.url), tmp_path / "r")
    assert {row["solution"] for row in rows.values()} == {ONE_FORM}
    assert {name: row["reasoning_format"] for name, row in rows.items()} == {
        name: str(format) for name, (_, format) in SAID.items()
    }
    first = rows["tags"]
    assert (first["reference"], first["sample"], first["teacher"]) == ("3", 0, "teacher")
    assert (first["finish_reason"], first["prompt_tokens"]) == ("stop", 10)
    assert first["completion_tokens"] == 100
    assert "tokens" not in first
    assert read_manifest(tmp_path / "r")["figures"]["formats"] == {
        "field of the response": 3,
        "harmony": 1,
        "harmony without control tokens": 1,
        "tags": 2,
    }
    assert "reasoning apart" not in caplog.text  # it is not lost here


def test_thoughts_can_be_left_out_of_the_rows(write_corpus, tmp_path):
    with served(["tags"], lambda call, name: call.say(SAID[name][0])) as server:
        given = {"keep_thoughts": False, "thought": "required"}
        rows = made(recipe(write_corpus(problems("tags")), server.url, **given), tmp_path / "r")
    assert rows["tags"]["solution"] == RIGHT


# ----------------------------------------------------------------------- bad input


WHOLE = {"content": ONE_FORM}
MISBEHAVIOUR: dict[str, Callable[[Call], None]] = {
    "empty": lambda call: call.say({"content": ""}),
    "null": lambda call: call.say({"content": None, "reasoning": None, "refusal": "I will not."}),
    "nulls": lambda call: call.say({"content": None}, None, usage=None, id=None),
    "filtered": lambda call: call.say({"content": "It is"}, "content_filter"),
    "truncated": lambda call: call.say({"content": "<think>hm"}, "length"),
    "boxed": lambda call: call.say({"content": f"<think>{RIGHT}"}, "length"),
    "thinking": lambda call: call.say({"content": None, "reasoning_content": "hm"}, "length"),
    "unclosed": lambda call: call.say({"content": f"<think>hm {RIGHT}"}),
    "twice": lambda call: call.say({"content": f"{ONE_FORM}</think>"}),
    "unboxed": lambda call: call.say({"content": "<think>\\boxed{3}</think>Three."}),
    "looping": lambda call: call.say({"content": f"<think>{'Wait, no. ' * 80}</think>{RIGHT}"}),
    "half": lambda call: call.send({"choices": [{"message": WHOLE}]}, cut=30),
    "gone": lambda call: setattr(call, "close_connection", True),
    "untold": lambda call: call.say(WHOLE, usage={"prompt_tokens": None}),
}


def misbehave(call: Call, name: str) -> None:
    """As the problem's name says; but a connection breaks only once."""
    if name in MISBEHAVIOUR and not (
        name in {"half", "gone"} and call.server.calls[call.asked] > 1
    ):
        MISBEHAVIOUR[name](call)
    else:
        call.say(WHOLE)


BAD = {
    "empty": TraceFlaw.EMPTY,
    "null": TraceFlaw.EMPTY,
    "nulls": NOT_ENDED,
    "filtered": NOT_ENDED,
    "truncated": SolutionFlaw.UNFINISHED,
    "boxed": SolutionFlaw.UNFINISHED,
    "thinking": SolutionFlaw.UNFINISHED,
    "unclosed": TraceFlaw.UNCLOSED,
    "twice": TraceFlaw.REPEATED,
    "unboxed": Rejection.NO_BOX,
    "looping": Rejection.LOOP,
}
GOOD = ("half", "gone", "untold", "right")


def test_bad_replies_are_counted_by_their_reason_and_the_others_kept(write_corpus, tmp_path):
    names = [*BAD, *GOOD]
    prices = Prices(prompt=1.0, completion=10.0)
    with served(names, misbehave) as server:
        given = recipe(write_corpus(problems(*names)), server.url, prices=prices)
        rows = made(given, tmp_path / "r")
        asked = sum(server.calls.values())
    assert tuple(rows) == GOOD
    assert {row["solution"] for row in rows.values()} == {ONE_FORM}
    assert reasons(tmp_path / "r") == BAD
    assert asked == len(names) + 2  # two connections broke
    manifest = read_manifest(tmp_path / "r")
    figures = manifest["figures"]
    assert manifest["dropped"] == Counter(BAD.values())
    assert figures["problems"] == figures["traces_asked"] == len(names)
    assert figures["traces_kept"] == len(GOOD)
    assert figures["problems_without_trace"] == len(BAD)
    assert figures["finish_reasons"] == {
        "content_filter": 1,
        "length": 3,
        "not told": 1,
        "stop": 10,
    }
    assert figures["tokens_untold"] == 2
    told = len(names) - 2
    assert (figures["prompt_tokens"], figures["completion_tokens"]) == (told * 10, told * 100)
    assert figures["mean_tokens"] == figures["mean_tokens_kept"] == 100
    assert figures["cost"] == pytest.approx(told * (10 * 1.0 + 100 * 10.0) / 1e6)
    assert figures["cost_per_trace"] == pytest.approx(figures["cost"] / len(GOOD))
    [cut] = [r for r in read_round(tmp_path / "r", DROPPED) if r["id"] == "filtered"]
    assert (cut["finish_reason"], cut["sample"]) == ("content_filter", 0)


def test_what_was_sent_is_on_disk_as_it_came(write_corpus, tmp_path):
    def answer(call: Call, name: str) -> None:
        call.say(SAID[name][0]) if name in SAID else misbehave(call, name)

    with served(["field", "thinking"], answer) as server:
        made(recipe(write_corpus(problems("field", "thinking")), server.url), tmp_path / "r")
    sent = [row["completions"] for row in read_round(tmp_path / "r", REPLIES)]
    usage = {"prompt_tokens": 10, "completion_tokens": 100}
    field = {"text": RIGHT, "finished": True, "reasoning": "hm", "finish_reason": "stop", **usage}
    cut = {"text": "", "finished": False, "reasoning": "hm", "finish_reason": "length", **usage}
    assert sorted(sent, key=str) == sorted([[field], [cut]], key=str)


def test_a_teacher_of_whom_nothing_can_be_used_is_an_error_that_counts(write_corpus, tmp_path):
    with served(["empty"], misbehave) as server:
        given = recipe(write_corpus(problems("empty")), server.url)
        with pytest.raises(ValueError, match=r"no row is left.*dropped were 1 empty"):
            make_round(given, tmp_path / "r")


# ----------------------------------------------------------------------- filters


def scripted(*replies: str) -> partial[ScriptedEngine]:
    return partial(ScriptedEngine, replies=replies)


def test_a_problem_gets_several_traces_and_equal_ones_count_once(write_corpus, tmp_path):
    given = recipe(
        write_corpus(problems("one", "two")),
        engine=scripted(RIGHT, f"<think>a</think>{RIGHT}", RIGHT, "no"),
        sampling=Sampling(n=12, max_tokens=1000),
    )
    make_round(given, tmp_path / "r")
    rows = read_round(tmp_path / "r")
    texts = [(row["id"], row["solution"]) for row in rows]
    assert len(set(texts)) == len(texts) == 4
    assert {row["problem_key"] + f"-{row['sample']}" for row in rows} == {r["key"] for r in rows}
    dropped = Counter(row["reason"] for row in read_round(tmp_path / "r", DROPPED))
    assert dropped.keys() == {SAME_TRACE, Rejection.NO_BOX}
    assert dropped.total() == 24 - 4
    assert read_manifest(tmp_path / "r")["figures"]["traces_asked"] == 24


def test_benchmarks_and_copies_are_not_asked(write_corpus, tmp_path):
    words = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"]
    quoted = "Now " + ", ".join(words[:13]) + "?"
    rows = [
        *problems("free"),
        {"id": "quoted", "statement": quoted},
        {"id": "short", "statement": "How   Many?"},
        {"id": "again", "statement": "the FREE?"},
        {"statement": "x?"},
        {"statement": "x?"},
    ]
    benchmark = write_corpus(
        [{"problem": " ".join(words), "domain": "any", "answer": 3}, {"problem": "how many?"}],
        "benchmark",
    )
    corpus = write_corpus(rows)
    given = recipe(corpus, engine=scripted(RIGHT), decontaminate=(benchmark.path,))
    kept = made(given, tmp_path / "r")
    assert len(kept) == 2
    dropped = read_round(tmp_path / "r", DROPPED)
    assert Counter(row["reason"] for row in dropped) == {
        BENCHMARK: 2,
        SAME_STATEMENT: 1,
        COPY: 1,
    }
    assert {row["id"] for row in dropped if row["reason"] == BENCHMARK} == {"quoted", "short"}
    figures = read_manifest(tmp_path / "r")["figures"]
    assert (figures["problems"], figures["traces_asked"]) == (6, 2)
    write_corpus([{"problem": "another"}], "benchmark")
    with pytest.raises(ValueError, match=r"made with decontaminate = '\w{16}'"):
        make_round(given, tmp_path / "r")


def test_a_benchmark_without_statements_is_named(write_corpus, tmp_path):
    path = write_corpus([{"text": "a"}], "benchmark").path
    given = recipe(write_corpus(problems("a")), engine=scripted(RIGHT), decontaminate=(path,))
    with pytest.raises(ValueError, match=r"benchmark\.jsonl line 1: no statement of a problem"):
        make_round(given, tmp_path / "r")


def test_with_a_verifier_only_what_agrees_is_kept(write_corpus, tmp_path):
    wrong, prose = "It is \\boxed{4}.", "\\boxed{because the sum over all of them converges}"
    rows = [*problems("known"), *problems("voted", vote_share=0.75), *problems("bare")]
    rows[2]["reference"] = None
    given = recipe(
        write_corpus(rows),
        engine=scripted("<think>\\boxed{4}</think>So \\boxed{6/2}.", wrong, prose, RIGHT),
        sampling=Sampling(n=8, max_tokens=1000),
        verifier=VERIFIER,
    )
    make_round(given, tmp_path / "r")
    kept = read_round(tmp_path / "r")
    assert Counter((row["id"], row["answer"]) for row in kept) == {
        ("known", "3"): 1,
        ("known", "6/2"): 1,
        ("voted", "3"): 1,
        ("voted", "6/2"): 1,
    }
    dropped = Counter(row["reason"] for row in read_round(tmp_path / "r", DROPPED))
    assert dropped == {
        "no reference answer": 1,
        DISAGREEING[Outcome.FAIL]: 2,
        DISAGREEING[Outcome.UNDECIDED]: 2,
        SAME_TRACE: 2 * 8 - 2 * 4,
    }
    assert len(read_round(tmp_path / "r", VERDICTS)) == 8


def test_programs_are_filtered_and_verified_by_their_tests(write_corpus, tmp_path):
    tests = json.dumps([{"stdin": "1 2", "stdout": "3"}, {"stdin": "5 5", "stdout": "10"}])
    row = {"id": "sum", "domain": "code", "statement": "Print a + b.", "reference": tests}
    right = "```python\nprint(sum(map(int, input().split())))\n```"
    replies = (f"<think>hm</think>{right}", "```python\nprint(3)\n```", "```python\nprint(\n```")
    given = recipe(
        write_corpus([row]),
        engine=scripted(*replies),
        sampling=Sampling(n=12, max_tokens=1000),
        verifier=VERIFIER,
    )
    rows = made(given, tmp_path / "r")
    assert rows["sum"]["solution"] == f"<think>\nhm\n</think>\n\n{right}"
    assert rows["sum"]["answer"] == "AC"
    dropped = Counter(row["reason"] for row in read_round(tmp_path / "r", DROPPED))
    assert dropped[DISAGREEING[Outcome.FAIL]] == 1
    assert dropped.keys() == {DISAGREEING[Outcome.FAIL], Rejection.BROKEN_CODE, SAME_TRACE}
    assert dropped.total() == 11


def test_problems_that_p_composed_are_taken_as_they_are(write_corpus, tmp_path):
    seeds = write_corpus(
        [{"id": f"{n}", "statement": f"Find {n}.", "concepts": [f"c{n}", "d"]} for n in range(9)],
        "seeds",
    )
    problem = "<!-- BEGIN PROBLEM -->How many?{}<!-- END PROBLEM -->"
    texts = ["<!-- BEGIN RATIONALE -->r<!-- END RATIONALE -->" + problem.format(n) for n in "ab"]
    compose = Compose("p", seeds, num_sets=5, num_concepts=2, engine=scripted(*texts))
    make_round(compose, tmp_path / "composed")
    composed = read_round(tmp_path / "composed")
    corpus = Corpus(str(tmp_path / "composed" / "rows.jsonl"))
    rows = made(recipe(corpus, engine=scripted(RIGHT)), tmp_path / "r")
    assert [(row["id"], row["concepts"]) for row in composed] == [
        (row["id"], row["concepts"]) for row in rows.values()
    ]


# ----------------------------------------------------------------------- a real model


def test_a_model_of_ones_own_is_a_teacher_too(models, write_corpus, tmp_path):
    rows = [{"id": f"{n}", "statement": f"{n}?"} for n in range(6)]
    rows.append({"id": "long", "statement": "a " * 2000})
    given = Distill(
        models[0],
        write_corpus(rows),
        Sampling(n=2, max_tokens=60),
        partial(HFEngine, dtype="float32"),
        filters=TraceFilter(boxed=False),
        prices=Prices(completion=1e6),
    )
    kept = made(given, tmp_path / "r")
    figures = read_manifest(tmp_path / "r")["figures"]
    replies = {row["key"]: row["completions"][0] for row in read_round(tmp_path / "r", REPLIES)}
    assert figures["traces_asked"] == len(replies) == 12
    for reply in replies.values():
        length = len(reply["text"]) + reply["finished"]  # one token a character
        assert reply["completion_tokens"] == length
        assert reply["finish_reason"] == ("stop" if reply["finished"] else "length")
    assert figures["cost"] == figures["completion_tokens"] > 0
    assert figures["prompt_tokens"] > 12 * 10
    assert kept
    dropped = Counter(row["reason"] for row in read_round(tmp_path / "r", DROPPED))
    assert dropped[LONG_PROMPT] == 2
    assert dropped[SolutionFlaw.UNFINISHED] == sum(not r["finished"] for r in replies.values())


# ----------------------------------------------------------------------- going on


def test_a_killed_round_goes_on_to_the_same_rows_and_nothing_on_disk_is_paid_twice(
    write_corpus, tmp_path
):
    names = [f"p{n}" for n in range(40)]

    def slow(call: Call, name: str) -> None:
        time.sleep(0.02)
        seed = call.body["seed"]
        texts = (RIGHT, f"<think>{seed}</think>{RIGHT}", "no", f"{seed}</think>{RIGHT}")
        call.say({"content": texts[seed % 4]}, "stop" if seed % 5 else "length")

    corpus = write_corpus(problems(*names))
    with served(names, slow) as server:
        given = recipe(corpus, server.url, sampling=Sampling(n=2, max_tokens=100))
        config = tmp_path / "recipe.yaml"
        config.write_text(yaml.safe_dump(to_config(given)))
        arguments = ["distill", "--config", str(config), "--folder"]
        file = tmp_path / "cut.partial" / f"{REPLIES}.jsonl"
        killed = command("make", *arguments, str(tmp_path / "cut"))
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(killed, cwd=CHECKOUT, env=alone, stderr=subprocess.DEVNULL) as child:
            while child.poll() is None and (not file.exists() or file.stat().st_size < 4000):
                time.sleep(0.002)
            child.kill()
        assert child.returncode == -signal.SIGKILL
        before = file.read_bytes().splitlines()
        assert 10 < len(before) < 70
        paid = Counter(server.calls)
        make_command([*arguments, str(tmp_path / "cut")])
        twice = [asked for asked, count in server.calls.items() if count > 1]
        assert set(twice) <= set(paid)
        assert server.calls.total() == 80 + len(twice)
        assert len(twice) <= paid.total() - len(before) + 1  # the last line may be torn
        assert len(twice) <= 4 + 1
        make_command([*arguments, str(tmp_path / "whole")])
    after = (tmp_path / "cut" / f"{REPLIES}.jsonl").read_bytes().splitlines()
    assert after[: len(before) - 1] == before[:-1]
    for name in ("rows", DROPPED):
        files = [(tmp_path / at / f"{name}.jsonl").read_bytes() for at in ("cut", "whole")]
        assert files[0] == files[1]
    figures = [read_manifest(tmp_path / at)["figures"] for at in ("cut", "whole")]
    assert figures[0] == figures[1]
    assert figures[0]["traces_asked"] == 80


def test_a_verdict_on_disk_is_not_asked_for_again(write_corpus, tmp_path):
    given = recipe(
        write_corpus(problems("a", "b")),
        engine=scripted(RIGHT, "\\boxed{4}", "\\boxed{6/2}"),
        sampling=Sampling(n=12, max_tokens=100),
        verifier=VERIFIER,
    )
    make_round(given, tmp_path / "whole")
    make_round(given, tmp_path / "cut")
    undone = tmp_path / "cut.partial"
    (tmp_path / "cut").rename(undone)
    for name in ("manifest.json", "rows.jsonl", f"{DROPPED}.jsonl"):
        (undone / name).unlink()
    file = undone / f"{VERDICTS}.jsonl"
    verdicts = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert len(verdicts) == 6
    changed = next(verdict for verdict in verdicts[:3] if verdict["outcome"] == "pass")
    changed["outcome"] = "undecided"
    file.write_text("".join(json.dumps(verdict) + "\n" for verdict in verdicts[:4]) + '{"key')
    make_round(given, tmp_path / "cut")
    keys = [{row["key"] for row in read_round(tmp_path / at)} for at in ("whole", "cut")]
    assert keys[0] - keys[1] == {changed["key"]}
    assert keys[1] < keys[0]


def test_other_filters_take_over_what_was_paid_for(write_corpus, tmp_path):
    texts = {"one": "Three.", "two": RIGHT, "new": RIGHT}
    corpus = write_corpus(problems("one", "two"))
    with served(list(texts), lambda call, name: call.say({"content": texts[name]})) as server:
        first = recipe(corpus, server.url, thought="required")
        with pytest.raises(ValueError, match="no row is left"):
            make_round(first, tmp_path / "first")
        unfinished = tmp_path / "first.partial"
        with open(unfinished / f"{REPLIES}.jsonl", "ab") as file:
            file.write(b'{"key": "torn')
        rows = made(recipe(corpus, server.url, replies_of=unfinished), tmp_path / "second")
        assert list(rows) == ["two"]
        assert server.calls.total() == 2
        more = {
            "corpus": write_corpus(problems("two", "new"), "more"),
            "sampling": Sampling(n=2, max_tokens=1000),
            "replies_of": tmp_path / "second",
        }
        make_round(recipe(more.pop("corpus"), server.url, **more), tmp_path / "third")
        assert server.calls.total() == 2 + 3
        assert set(server.calls.values()) == {1}
        other = recipe(corpus, server.url, seed=7, replies_of=tmp_path / "second")
        with pytest.raises(ValueError, match="second was made with seed = 42, now it is 7"):
            make_round(other, tmp_path / "other")


def test_a_refused_problem_ends_no_run_that_allows_it_and_no_reply_is_paid_twice(
    write_corpus, tmp_path
):
    def answer(call: Call, name: str) -> None:
        if name == "bad":
            call.send({"error": {"message": "against the rules"}}, status=400)
        else:
            call.say({"content": RIGHT})

    corpus = write_corpus(problems("one", "bad", "two"))
    with served(["one", "bad", "two"], answer) as server:
        ask = partial(ServerEngine, base_url=server.url, backoff_s=0.01, concurrency=1)
        with pytest.raises(ValueError, match=r"against the rules.*max_refused"):
            make_round(recipe(corpus, engine=ask), tmp_path / "round")
        rows = made(recipe(corpus, engine=partial(ask, max_refused=1)), tmp_path / "round")
        assert set(rows) == {"one", "two"}
        assert reasons(tmp_path / "round") == {"bad": NOT_ENDED}
        assert sorted(server.calls.values()) == [1, 1, 2]
    figures = read_manifest(tmp_path / "round")["figures"]
    assert figures["finish_reasons"] == {"stop": 2, "refused": 1}


def test_a_damaged_reply_that_was_paid_for_is_named(write_corpus, tmp_path):
    given = partial(recipe, write_corpus(problems("a")), engine=scripted(RIGHT))
    make_round(given(), tmp_path / "first")
    path = tmp_path / "first" / f"{REPLIES}.jsonl"
    path.write_text(path.read_text().replace("boxed", "framed"))
    with pytest.raises(ValueError, match=r"replies.jsonl was changed after it was made"):
        make_round(given(replies_of=tmp_path / "first"), tmp_path / "r")
    (tmp_path / "first").rename(tmp_path / "edited.partial")
    state = {"settings": json.loads(json.dumps(given().settings(), default=str))}
    (tmp_path / "edited.partial" / "manifest.json").write_text(json.dumps(state))
    for line in ("[1]", "{}", '{"key": '):
        (tmp_path / "edited.partial" / f"{REPLIES}.jsonl").write_text(line + "\n")
        with pytest.raises(ValueError, match=r"replies.jsonl line 1.* (no row|not a whole)"):
            make_round(given(replies_of=tmp_path / "edited.partial"), tmp_path / "r")


def test_replies_of_a_round_that_is_none_are_named(write_corpus, tmp_path):
    given = recipe(write_corpus(problems("a")), replies_of=tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no round of rows at .*/none"):
        make_round(given, tmp_path / "r")


def test_prices_decide_nothing_and_filters_do(write_corpus, tmp_path):
    corpus = write_corpus(problems("a"))
    given = partial(recipe, corpus, engine=scripted(RIGHT))
    make_round(given(), tmp_path / "r")
    make_round(given(prices=Prices(1.0, 2.0), replies_of=tmp_path / "x"), tmp_path / "r")
    for change, name in [
        ({"filters": TraceFilter(min_tokens=3)}, r"filters\.min_tokens = 0, now it is 3"),
        ({"keep_thoughts": False}, "keep_thoughts = True"),
        ({"thought": "required"}, "thought = 'allowed'"),
        ({"verifier": VERIFIER}, "verifier = None"),
        ({"sampling": Sampling(max_tokens=9)}, r"sampling\.max_tokens = 1000"),
    ]:
        with pytest.raises(ValueError, match=name):
            make_round(given(**change), tmp_path / "r")


def test_a_missing_teacher_is_said(write_corpus, tmp_path):
    with pytest.raises(ValueError, match="there is no teacher: name a folder"):
        make_round(Distill(corpus=write_corpus(problems("a"))), tmp_path / "r")


def test_a_negative_price_is_refused():
    with pytest.raises(ValueError, match=r"prices prompt=-1, completion=0\.0: a price is 0"):
        Prices(prompt=-1)


def test_the_command_teaches():
    told = subprocess.run(
        [sys.executable, "cli.py", "make", "distill", "--help"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for word in ("boxed answer", "keep_thoughts", "voted", "decontaminate", "price"):
        assert word in told
