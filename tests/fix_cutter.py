"""The fault hop for tests: in the test's own loop, or in a thread for blocking drivers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self, TypeVar

import pytest_asyncio
import uvloop

from proxy.demo.cutter import Cutter, Target

T = TypeVar("T")
CALL_S_MAX = 30.0


@pytest_asyncio.fixture
async def make_cutter() -> AsyncIterator[Callable[..., Awaitable[Cutter]]]:
    """`await make_cutter(target, seed=…, plan=…)`: a listening cutter in this test's loop."""
    made: list[Cutter] = []

    async def make(target: Target, **options: Any) -> Cutter:
        made.append(Cutter(target, **options))
        await made[-1].accept()
        return made[-1]

    yield make
    for cutter in made:
        await cutter.close()


class ThreadCutter:
    """A cutter in a thread of its own. `call` runs something on it, in its loop."""

    def __init__(self, target: Target, **options: Any) -> None:
        self._target = target
        self._options = options
        self._started = threading.Event()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True, name="cutter")
        self._over: asyncio.Event
        self.cutter: Cutter

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(CALL_S_MAX), "the cutter did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(CALL_S_MAX)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return self.cutter.port

    def call(self, act: Callable[[Cutter], T]) -> T:
        """Run `act(cutter)` in its loop; a coroutine is awaited there. Bounded by CALL_S_MAX."""

        async def run() -> T:
            result = act(self.cutter)
            if asyncio.iscoroutine(result):
                return await result
            return result

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(CALL_S_MAX)

    def _run(self) -> None:
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._over = asyncio.Event()
        self.cutter = Cutter(self._target, **self._options)
        async with self.cutter:
            self._started.set()
            await self._over.wait()
