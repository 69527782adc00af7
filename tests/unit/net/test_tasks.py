"""Tasks are remembered, crashes reported without secrets, the end awaited."""

import asyncio
import gc

import pytest

from proxy.core.errors import LimitExceeded
from proxy.core.reasons import Reason
from proxy.net.tasks import TaskSet

pytestmark = [pytest.mark.both_loops]


class Report:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def __call__(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        self.events.append((event, {"level": level, **fields}))


async def forever(ended: list[str]) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append("ended")


async def test_tasks_survive_the_collector() -> None:
    tasks = TaskSet(Report())
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0.01)
        done.set()

    tasks.start(work(), "work")
    gc.collect()
    await done.wait()
    await asyncio.sleep(0)
    assert len(tasks) == 0


async def test_crash_is_reported_once_and_without_its_text() -> None:
    report = Report()
    tasks = TaskSet(report)

    async def crash() -> None:
        raise ValueError("the password is hunter2")

    task = tasks.start(crash(), "crash")
    await asyncio.wait({task})
    await asyncio.sleep(0)
    ((event, fields),) = report.events
    assert event == "task_crashed"
    assert fields["error"] == "ValueError"
    assert fields["task"] == "crash"
    assert fields["reason"] is Reason.BUG
    assert fields["level"] == "error"
    assert str(fields["where"]).startswith("unit/net/test_tasks.py:")
    assert "hunter2" not in repr(fields)


async def test_stop_cancels_and_waits() -> None:
    report = Report()
    tasks = TaskSet(report)
    ended: list[str] = []
    for n in range(3):
        tasks.start(forever(ended), f"task {n}")
    await asyncio.sleep(0)
    assert await tasks.stop() == 0
    assert ended == ["ended"] * 3
    assert len(tasks) == 0
    assert report.events == []


async def test_stop_of_an_empty_set() -> None:
    assert await TaskSet(Report()).stop() == 0


async def test_stop_from_one_of_its_own_tasks() -> None:
    tasks = TaskSet(Report())
    ended: list[str] = []
    result: list[int] = []

    async def leave() -> None:
        result.append(await tasks.stop())

    tasks.start(forever(ended), "other")
    await asyncio.sleep(0)
    await tasks.start(leave(), "leave")
    assert result == [0]
    assert ended == ["ended"]


async def test_stubborn_task_is_named() -> None:
    report = Report()
    tasks = TaskSet(report)
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = tasks.start(stubborn(), "stubborn")
    await asyncio.sleep(0)
    assert await tasks.stop(grace_s=0.01) == 1
    assert report.events == [("task_stuck", {"level": "error", "task": "stubborn"})]
    release.set()
    await asyncio.wait({task})


async def test_limit() -> None:
    tasks = TaskSet(Report(), tasks_max=1)
    tasks.start(forever([]), "first")
    with pytest.raises(LimitExceeded, match="more than 1 tasks") as caught:
        tasks.start(forever([]), "second")
    assert caught.value.reason is Reason.LIMIT
    await tasks.stop()


async def test_no_new_task_when_stopping() -> None:
    tasks = TaskSet(Report())
    await tasks.stop()
    with pytest.raises(LimitExceeded) as caught:
        tasks.start(forever([]), "late")
    assert caught.value.reason is Reason.SHUTDOWN
