"""Asking an engine, with every answer on disk as soon as it is there.

What was asked in an earlier run is not asked again. A request that the model's context cannot
hold is left out, counted and named; nothing is ever cut.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from typing import Any, Literal, TypeVar

from tqdm import tqdm

from promptcot.fingerprints import fingerprint
from promptcot.freshness import check_freshness
from promptcot.protocols import (
    REFUSED,
    Completion,
    Engine,
    OpenEngine,
    Request,
    Sampling,
    ScoreRequest,
    SegmentLogprobs,
)
from promptcot.rewards import Reward, rationale_reward
from promptcot.stage_rows import Lazily, Row
from promptcot.store import DROPPED, Round

LONG_PROMPT = "prompt too long for the model's context"
LONG_TARGET = "scored sequence too long for the model's context"

R = TypeVar("R", Request, ScoreRequest)
Keep = Literal["text", "tokens", "logprobs", "account"]
"""How much of a completion is kept: the text; with token ids; with their log-probabilities, too; or
the text with all that tells of its making: reasoning sent apart, why it ended, counts of tokens."""
LazyEngine = Callable[[], Engine]
"""Gives the engine, opened at the first call."""
ACCOUNT = ("reasoning", "finish_reason", "prompt_tokens", "completion_tokens")
LOST_REASONING = (
    "the server sends reasoning apart from the text, and completions are without it: "
    "serve the model without a reasoning parser to have it in the text"
)
NO_LOGPROBS = (
    "the server refuses a request of which log-probabilities are needed (the log says why): "
    "max_refused cannot help here, change what is asked or the server's settings"
)
log = logging.getLogger(__name__)


@contextmanager
def lazily(open_engine: OpenEngine, weights: str) -> Iterator[LazyEngine]:
    """An engine that is opened only when something is left to ask, and closed at the end.

    Raises:
        RuntimeError: When it is opened: it does not score the probes of the weights' folder as the
            trainer did that wrote them.
    """
    with ExitStack() as stack:

        @cache
        def engine() -> Engine:
            opened = open_engine(weights)
            stack.callback(opened.close)
            check_freshness(opened, weights)
            return opened

        yield engine


def seed_of(*parts: Any) -> int:  # noqa: ANN401
    """A seed in [0, 2^31) that depends on the parts alone, not on the order of the requests."""
    return int(fingerprint(*parts)[:8], 16) >> 1


def complete(
    making: Round,
    stage: str,
    engine: LazyEngine,
    requests: Mapping[str, Request],
    sampling: Sampling,
    *,
    keep: Keep = "text",
) -> Mapping[str, list[Completion]]:
    """The completions of each request by its key, read anew whenever one is asked for.

    Requests that are too long are dropped from the round.

    Token ids take about twice the room of the text, log-probabilities several times. Reasoning that
    a server sends apart is left out, and the log says so, unless the account is kept.
    """

    def answers(asked: Sequence[Request]) -> Iterator[tuple[int, Row]]:
        is_lost = False
        for index, completions in engine().generate(asked, sampling):
            if keep != "account" and not is_lost and any(c.reasoning for c in completions):
                is_lost = True
                log.warning(LOST_REASONING)
            if keep == "logprobs" and any(c.finish_reason == REFUSED for c in completions):
                raise ValueError(NO_LOGPROBS)
            yield index, {"completions": [_row(c, keep) for c in completions]}

    rows = _ask(making, stage, engine, requests, sampling.max_tokens, answers)
    return Lazily(rows, lambda key: [_completion(c) for c in rows[key]["completions"]])


def score(
    making: Round, stage: str, engine: LazyEngine, requests: Mapping[str, ScoreRequest]
) -> dict[str, Reward]:
    """The reward of each target of ``PromptFormat.compose_target``, by its key."""

    def answers(asked: Sequence[ScoreRequest]) -> Iterator[tuple[int, Row]]:
        return ((i, reward_row(logprobs)) for i, logprobs in engine().score(asked))

    def reward_row(logprobs: SegmentLogprobs) -> Row:
        return asdict(rationale_reward(logprobs))

    names = tuple(Reward.__dataclass_fields__)
    rows = _ask(making, stage, engine, requests, 0, answers)
    return {key: Reward(**{name: row[name] for name in names}) for key, row in rows.items()}


def score_tokens(
    making: Round, stage: str, engine: LazyEngine, requests: Mapping[str, ScoreRequest]
) -> dict[str, SegmentLogprobs]:
    """The log-probabilities of each target's tokens, by its key."""

    def answers(asked: Sequence[ScoreRequest]) -> Iterator[tuple[int, Row]]:
        return ((index, {"logprobs": logprobs}) for index, logprobs in engine().score(asked))

    rows = _ask(making, stage, engine, requests, 0, answers)
    return {key: tuple(map(tuple, row["logprobs"])) for key, row in rows.items()}


def _ask(
    making: Round,
    stage: str,
    engine: LazyEngine,
    requests: Mapping[str, R],
    max_tokens: int,
    answers: Callable[[Sequence[R]], Iterator[tuple[int, Row]]],
) -> Mapping[str, Row]:
    done = making.rows(stage).keys() | making.rows(DROPPED).keys()
    if not requests.keys() <= done:
        keys = _whole_groups(_fitting(making, engine(), requests, max_tokens), engine(), done)
        asked = [requests[key] for key in keys]
        with tqdm(
            total=len(keys), desc=stage.replace("_", " "), mininterval=patience_s(), unit="request"
        ) as bar:
            for index, row in answers(asked):
                making.append(stage, keys[index], row)
                bar.update()
    rows = making.rows(stage)
    return Lazily((key for key in requests if key in rows), rows.__getitem__)


def _fitting(
    making: Round, engine: Engine, requests: Mapping[str, R], max_tokens: int
) -> list[str]:
    keys = list(requests)
    overlong = engine.overlong(list(requests.values()), max_tokens)
    for index, length in overlong.items():
        reason = LONG_PROMPT if max_tokens else LONG_TARGET
        making.drop(keys[index], reason, length=length, prompt=requests[keys[index]].prompt)
    return [key for index, key in enumerate(keys) if index not in overlong]


def _whole_groups(keys: Sequence[str], engine: Engine, done: set[str]) -> list[str]:
    """What is left, with its neighbours where a result depends on them."""
    groups = [[keys[index] for index in group] for group in engine.batches(len(keys))]
    return [key for group in groups if not done.issuperset(group) for key in group]


def _row(completion: Completion, keep: Keep) -> Row:
    row: Row = {"text": completion.text, "finished": completion.finished}
    if keep == "account":
        told = {name: getattr(completion, name) for name in ACCOUNT}
        return row | {name: value for name, value in told.items() if value}
    if completion.finish_reason == REFUSED:
        row["finish_reason"] = REFUSED
    row["tokens"] = completion.tokens if keep != "text" else ()
    row["logprobs"] = completion.logprobs if keep == "logprobs" else ()
    return row


def _completion(row: Mapping[str, Any]) -> Completion:
    tokens, logprobs = tuple(row.get("tokens", ())), tuple(row.get("logprobs", ()))
    told = {name: row[name] for name in ACCOUNT if name in row}
    return Completion(row["text"], row["finished"], tokens, logprobs, **told)


def patience_s() -> float:
    """A terminal's bar moves on; a log gets a line now and then."""
    return 0.1 if sys.stderr.isatty() else 30.0
