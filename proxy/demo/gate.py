"""When a cut may strike: not while someone is in the middle of what a cut would honestly break.

A write whose link is reset before its answer came has an outcome nobody can know, and a
transaction with work in it is gone with its link; Backstay says so with 08007 and 40001, and a demo
that counts errors would count those. So workers enter a section around such work, and whoever
strikes closes the gate: it waits until those inside are out, and holds back those to come.

Owns: that wait. Knows nothing of databases. One loop only.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import IntEnum


class Risk(IntEnum):
    """What a worker is in the middle of."""

    WRITE = 1
    """One write without a transaction around it: the server's own FATAL may strike it."""
    TRANSACTION = 2
    """A transaction in which a read or a write has run: nothing may."""


class Gate:
    """Sections of workers against moments of strikes. `open_always`: strikes wait for nobody."""

    def __init__(self, open_always: bool = False) -> None:
        self.open_always = open_always
        self._inside = dict.fromkeys(Risk, 0)
        self._closed_from: Risk | None = None
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def section(self, risk: Risk) -> AsyncIterator[None]:
        """Be in the middle of such work. Waits while the gate is closed for it."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_closed(risk))
            self._inside[risk] += 1
        try:
            yield
        finally:
            self._inside[risk] -= 1
            async with self._changed:
                self._changed.notify_all()

    @asynccontextmanager
    async def closed(self, lowest: Risk, seconds_max: float) -> AsyncIterator[None]:
        """Nobody is inside a section of that risk or a higher one, until the context ends.

        One at a time. Raises TimeoutError if they are not out in time.
        """
        if self.open_always:
            yield
            return
        assert self._closed_from is None, "closed twice"
        self._closed_from = lowest
        try:
            async with asyncio.timeout(seconds_max), self._changed:
                await self._changed.wait_for(lambda: not self._busy(lowest))
            yield
        finally:
            self._closed_from = None
            async with self._changed:
                self._changed.notify_all()

    def _is_closed(self, risk: Risk) -> bool:
        return self._closed_from is not None and risk >= self._closed_from

    def _busy(self, lowest: Risk) -> bool:
        return any(count for risk, count in self._inside.items() if risk >= lowest)
