"""Distillation, its making: a teacher solves problems, and its traces are kept in one form."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from promptcot.accounts import Prices, counted, usage_figures
from promptcot.configs import to_config
from promptcot.corpora import Corpus, Seeds, read_corpus, read_statements
from promptcot.curation import KnownStatements
from promptcot.engines import ServerEngine
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion, OpenEngine, OpenVerifier, Request, Sampling, Verifier
from promptcot.reasoning import Trace, one_form
from promptcot.recipes.agreement import Sample, agreeing
from promptcot.recipes.asking import complete, lazily, patience_s, seed_of
from promptcot.recipes.making import drop_copies, seeds_fingerprint
from promptcot.recipes.reuse import take_over
from promptcot.records import Problem
from promptcot.solutions import Thought
from promptcot.split import statement_key
from promptcot.stage_rows import Lazily, Row
from promptcot.store import ROWS, Round
from promptcot.traces import TraceFilter, passing_trace

REPLIES = "replies"
"""Stage of a round: all that the teacher sent, as it came."""
BENCHMARK = "repeats 13 words in a row of a benchmark"
SAME_STATEMENT = "same statement as another problem"
SAME_TRACE = "same trace as another of its problem"


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Distill:
    """A teacher solves each problem, once or several times; each trace that passes is a row.

    A row is a problem with a trace as its ``solution``, whatever marks the teacher used: the
    thought in <think>...</think>, then the reply. Every other trace is dropped and counted: cut
    off, unreadable, against a filter, a duplicate, in disagreement with the reference.

    Args:
        teacher: The model: a folder of weights, or the name under which a server has it.
        corpus: The problems: any corpus, or the rows of ``make compose`` or ``make label``.
        sampling: Of the teacher; n are the traces of a problem. The paper takes 1 at temperature 1.
        engine: Opened on the teacher; on weights in a folder as a rule with ``chat: true``.
        format: The wording of prompts.
        seed: Of all sampling.
        thought: Whether a trace has a thought before its reply.
        keep_thoughts: Whether rows keep it.
        filters: Which traces pass. The paper wants a boxed answer or a block of code, no more.
        verifier: Keeps only traces that agree with the problem's reference, given or voted (``make
            label``); null for no such check, as in the paper. YAML names its class, such as
            ``verify.ByDomain``. A problem of which it cannot decide is not asked.
        decontaminate: JSONL files of benchmarks; a problem that has 13 words in a row, or all, from
            a statement in one of them is not asked.
        prices: Of tokens; they decide nothing but the cost that is told.
        replies_of: Folder of an earlier round of the same teacher, asked in the same way, whole or
            ``.partial``: its replies are not asked, nor paid, again.

    Source:
        PromptCoT 2.0 (arXiv 2509.19894), section 3.4.2, and the README of its code.
    """

    teacher: str = ""
    corpus: Corpus = field(default_factory=Corpus)
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=16384))
    engine: OpenEngine = ServerEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42
    thought: Thought = "allowed"
    keep_thoughts: bool = True
    filters: TraceFilter = field(default_factory=TraceFilter)
    verifier: OpenVerifier | None = None
    decontaminate: tuple[str, ...] = ()
    prices: Prices = field(default_factory=Prices)
    replies_of: Path | None = None

    def settings(self) -> dict[str, Any]:
        deciding = to_config(self, deciding=True)
        return {
            "recipe": "distill",
            **{name: deciding[name] for name in deciding if name not in ("prices", "replies_of")},
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "teacher": weights_fingerprint(self.teacher),
            "format": fingerprint(self.format.to_row()),
            "decontaminate": fingerprint(self._benchmarks()),
        }

    def make(self, making: Round) -> None:
        if not self.teacher:
            raise ValueError(
                "there is no teacher: name a folder of weights, or a served model, with --teacher"
            )
        seeds = read_corpus(self.corpus)
        with ExitStack() as stack:
            verifier = self.verifier and stack.enter_context(closing(self.verifier()))
            samples = self._samples(self._problems(making, seeds, verifier))
            replies = self._ask(making, samples)
            traces = self._traces(making, samples, replies)
            answers: Mapping[str, str | None] = dict.fromkeys(traces)
            if verifier is not None:
                answers = agreeing(making, verifier, samples, traces)
        for key, answer in answers.items():
            row = self._row(samples[key], traces[key], replies[key])
            making.append(ROWS, key, row if answer is None else {**row, "answer": answer})
        making.figures = _figures(making, seeds, replies, self.prices)

    def _benchmarks(self) -> list[str]:
        return [statement for path in self.decontaminate for statement in read_statements(path)]

    def _problems(
        self, making: Round, seeds: Seeds, verifier: Verifier | None
    ) -> dict[str, Problem]:
        """Those that are asked, by key; the others are dropped and counted."""
        benchmarks = KnownStatements(self._benchmarks())
        drop_copies(making, seeds.copies)
        asked: dict[str, Problem] = {}
        seen: set[str] = set()
        for problem in seeds.problems:
            key, statement = fingerprint(problem.to_row()), statement_key(problem.statement)
            if benchmarks.has(problem.statement):
                making.drop(key, BENCHMARK, id=problem.id)
            elif statement in seen:
                making.drop(key, SAME_STATEMENT, id=problem.id)
            elif reason := verifier.objection(problem) if verifier else "":
                making.drop(key, reason, id=problem.id)
            else:
                seen.add(statement)
                asked[key] = problem
        return asked

    def _samples(self, problems: Mapping[str, Problem]) -> dict[str, Sample]:
        return {
            f"{key}-{number}": Sample(problem, key, number)
            for key, problem in problems.items()
            for number in range(self.sampling.n)
        }

    def _ask(self, making: Round, samples: Mapping[str, Sample]) -> Mapping[str, Completion]:
        """One request for each, so that none is asked twice and each tells its own usage."""
        requests = {
            key: Request(
                self.format.solve_prompt(sample.problem),
                seed_of(self.seed, sample.problem_key, sample.number),
            )
            for key, sample in samples.items()
        }
        if self.replies_of is not None:
            take_over(making, REPLIES, self.replies_of, self.settings(), requests.keys())
        one = replace(self.sampling, n=1)
        with lazily(self.engine, self.teacher) as engine:
            asked = complete(making, REPLIES, engine, requests, one, keep="account")
        return Lazily(asked, lambda key: asked[key][0])

    def _traces(
        self, making: Round, samples: Mapping[str, Sample], replies: Mapping[str, Completion]
    ) -> dict[str, Trace]:
        """Those that pass the filters, each text but once for a problem."""
        traces: dict[str, Trace] = {}
        seen: set[tuple[str, str]] = set()
        bar = tqdm(replies.items(), desc="filters", mininterval=patience_s(), unit="reply")
        for key, reply in bar:
            sample = samples[key]
            found = passing_trace(sample.problem, reply, self.filters, self.thought)
            if isinstance(found, Trace):
                text = sample.problem_key, self._text(found)
                if text not in seen:
                    seen.add(text)
                    traces[key] = found
                    continue
                found = SAME_TRACE
            reason = reply.finish_reason
            making.drop(key, found, **sample.name(), finish_reason=reason)
        return traces

    def _text(self, trace: Trace) -> str:
        return one_form(trace, keep_thought=self.keep_thoughts)

    def _row(self, sample: Sample, trace: Trace, reply: Completion) -> Row:
        return {
            **sample.problem.to_row(),
            "problem_key": sample.problem_key,
            "sample": sample.number,
            "teacher": self.teacher,
            "solution": self._text(trace),
            "reasoning_format": str(trace.format),
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }


def _figures(making: Round, seeds: Seeds, replies: Mapping[str, Completion], prices: Prices) -> Row:
    rows = making.rows(ROWS).values()
    num_problems = len(seeds.problems) + len(seeds.copies)
    solved = len({row["problem_key"] for row in rows})
    lengths = [row["completion_tokens"] for row in rows if row["completion_tokens"]]
    return {
        "problems": num_problems,
        "problems_without_trace": num_problems - solved,
        "traces_asked": len(replies),
        "traces_kept": len(rows),
        **usage_figures(replies.values(), len(rows), prices),
        **({"mean_tokens_kept": fmean(lengths)} if lengths else {}),
        "formats": counted(row["reasoning_format"] for row in rows),
    }
