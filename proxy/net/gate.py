"""The gate of a route: shut while an operator has paused it, and then nobody is given a link.

Who wants one waits in the hold queue, as in an outage, and its clock stands still.
Owns: that state, and the way to hear that the last link has gone. Must not know: pools, clients.
"""

import asyncio

from proxy.core.reasons import Reason


class Gate:
    """Open at first. Make it on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.shut_for: Reason | None = None  # PAUSED or KILLED
        self.epoch = 0  # links opened in an earlier one are to be left
        self._opened = asyncio.Event()
        self._opened.set()
        self._shut_at_s = 0.0
        self._shut_s = 0.0  # how long it was shut, all in all
        self._changed: asyncio.Future[None] | None = None

    @property
    def is_shut(self) -> bool:
        return self.shut_for is not None

    def clock_s(self) -> float:
        """A clock that stands still while the gate is shut: waiting for RESUME costs no hold_s."""
        now_s = self._shut_at_s if self.is_shut else self._loop.time()
        return now_s - self._shut_s

    def shut(self, reason: Reason) -> None:
        """Nobody gets a link until `open`. The last reason counts."""
        if not self.is_shut:
            self._shut_at_s = self._loop.time()
        self.shut_for = reason
        self._opened.clear()

    def open(self) -> None:
        if self.is_shut:
            self._shut_s += self._loop.time() - self._shut_at_s
        self.shut_for = None
        self._opened.set()
        self.link_gone()  # whoever waits for the end of a PAUSE has waited enough

    async def opened(self) -> None:
        """Returns when the gate is open."""
        await self._opened.wait()

    def link_gone(self) -> None:
        """One link less, or one less on its way."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
        self._changed = None

    async def change(self) -> None:
        """Returns when a link has gone, or the gate was opened."""
        if self._changed is None:
            self._changed = self._loop.create_future()
        await asyncio.shield(self._changed)
