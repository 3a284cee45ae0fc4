"""The requests of one call shared out over processes, and their results as one stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

from promptcot.engines.vllm_calls import Ask, Take

T = TypeVar("T")
Results = SimpleQueue[tuple[T] | BaseException | None]
"""None: one source is at its end."""


def dealt(count: int, processes: int) -> Iterator[int]:
    """``range(count)`` in the order of a deal: what lies together goes to different processes."""
    return (index for first in range(processes) for index in range(first, count, processes))


class Turns:
    """Gives out numbers, each once, to whoever asks; threads may.

    Args:
        numbers: In the order in which they are given out.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._lock = Lock()

    def take(self, room: int) -> tuple[int, ...]:
        """The next ones, ``room`` at most; none when all are given out."""
        with self._lock:
            return tuple(islice(self._numbers, room))


class Share:
    """What one process is given of a call, as it asks for it.

    Args:
        connection: To whoever gives out: answers each ``Ask`` by a ``Take``; anything else that
            comes ends the call.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_due = self._is_dry = False
        self.is_stopped = False
        """Whether the call was ended early."""

    def take(self, room: int, *, wait: bool) -> tuple[int, ...]:
        """Numbers of requests to begin, ``room`` at most.

        Args:
            room: For how many; one question is on its way at a time, so it must not shrink before
                that is answered.
            wait: Until the answer is there; else none are returned where it is not.
        """
        if room and not self._is_due and not self._is_dry:
            self._connection.send(Ask(room))
            self._is_due = True
        if not self._connection.poll(None if wait and self._is_due else 0):
            return ()
        message = self._connection.recv()
        if not isinstance(message, Take):
            self.is_stopped = True
            return ()
        self._is_due, self._is_dry = False, not message.indices
        return message.indices


def equal_share(count: int, processes: int) -> int:
    """How many of ``count`` each of the processes may hold, so that none holds what others lack."""
    return -(-count // processes)


def merged(sources: Sequence[Iterator[T]], stop: Callable[[], None]) -> Iterator[T]:
    """What all of them yield, as it comes, each read to its end by a thread of its own.

    The first error of one is raised here. Nothing waits for whoever reads this.

    Args:
        sources: Iterators, or generators that were not begun.
        stop: Has all of them come to their end soon; called once, and only when this is left early
            or one of them failed.
    """
    results: Results[T] = SimpleQueue()
    threads = [Thread(target=_read, args=(source, results), daemon=True) for source in sources]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield result[0]
    finally:
        if running:
            stop()
        for thread in threads:
            thread.join()


def _read(source: Iterator[T], results: Results[T]) -> None:
    try:
        for item in source:
            results.put((item,))
    except BaseException as error:
        results.put(error)
    else:
        results.put(None)
