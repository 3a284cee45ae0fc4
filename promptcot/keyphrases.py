"""Concepts and a plain rationale without any model: for corpora that no teacher has annotated.

The concepts are the statement's own key phrases, so they are cruder than a teacher's, and the
rationale is a form that names them. Good enough to start from; a teacher's are better.
"""

from __future__ import annotations

import re

MAX_WORDS = 3
"""Words of a phrase."""

_MATHS = re.compile(r"\$+[^$]*\$+|\\[a-zA-Z]+|[{}^_\\]")


def keyphrases(statement: str, num_concepts: int) -> tuple[str, ...]:
    """The statement's key phrases, best first; fewer where it has no more.

    Source:
        Campos et al. 2020, "YAKE! Keyword extraction from single documents", by the package yake.
    """
    import yake  # a third of a second to import, and only this source of concepts needs it

    prose = " ".join(_MATHS.sub(" ", statement).split())
    extractor = yake.KeywordExtractor(lan="en", n=MAX_WORDS, dedupLim=0.7, top=num_concepts)
    return tuple(
        dict.fromkeys(phrase.casefold() for phrase, _ in extractor.extract_keywords(prose))
    )
