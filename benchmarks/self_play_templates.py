"""Templates of word problems in whole numbers, each with its solution step by step.

To add one, write a function of ``Work`` that gives statement and answer, and name it in
``TEMPLATES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

NAMES = (
    *("Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry"),
    *("Iris", "Jack", "Kate", "Leo", "Maria", "Noah", "Olga", "Paul"),
)
THINGS = (
    *("apples", "books", "pens", "cards", "coins", "shells"),
    *("stamps", "marbles", "stickers", "beads", "cups", "pears"),
)


class Impossible(ValueError):
    """These numbers make a negative value or a broken one; others are drawn."""


@dataclass(slots=True)
class Work:
    """One problem while it is drawn: where numbers and words come from, and its calculation.

    Args:
        rng: Draws them.
        size: Share of each number's range that is drawn from, from its least value up.
        numbers: Those drawn.
        steps: Those of the calculation.
    """

    rng: Random
    size: float = 1.0
    numbers: list[int] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)

    def number(self, least: int, largest: int) -> int:
        """A number of the statement; draw them in the order in which they stand there."""
        largest = least + round((largest - least) * self.size)
        self.numbers.append(self.rng.randint(least, largest))
        return self.numbers[-1]

    def names(self) -> list[str]:
        """Two different people."""
        return self.rng.sample(NAMES, 2)

    def things(self) -> list[str]:
        """Two different kinds of objects."""
        return self.rng.sample(THINGS, 2)

    def add(self, a: int, b: int) -> int:
        """The step a + b."""
        return self._step(f"{a} + {b}", a + b)

    def take(self, a: int, b: int) -> int:
        """The step a - b."""
        return self._step(f"{a} - {b}", a - b)

    def times(self, a: int, b: int) -> int:
        """The step a * b."""
        return self._step(f"{a} * {b}", a * b)

    def share(self, a: int, b: int) -> int:
        """The step a / b, which must leave nothing over."""
        if a % b:
            raise Impossible
        return self._step(f"{a} / {b}", a // b)

    def _step(self, calculation: str, value: int) -> int:
        if value < 0:
            raise Impossible
        self.steps.append(f"{calculation} = {value}")
        return value


def three_terms(work: Work) -> tuple[str, int]:
    """Level 1."""
    a, b, c = work.number(11, 99), work.number(11, 99), work.number(2, 9)
    return f"What is {a} + {b} + {c}?", work.add(work.add(a, b), c)


def plus_minus(work: Work) -> tuple[str, int]:
    """Level 1."""
    a, b, c = work.number(11, 99), work.number(11, 99), work.number(11, 99)
    return f"Compute {a} + {b} - {c}.", work.take(work.add(a, b), c)


def gives_away(work: Work) -> tuple[str, int]:
    """Level 2."""
    (name, other), (things, _) = work.names(), work.things()
    a, b, c = work.number(21, 99), work.number(11, 60), work.number(11, 60)
    text = (
        f"{name} has {a} {things}, buys {b} more and gives {c} to {other}. "
        f"How many {things} does {name} have now?"
    )
    return text, work.take(work.add(a, b), c)


def two_sales(work: Work) -> tuple[str, int]:
    """Level 2."""
    things, _ = work.things()
    a, b, c = work.number(120, 400), work.number(21, 99), work.number(21, 99)
    text = (
        f"A shop has {a} {things}. It sells {b} in the morning and {c} in the afternoon. "
        f"How many {things} are left?"
    )
    return text, work.take(work.take(a, b), c)


def more_than(work: Work) -> tuple[str, int]:
    """Level 2."""
    (name, other), (things, _) = work.names(), work.things()
    a, b = work.number(21, 180), work.number(11, 99)
    text = (
        f"{name} has {a} {things}. {other} has {b} more than {name}. "
        f"How many {things} do they have together?"
    )
    return text, work.add(a, work.add(a, b))


def unit_price(work: Work) -> tuple[str, int]:
    """Level 3."""
    (name, _), (things, others) = work.names(), work.things()
    n, p, q = work.number(3, 9), work.number(11, 59), work.number(11, 99)
    text = (
        f"{name} buys {n} {things} at {p} dollars each and some {others} for {q} dollars. "
        "How many dollars does that cost?"
    )
    return text, work.add(work.times(n, p), q)


def change(work: Work) -> tuple[str, int]:
    """Level 3."""
    (name, _), (things, _) = work.names(), work.things()
    n, p, paid = work.number(3, 9), work.number(11, 49), work.number(60, 500)
    text = (
        f"{name} buys {n} {things} at {p} dollars each and pays with {paid} dollars. "
        "How many dollars come back?"
    )
    return text, work.take(paid, work.times(n, p))


def ages(work: Work) -> tuple[str, int]:
    """Level 3."""
    name, other = work.names()
    a, k, n = work.number(6, 35), work.number(2, 5), work.number(2, 29)
    text = (
        f"{name} is {a} years old, and {other} is {k} times as old. "
        f"How old will {other} be in {n} years?"
    )
    return text, work.add(work.times(a, k), n)


def left_over(work: Work) -> tuple[str, int]:
    """Level 4."""
    things, _ = work.things()
    a, b = work.number(40, 300), work.number(4, 15)
    text = f"{a} {things} are packed into boxes of {b}. How many {things} are left over?"
    return text, work.take(a, work.times(a // b, b))


def two_prices(work: Work) -> tuple[str, int]:
    """Level 4."""
    (name, _), (things, others) = work.names(), work.things()
    n, p, m, q = (work.number(*limits) for limits in ((3, 9), (11, 39)) * 2)
    text = (
        f"{name} buys {n} {things} at {p} dollars each and {m} {others} at {q} dollars each. "
        "How many dollars does that cost?"
    )
    return text, work.add(work.times(n, p), work.times(m, q))


def sequence(work: Work) -> tuple[str, int]:
    """Level 4."""
    a, d, n = work.number(5, 90), work.number(3, 19), work.number(5, 13)
    text = f"A sequence starts with {a} and grows by {d} at each step. What is its term number {n}?"
    return text, work.add(a, work.times(work.take(n, 1), d))


def shelves(work: Work) -> tuple[str, int]:
    """Level 4."""
    things, _ = work.things()
    n, m, k = work.number(3, 9), work.number(4, 9), work.number(3, 29)
    text = (
        f"A room has {n} shelves with {m} boxes on each. Every box holds {k} {things}. "
        f"How many {things} are in the room?"
    )
    return text, work.times(work.times(n, m), k)


def change_of_two(work: Work) -> tuple[str, int]:
    """Level 5."""
    (name, _), (things, others) = work.names(), work.things()
    n, p, m, q = (work.number(*limits) for limits in ((2, 9), (11, 29)) * 2)
    paid = work.number(100, 500)
    text = (
        f"{name} buys {n} {things} at {p} dollars each and {m} {others} at {q} dollars each, and "
        f"pays with {paid} dollars. How many dollars come back?"
    )
    return text, work.take(paid, work.add(work.times(n, p), work.times(m, q)))


def average(work: Work) -> tuple[str, int]:
    """Level 5."""
    a, b, c = work.number(11, 99), work.number(11, 99), work.number(11, 99)
    text = f"What is the average of {a}, {b} and {c}?"
    return text, work.share(work.add(work.add(a, b), c), 3)


def shared_out(work: Work) -> tuple[str, int]:
    """Level 5."""
    (name, _), (things, _) = work.names(), work.things()
    n, p, c, k = work.number(3, 9), work.number(12, 49), work.number(5, 60), work.number(2, 8)
    text = (
        f"{name} has {n} bags of {p} {things}, keeps {c} of them and shares the rest equally among "
        f"{k} friends. How many {things} does each friend get?"
    )
    return text, work.share(work.take(work.times(n, p), c), k)


Template = Callable[[Work], tuple[str, int]]
TEMPLATES: Mapping[int, tuple[Template, ...]] = {
    1: (three_terms, plus_minus),
    2: (gives_away, two_sales, more_than),
    3: (unit_price, change, ages),
    4: (left_over, two_prices, sequence, shelves),
    5: (change_of_two, average, shared_out),
}
"""By level."""
