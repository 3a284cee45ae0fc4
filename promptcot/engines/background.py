"""Results of a coroutine as a plain iterator, whether or not an event loop runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def from_thread(
    produce: Callable[[Callable[[T], None]], Coroutine[None, None, None]],
) -> Iterator[T]:
    """Run ``produce(emit)`` in a thread of its own and yield what it emits.

    Closing the iterator, or an error in whoever consumes it, cancels the coroutine. Its own error
    is raised here, after everything that it had emitted; of a group the first.
    """
    results: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    loop = asyncio.new_event_loop()
    task = loop.create_task(produce(lambda item: results.put((item,))))

    def run() -> None:
        try:
            loop.run_until_complete(task)
        except BaseException as error:
            results.put(error)
        else:
            results.put(None)

    thread = Thread(target=run, name="promptcot-requests", daemon=True)
    thread.start()
    try:
        while (result := results.get()) is not None:
            if isinstance(result, BaseException):
                raise _first(result)
            yield result[0]
    finally:
        loop.call_soon_threadsafe(task.cancel)
        thread.join()
        loop.close()


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
