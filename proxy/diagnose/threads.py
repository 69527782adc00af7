"""Blocking work side by side, without a pool that outlives Ctrl-C."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def side_by_side(works: Sequence[Callable[[], T]]) -> list[T]:
    """The results, in order; what one raises is raised here. Ctrl-C does not wait for the rest."""
    done: queue.SimpleQueue[tuple[int, T | None, BaseException | None]] = queue.SimpleQueue()

    def run(index: int, work: Callable[[], T]) -> None:
        try:
            done.put((index, work(), None))
        except BaseException as error:
            done.put((index, None, error))

    for index, work in enumerate(works):
        threading.Thread(target=run, args=(index, work), daemon=True).start()
    results: dict[int, Any] = {}
    for _ in works:
        index, result, error = done.get()
        if error is not None:
            raise error
        results[index] = result
    return [results[index] for index in range(len(works))]


def within(work: Callable[[], T], seconds: float) -> T:
    """What `work` returns or raises; TimeoutError if it is not done by then, and it goes on alone.

    For calls that take no time limit themselves, such as getaddrinfo.
    """
    done: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            done.put((work(), None))
        except BaseException as error:
            done.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        result, failure = done.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError from None
    if failure is not None:
        raise failure
    return result  # type: ignore[return-value]
