"""Annotation: concepts and a rationale for problems that come without."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.engines import ServerEngine
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.keyphrases import keyphrases
from promptcot.parsing import Flaw, after_thinking, parse_concepts, parse_rationale
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion, OpenEngine, Request, Sampling
from promptcot.recipes.asking import LazyEngine, complete, lazily, seed_of
from promptcot.recipes.making import drop_copies, seeds_fingerprint
from promptcot.records import Annotation, Problem
from promptcot.store import ROWS, Round

T = TypeVar("T")


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Annotate:
    """A teacher names each problem's concepts and writes its rationale, where they are missing.

    The first reply that can be read counts; a problem of which none can is dropped and counted.
    Several teachers are several rounds, whose rows are kept apart, not merged.

    Args:
        corpus: The problems.
        teacher: The model: a folder of weights, or the name under which a server has it.
        engine: Opened on the teacher; null for key phrases and a plain form, without any model.
        num_concepts: Concepts of a problem.
        sampling: Of the teacher; n are the replies to choose from.
        format: The wording of prompts.
        seed: Of all sampling.
    """

    corpus: Corpus = field(default_factory=Corpus)
    teacher: str = ""
    engine: OpenEngine | None = ServerEngine
    num_concepts: int = 5
    sampling: Sampling = field(
        default_factory=lambda: Sampling(n=4, temperature=0.7, max_tokens=4096)
    )
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42

    def __post_init__(self) -> None:
        if self.num_concepts < 1:
            raise ValueError(f"num_concepts={self.num_concepts}: a problem has at least 1 concept")

    def settings(self) -> dict[str, Any]:
        return {
            "recipe": "annotate",
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "teacher": weights_fingerprint(self.teacher) if self.teacher else "",
            "format": fingerprint(self.format.to_row()),
        }

    def make(self, making: Round) -> None:
        seeds = read_corpus(self.corpus)
        drop_copies(making, seeds.copies)
        keyed = {fingerprint(problem.to_row()): problem for problem in seeds.problems}
        if self.engine is None:
            annotated = self._fill_forms(making, keyed, seeds.rationales)
        else:
            with lazily(self.engine, self.teacher) as engine:
                annotated = self._ask_teacher(making, engine, keyed, seeds.rationales)
        for key, annotation in annotated.items():
            making.append(ROWS, key, annotation.to_row())

    def _fill_forms(
        self, making: Round, problems: Mapping[str, Problem], rationales: Mapping[str, str]
    ) -> dict[str, Annotation]:
        annotated: dict[str, Annotation] = {}
        for key, problem in problems.items():
            concepts = problem.concepts or keyphrases(problem.statement, self.num_concepts)
            if not concepts:
                making.drop(key, "no key phrases", id=problem.id)
                continue
            named = replace(problem, concepts=concepts)
            annotated[key] = Annotation(
                named, rationales.get(problem.id) or self.format.plain_rationale(named)
            )
        return annotated

    def _ask_teacher(
        self,
        making: Round,
        engine: LazyEngine,
        problems: Mapping[str, Problem],
        rationales: Mapping[str, str],
    ) -> dict[str, Annotation]:
        bare = {key: problem for key, problem in problems.items() if not problem.concepts}
        asked = {key: self.format.concepts_prompt(p, self.num_concepts) for key, p in bare.items()}
        found = self._read_first(making, "concepts", engine, asked, self._concepts)
        ready = {
            key: replace(p, concepts=p.concepts or found[key])
            for key, p in problems.items()
            if p.concepts or key in found
        }
        asked = {
            key: self.format.annotation_prompt(p)
            for key, p in ready.items()
            if p.id not in rationales
        }
        written = self._read_first(making, "rationales", engine, asked, self._rationale)
        every = {**{key: rationales.get(p.id) for key, p in ready.items()}, **written}
        return {key: Annotation(ready[key], text) for key, text in every.items() if text}

    def _concepts(self, reply: Completion) -> tuple[str, ...] | Flaw:
        return parse_concepts(after_thinking(reply.text), self.num_concepts)

    def _rationale(self, reply: Completion) -> str | Flaw:
        return parse_rationale(after_thinking(reply.text), self.format, reply.finished)

    def _read_first(
        self,
        making: Round,
        stage: str,
        engine: LazyEngine,
        prompts: Mapping[str, str],
        read: Callable[[Completion], T | Flaw],
    ) -> dict[str, T]:
        """What can be read in the first usable reply to each prompt."""
        requests = {
            key: Request(prompt, seed_of(self.seed, stage, key)) for key, prompt in prompts.items()
        }
        results: dict[str, T] = {}
        for key, replies in complete(making, stage, engine, requests, self.sampling).items():
            tried = [read(reply) for reply in replies]
            usable = [result for result in tried if not isinstance(result, Flaw)]
            if usable:
                results[key] = usable[0]
            else:
                making.drop(key, f"{stage}: {tried[0]}", prompt=prompts[key])
        return results
