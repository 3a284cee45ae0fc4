"""Records to the text that a model is given, and the target it is to write.

Templates are files filled with ``string.Template``, because ``str.format`` would eat the braces
of LaTeX; values are not scanned again, so a problem may contain ``$``. The two ``compose``
templates and the tags are the interface of the released PromptCoT 2.0 generator (arXiv
2509.19894), word for word, so that it can be used and trained further here. They are raw text:
the paper's models are base models without a chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

from promptcot.protocols import Piece, Target
from promptcot.records import Domain, Problem

TEMPLATES = Path(__file__).parent / "templates"
NAMES = tuple(sorted(path.stem for path in TEMPLATES.glob("*.txt")))


@dataclass(frozen=True)  # no slots: jsonargparse reads a default by vars()
class PromptFormat:
    """The wording of every prompt and the tags around rationale and problem.

    Args:
        templates: Folder whose ``*.txt`` replace the bundled templates of the same name.
        rationale_tags: Text before and after a rationale.
        problem_tags: Text before and after a problem.
    """

    templates: Path | None = None
    rationale_tags: tuple[str, str] = ("<!-- BEGIN RATIONALE -->", "<!-- END RATIONALE -->")
    problem_tags: tuple[str, str] = ("<!-- BEGIN PROBLEM -->", "<!-- END PROBLEM -->")

    def __post_init__(self) -> None:
        folder = self.templates
        if folder is not None and not any((folder / f"{name}.txt").exists() for name in NAMES):
            raise FileNotFoundError(
                f"prompt templates {folder}: no such folder, or none of "
                f"{', '.join(NAMES)} (.txt) in it"
            )
        if folder is not None:
            for name in NAMES:
                _check_template(folder / f"{name}.txt")
        if not all(self.tags) or len(set(self.tags)) < len(self.tags):
            raise ValueError(
                f"the tags {', '.join(map(repr, self.tags))} must be four different texts"
            )

    @property
    def tags(self) -> tuple[str, ...]:
        """All four tags; none may stand in a rationale or a problem."""
        return (*self.rationale_tags, *self.problem_tags)

    def compose_prompt(self, problem: Problem) -> str:
        """What the prompt model p(z, x | c) is given: concepts and level."""
        name = "compose_code" if problem.domain is Domain.CODE else "compose_math"
        return self._fill(name, concepts=numbered(problem.concepts), level=problem.level)

    def compose_target(self, rationale: Piece, statement: str) -> Target:
        """What the prompt model writes: the segments z and x, each with its tags."""
        before_z, after_z = self.rationale_tags
        before_x, after_x = self.problem_tags
        if isinstance(rationale, str):
            rationale = rationale.strip()
        return Target(((before_z, rationale, after_z), (before_x, statement.strip(), after_x)))

    def rationale_prompt(self, problem: Problem) -> str:
        """What the rationale model q(z | c, x) is given: concepts, level and problem."""
        return self._fill(
            "infer_rationale",
            concepts=numbered(problem.concepts),
            level=problem.level,
            statement=problem.statement,
        )

    def concepts_prompt(self, problem: Problem, num_concepts: int) -> str:
        """What a teacher is asked in order to name a problem's concepts."""
        return self._fill(
            "extract_concepts", statement=problem.statement, num_concepts=str(num_concepts)
        )

    def annotation_prompt(self, problem: Problem) -> str:
        """What a teacher is asked in order to write a rationale."""
        return self._fill(
            "write_rationale",
            concepts=numbered(problem.concepts),
            level=problem.level,
            statement=problem.statement,
        )

    def plain_rationale(self, problem: Problem) -> str:
        """A rationale that no model wrote: a form that names the concepts."""
        return self._fill(
            "plain_rationale",
            concepts=", ".join(problem.concepts),
            first=problem.concepts[0],
            level=problem.level,
        )

    def solve_prompt(self, problem: Problem) -> str:
        """What a model is asked that is to solve the problem."""
        name = "solve_code" if problem.domain is Domain.CODE else "solve_math"
        return self._fill(name, statement=problem.statement)

    def _fill(self, name: str, **values: str) -> str:
        return Template(_read(self.templates, name)).substitute(values)

    def to_row(self) -> dict[str, object]:
        """What a manifest records of the format: the tags and the templates' whole text."""
        return {
            "rationale_tags": list(self.rationale_tags),
            "problem_tags": list(self.problem_tags),
            "templates": {name: _read(self.templates, name) for name in NAMES},
        }


def rationale_target(rationale: str) -> Target:
    """What the rationale model writes: the rationale alone, then the end token."""
    return Target(((rationale.strip(),),))


def numbered(concepts: Sequence[str]) -> str:
    """One concept a line, counted from 1."""
    return "\n".join(f"{number}. {concept}" for number, concept in enumerate(concepts, 1))


def _check_template(path: Path) -> None:
    """Refuse a template of one's own that cannot be filled, or would be one for all problems.

    Raises:
        ValueError: It has a name that is none of the bundled one's, or a lone dollar sign, or
            lacks the statement, or where there is none the concepts.
    """
    if not path.exists():
        return
    own, bundled = (Template(p.read_text("utf-8")) for p in (path, TEMPLATES / path.name))
    known = set(bundled.get_identifiers())
    if not own.is_valid():
        raise ValueError(f"{path} has a $ that begins no name: write $$ for a dollar sign")
    if unknown := set(own.get_identifiers()) - known:
        raise ValueError(
            f"{path} names ${min(unknown)}, but its values are "
            f"{', '.join(f'${name}' for name in sorted(known))}: write $$ for a dollar sign"
        )
    telling = {"statement"} & known or known - {"level"}
    if telling.isdisjoint(own.get_identifiers()):
        raise ValueError(
            f"{path} lacks ${min(telling)}, so that all prompts would be the same: put it in"
        )


@cache
def _read(folder: Path | None, name: str) -> str:
    own = folder / f"{name}.txt" if folder is not None else None
    path = own if own is not None and own.exists() else TEMPLATES / f"{name}.txt"
    return path.read_text(encoding="utf-8").removesuffix("\n")  # the editor's last line end
