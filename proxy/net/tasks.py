"""Background tasks that somebody remembers: references kept, crashes reported, an end awaited.

Must not know: what the tasks do.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any

from proxy.core.errors import LimitExceeded
from proxy.core.events import Events
from proxy.core.reasons import Reason


class TaskSet:
    """The running tasks of one owner, at most `tasks_max`.

    A task that ends with an exception is our bug: it is reported as `task_crashed`, once, and does
    not disturb its neighbours. Cancellation is no crash.
    """

    def __init__(self, events: Events, tasks_max: int = 10_000) -> None:
        self._events = events
        self._tasks_max = tasks_max
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """The task that runs `coroutine`. Raises LimitExceeded at `tasks_max` and when stopping."""
        if self._stopping or len(self._tasks) >= self._tasks_max:
            coroutine.close()
            if self._stopping:
                raise LimitExceeded("no new work: stopping", Reason.SHUTDOWN)
            raise LimitExceeded(f"more than {self._tasks_max} tasks", Reason.LIMIT)
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def stop(self, grace_s: float = 5.0) -> int:
        """Cancels all and waits for their end. The number that did not end within `grace_s`."""
        self._stopping = True
        current = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not current}
        for task in tasks:
            task.cancel()
        if not tasks:
            return 0
        _, stuck = await asyncio.wait(tasks, timeout=grace_s)
        for task in stuck:
            self._events("task_stuck", level="error", task=task.get_name())
        return len(stuck)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # The type only, as texts may quote what a peer sent; the traceback names the place.
            self._events(
                "task_crashed",
                level="error",
                reason=Reason.BUG,
                task=task.get_name(),
                error=type(error).__name__,
                where=_where(error),
            )


def _where(error: BaseException) -> str:
    """`file:line` of the innermost frame that raised."""
    frame = error.__traceback__
    if frame is None:
        return "unknown"
    while frame.tb_next is not None:
        frame = frame.tb_next
    path = frame.tb_frame.f_code.co_filename.replace("\\", "/").split("/")
    return f"{'/'.join(path[-3:])}:{frame.tb_lineno}"
