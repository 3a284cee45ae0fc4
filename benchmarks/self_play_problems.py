"""Word problems in whole numbers with programmed solutions, for the self-play experiment.

    PYTHONPATH=. python benchmarks/self_play_problems.py --folder runs/self_play/problems

Fifteen templates of levels 1 to 5, drawn with a fixed seed. A problem is named by its template and
its numbers, and no two problems share a name, so the parts have neither a statement nor a
calculation in common. No value on the way to an answer is negative, and no answer is 0 or 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from self_play_templates import TEMPLATES, Impossible, Work

SMALLEST_ANSWER = 2
PATIENCE = 1000
"""Draws in a row that give nothing new, after which nothing new is hoped for."""
EVEN_LEVELS = dict.fromkeys(TEMPLATES, 1.0)
"""How often each level is drawn, relative to the others."""

Row = dict[str, str]


@dataclass(frozen=True, slots=True)
class Drawn:
    """A problem with its solution.

    Args:
        template: Name of the template.
        level: 1 to 5.
        statement: The problem in words.
        numbers: Those of the statement, in its order.
        steps: The solution, one calculation each.
        answer: What the last step comes to.
    """

    template: str
    level: int
    statement: str
    numbers: tuple[int, ...]
    steps: tuple[str, ...]
    answer: int

    @property
    def key(self) -> str:
        """Names the calculation: equal for two wordings, or two orders, of the same one."""
        return " ".join([self.template, *map(str, sorted(self.numbers))])

    @property
    def solution(self) -> str:
        """The steps, one a line, then the answer in a box."""
        return "\n".join([*self.steps, f"\\boxed{{{self.answer}}}"])


def draw(rng: Random, level: int, size: float = 1.0) -> Drawn:
    """A problem of a level; ``size`` is that of ``Work``."""
    template = rng.choice(TEMPLATES[level])
    for _ in range(PATIENCE):
        work = Work(rng, size)
        try:
            statement, answer = template(work)
        except Impossible:
            continue
        if answer >= SMALLEST_ANSWER:
            numbers, steps = tuple(work.numbers), tuple(work.steps)
            return Drawn(template.__name__, level, statement, numbers, steps, answer)
    raise ValueError(f"no numbers of size {size} suit {template.__name__}: raise the size")


def draw_parts(
    counts: Mapping[str, int],
    *,
    seed: int = 0,
    levels: Mapping[int, float] = EVEN_LEVELS,
    size: float = 1.0,
) -> dict[str, list[Drawn]]:
    """So many problems for each part, all of different templates or numbers.

    Args:
        counts: Problems by name of the part.
        seed: The same one draws the same problems.
        levels: How often each level is drawn, relative to the others.
        size: Share of each number's range that is drawn from: how easy the arithmetic is.

    Raises:
        ValueError: There are not so many different problems.
    """
    rng = Random(seed)
    drawn: dict[str, Drawn] = {}
    in_vain = 0
    while len(drawn) < sum(counts.values()):
        (level,) = rng.choices(list(levels), list(levels.values()))
        problem = draw(rng, level, size)
        in_vain = in_vain + 1 if problem.key in drawn else 0
        if in_vain > PATIENCE:
            raise ValueError(
                f"no more than {len(drawn)} problems of size {size} and these levels were found: "
                "raise the size or ask for fewer"
            )
        drawn.setdefault(problem.key, problem)
    problems = iter(drawn.values())
    return {part: [next(problems) for _ in range(count)] for part, count in counts.items()}


def to_row(problem: Drawn, name: str) -> Row:
    """The row of a corpus, without the solution."""
    return {
        "id": name,
        "domain": "math",
        "level": str(problem.level),
        "template": problem.template,
        "statement": problem.statement,
        "reference": str(problem.answer),
    }


def write_parts(
    folder: Path,
    counts: Mapping[str, int],
    seed: int,
    levels: Mapping[int, float] = EVEN_LEVELS,
    size: float = 1.0,
) -> None:
    """Write a JSONL file for each part; only the rows of ``warm_up`` tell their solutions."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, problems in draw_parts(counts, seed=seed, levels=levels, size=size).items():
        rows = [to_row(problem, f"{part}-{number}") for number, problem in enumerate(problems)]
        if part == "warm_up":
            rows = [
                {**row, "solution": problem.solution}
                for row, problem in zip(rows, problems, strict=True)
            ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{part}.jsonl").write_text(lines, encoding="utf-8")


def main(arguments: Sequence[str]) -> None:
    """Write the parts to a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--num-train", type=int, default=4000)
    parser.add_argument("--num-held-out", type=int, default=1000)
    parser.add_argument("--num-warm-up", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=float, default=1.0, help="share of the numbers' ranges")
    given = parser.parse_args(arguments)
    counts = {part: getattr(given, f"num_{part}") for part in ("train", "held_out", "warm_up")}
    write_parts(given.folder, counts, given.seed, size=given.size)


if __name__ == "__main__":
    main(sys.argv[1:])
