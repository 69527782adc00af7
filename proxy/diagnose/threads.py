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
