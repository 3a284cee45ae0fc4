"""How much a text repeats itself: over its whole length, and in a loop at its end. Linear time."""

from __future__ import annotations

from promptcot.overlap import num_words, runs, words

RUN = 20
"""Words in a row that honest mathematics seldom writes twice: cases differ in a number."""
SHORT = 200
"""Words of a text in which a single matrix would weigh too much."""
TAIL = 4000
"""Characters at the end of a text in which a loop is sought."""
LOOP = 400
"""The fewest characters of a loop."""
TIMES = 4
"""How often a loop has been gone round, at least."""


def repeated_share(text: str) -> float:
    """Share of the runs of 20 words that the text has had before, in [0, 1).

    About one half for a text that says everything twice; 0 for one of fewer than 200 words.
    """
    found = words(text)
    if num_words(found) < SHORT:
        return 0.0
    all_runs = list(runs(found, RUN))
    return 1.0 - len(set(all_runs)) / len(all_runs)


def ends_in_loop(text: str) -> bool:
    """Whether the last 400 characters or more are one string, written 4 times or more.

    The last round may be incomplete. Strings of up to 1000 characters are found.
    """
    tail = text[: -TAIL - 1 : -1]  # backwards: a loop at the end is one at the beginning
    borders = _borders(tail)
    return any(
        length >= max(LOOP, TIMES * (length - border)) for length, border in enumerate(borders, 1)
    )


def _borders(text: str) -> list[int]:
    """For each prefix the length of the longest border: what is both its start and its end.

    A prefix of n characters with a border of b is periodic with n - b. (Knuth, Morris, Pratt.)
    """
    borders = [0] * len(text)
    border = 0
    for i in range(1, len(text)):
        while border and text[i] != text[border]:
            border = borders[border - 1]
        border += text[i] == text[border]
        borders[i] = border
    return borders
