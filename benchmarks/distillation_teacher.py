"""A program as the teacher: an OpenAI-compatible server that knows the solutions by heart.

    PYTHONPATH=. python benchmarks/distillation_teacher.py answers.jsonl --port 8123

It thinks in the steps of the programmed solution and replies with the box. One in three of its
answers comes with think tags, one with harmony's channels, one with its thoughts in a field of
their own. Of every twenty one is wrong, one is cut off and one has no box, as the hash of the
prompt decides, so that what the filters drop can be counted.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from promptcot.fingerprints import fingerprint
from promptcot.prompts import PromptFormat
from promptcot.records import Domain, Problem

SLIPS = 20
"""Of so many answers three are spoilt, one in each way."""
WRONG, CUT_OFF, UNBOXED = range(3)
FORMS = ("think", "harmony", "field")


def prompt_of(statement: str) -> str:
    """What a model is asked that is to solve the problem."""
    return PromptFormat().solve_prompt(Problem("", Domain.MATH, statement))


def fate(prompt: str) -> tuple[int, str]:
    """Which slip an answer has, if any, and its form."""
    number = int(fingerprint("fate", prompt), 16)
    return number % SLIPS, FORMS[number // SLIPS % len(FORMS)]


def answer(prompt: str, solution: str) -> dict[str, Any]:
    """A choice of the reply: message and finish reason."""
    slip, form = fate(prompt)
    *steps, boxed = solution.split("\n")
    thought = "\n".join(steps)
    reply = f"The answer is {boxed}."
    if slip == WRONG:
        value = boxed.removeprefix("\\boxed{").removesuffix("}")
        reply = f"The answer is \\boxed{{{int(value) + 1}}}."
    if slip == UNBOXED:
        reply = "That is the answer."
    message: dict[str, Any] = {"role": "assistant", "content": reply}
    if slip == CUT_OFF:
        message["content"] = f"<think>\n{thought}"
    elif form == "think":
        message["content"] = f"<think>\n{thought}\n</think>\n\n{reply}"
    elif form == "harmony":
        message["content"] = (
            f"<|channel|>analysis<|message|>{thought}<|end|>"
            f"<|start|>assistant<|channel|>final<|message|>{reply}<|return|>"
        )
    else:
        message["reasoning_content"] = thought
    reason = "length" if slip == CUT_OFF else "stop"
    return {"index": 0, "message": message, "finish_reason": reason}


class Handler(BaseHTTPRequestHandler):
    """Answers /v1/chat/completions."""

    protocol_version = "HTTP/1.1"

    def __init__(self, solutions: Mapping[str, str], *args: Any) -> None:  # noqa: ANN401
        self.solutions = solutions
        super().__init__(*args)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        solution = self.solutions.get(prompt)
        if solution is None:
            return self._send(404, {"error": {"message": "the teacher does not know this problem"}})
        choice = answer(prompt, solution)
        text = choice["message"]["content"] + choice["message"].get("reasoning_content", "")
        usage = {
            "prompt_tokens": len(prompt.split()),
            "completion_tokens": len(text.split()),
        }
        self._send(200, {"choices": [choice], "usage": usage})

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each of thousands of requests helps nobody."""

    def _send(self, status: int, value: object) -> None:
        payload = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


def main(arguments: list[str]) -> None:
    """Serve until killed; the port is printed when it answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("solutions", type=Path, help="JSONL with statement and solution")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args(arguments)
    rows = map(json.loads, given.solutions.read_text(encoding="utf-8").splitlines())
    solutions = {prompt_of(row["statement"]): row["solution"] for row in rows}
    server = ThreadingHTTPServer(("127.0.0.1", given.port), partial(Handler, solutions))
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
