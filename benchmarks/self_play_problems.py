"""Word problems in whole numbers with programmed solutions, for the self-play experiment.

    python benchmarks/self_play_problems.py --folder runs/self_play/problems

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


def draw(rng: Random, level: int) -> Drawn:
    """A problem of a level."""
    template = rng.choice(TEMPLATES[level])
    while True:
        work = Work(rng)
        try:
            statement, answer = template(work)
        except Impossible:
            continue
        if answer >= SMALLEST_ANSWER:
            numbers, steps = tuple(work.numbers), tuple(work.steps)
            return Drawn(template.__name__, level, statement, numbers, steps, answer)


def draw_parts(
    sizes: Mapping[str, int], *, seed: int = 0, levels: Mapping[int, float] = EVEN_LEVELS
) -> dict[str, list[Drawn]]:
    """So many problems for each part, all of different templates or numbers.

    Args:
        sizes: Problems by name of the part.
        seed: The same one draws the same problems.
        levels: How often each level is drawn, relative to the others.
    """
    rng = Random(seed)
    drawn: dict[str, Drawn] = {}
    while len(drawn) < sum(sizes.values()):
        (level,) = rng.choices(list(levels), list(levels.values()))
        problem = draw(rng, level)
        drawn.setdefault(problem.key, problem)
    problems = iter(drawn.values())
    return {part: [next(problems) for _ in range(size)] for part, size in sizes.items()}


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
    folder: Path, sizes: Mapping[str, int], seed: int, levels: Mapping[int, float] = EVEN_LEVELS
) -> None:
    """Write a JSONL file for each part; only the rows of ``warm_up`` tell their solutions."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, problems in draw_parts(sizes, seed=seed, levels=levels).items():
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
    given = parser.parse_args(arguments)
    parts = ("train", "held_out", "warm_up")
    write_parts(given.folder, {part: getattr(given, f"num_{part}") for part in parts}, given.seed)


if __name__ == "__main__":
    main(sys.argv[1:])
