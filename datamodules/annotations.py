"""Annotations (c, z, x) as training sequences for the two models of the method."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence

from datamodules.base import RowsDataModule
from promptcot.corpora import Corpus, read_corpus
from promptcot.prompts import rationale_target
from promptcot.protocols import Target
from promptcot.records import Annotation
from promptcot.tokens import Example, encode

log = logging.getLogger(__name__)


class AnnotationDataModule(RowsDataModule):
    """Packed batches of annotations; a subclass says what is the prompt and what the target.

    Rows without a rationale are left out, and said to be.
    """

    needed = "a rationale"
    cure = "annotate it"

    @abstractmethod
    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        """What the model is given, and what it is to write."""

    def training_examples(self, corpus: Corpus) -> Sequence[Example]:
        return [example for _, example in self.held_out_sequences(corpus)]

    def held_out_sequences(self, corpus: Corpus) -> Sequence[tuple[str, Example]]:
        """Problem ids and sequences of the rows that have a rationale and are not too long."""
        tokenizer = self.tokenizer()
        seeds = read_corpus(corpus)
        annotations = seeds.annotations
        if bare := len(seeds.problems) - len(annotations):
            log.warning(
                "%d of %d rows of %s have no rationale and were left out",
                bare,
                len(seeds.problems),
                corpus.path,
            )
        encoded = [
            (a.problem.id, encode(tokenizer, *self.prompt_and_target(a))) for a in annotations
        ]
        return self.fitting(encoded, corpus)


class RationaleDataModule(AnnotationDataModule):
    """For q(z | c, x): concepts and problem in the prompt, the rationale as target."""

    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        prompt = self.format.rationale_prompt(annotation.problem)
        return prompt, rationale_target(annotation.rationale)


class ComposeDataModule(AnnotationDataModule):
    """For p(z, x | c): concepts in the prompt, rationale and problem as target."""

    def prompt_and_target(self, annotation: Annotation) -> tuple[str, Target]:
        target = self.format.compose_target(annotation.rationale, annotation.problem.statement)
        return self.format.compose_prompt(annotation.problem), target
