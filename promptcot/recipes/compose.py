"""Composition: new problems from concept sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from promptcot.concepts import ConceptSampler
from promptcot.configs import to_config
from promptcot.corpora import Corpus, read_corpus
from promptcot.curation import CopyFilter
from promptcot.engines import AutoEngine
from promptcot.fingerprints import fingerprint, weights_fingerprint
from promptcot.overlap import ngram_overlap
from promptcot.parsing import Composition, Flaw, parse_composition
from promptcot.prompts import PromptFormat
from promptcot.protocols import Completion, OpenEngine, Request, Sampling
from promptcot.recipes.asking import complete, lazily, seed_of
from promptcot.recipes.making import seeds_fingerprint
from promptcot.records import Annotation, Problem
from promptcot.store import ROWS, Round

Drawn = tuple[str, Problem, Completion]


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class Compose:
    """Draws concept sets, lets the prompt model write a rationale and a problem for each.

    Dropped and counted: what does not parse, and what copies a seed problem (13 words in a row)
    or an earlier new one.

    Args:
        prompt_model: Folder of the weights of p.
        corpus: The seed problems whose concepts and levels are recombined.
        num_sets: Concept sets to draw.
        num_concepts: Concepts of a set.
        concept_temperature: Of the draw; towards 0 only frequent company is drawn.
        sampling: Of p; the paper takes temperature 0.8 and up to 4096 tokens.
        engine: Opened on p.
        format: The wording of prompts and the tags.
        seed: Of the draw and of all sampling.
    """

    prompt_model: str
    corpus: Corpus = field(default_factory=Corpus)
    num_sets: int = 100
    num_concepts: int = 5
    concept_temperature: float = 1.0
    sampling: Sampling = field(default_factory=lambda: Sampling(temperature=0.8, max_tokens=4096))
    engine: OpenEngine = AutoEngine
    format: PromptFormat = field(default_factory=PromptFormat)
    seed: int = 42

    def __post_init__(self) -> None:
        if self.num_sets < 1 or self.num_concepts < 1 or self.concept_temperature <= 0:
            raise ValueError(
                f"num_sets={self.num_sets}, num_concepts={self.num_concepts}, "
                f"concept_temperature={self.concept_temperature}: the counts must be at least 1, "
                "the temperature above 0"
            )

    def settings(self) -> dict[str, Any]:
        return {
            "recipe": "compose",
            **to_config(self, deciding=True),
            "corpus": seeds_fingerprint(read_corpus(self.corpus)),
            "prompt_model": weights_fingerprint(self.prompt_model),
            "format": fingerprint(self.format.to_row()),
        }

    def make(self, making: Round) -> None:
        seeds = read_corpus(self.corpus).problems
        sampler = ConceptSampler(seeds, self.num_concepts, self.concept_temperature)
        sets = {
            fingerprint(drawn.to_row()): drawn for drawn in sampler.draw(self.num_sets, self.seed)
        }
        requests = {
            key: Request(self.format.compose_prompt(drawn), seed_of(self.seed, key))
            for key, drawn in sets.items()
        }
        with lazily(self.engine, self.prompt_model) as engine:
            written = complete(making, "compositions", engine, requests, self.sampling)
        copies = CopyFilter(problem.statement for problem in seeds)
        for key, drawn, completion in _numbered(sets, written):
            self._keep(making, copies, key, drawn, completion)
        making.figures = self._figures(making, len(sets))

    def _keep(
        self, making: Round, copies: CopyFilter, key: str, drawn: Problem, completion: Completion
    ) -> None:
        found = parse_composition(completion.text, self.format)
        if isinstance(found, Flaw):
            cut = Flaw.UNFINISHED if not completion.finished else found
            return making.drop(key, str(cut), concepts=list(drawn.concepts))
        if reason := copies.reason_to_drop(found.statement):
            return making.drop(key, reason, statement=found.statement)
        making.append(ROWS, key, _annotation(drawn, found).to_row())

    def _figures(self, making: Round, num_sets: int) -> dict[str, Any]:
        rows = making.rows(ROWS).values()
        figures: dict[str, Any] = {"concept_sets": num_sets, "asked_for": self.num_sets}
        if rows:
            overlaps = [ngram_overlap(row["rationale"], row["statement"]) for row in rows]
            figures["mean_overlap"] = fmean(overlaps)
        return figures


def _annotation(drawn: Problem, found: Composition) -> Annotation:
    return Annotation(replace(drawn, statement=found.statement), found.rationale)


def _numbered(
    sets: Mapping[str, Problem], written: Mapping[str, list[Completion]]
) -> Iterator[Drawn]:
    """Every completion with a key and a problem id of its own."""
    for key, completions in written.items():
        for number, completion in enumerate(completions, 1):
            drawn = sets[key]
            named = drawn if len(completions) == 1 else replace(drawn, id=f"{drawn.id}-{number}")
            yield f"{key}-{number}", named, completion
