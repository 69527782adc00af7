"""An event loop whose clock is virtual: when nothing is ready, the next timer's time has come.

No selector, no threads, no sockets but those of the simulated network. Waiting costs nothing, and
the same program runs the same way each time: callbacks run in the order in which they were given,
timers by their time. Nothing to do and nothing to wait for is a deadlock, which is an error.

Owns: time. Must not know: what runs, what the network is made of beyond four calls.
"""

import asyncio
from typing import Any

START_S = 1000.0
TURN_S = 1e-7  # a turn takes time: who waits until a time that has all but come must not spin
TURNS_MAX = 400_000  # of one run: more is a loop that never comes to rest


class Deadlock(Exception):
    """Somebody waits, and nothing will ever happen."""


class Livelock(Exception):
    """The loop has turned so often that it will not come to rest."""


class VirtualTask(asyncio.Task):  # type: ignore[type-arg]
    """A task with a number for its hash: sets of tasks are walked in the same order each time."""

    _last = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        VirtualTask._last += 1
        self.serial = VirtualTask._last
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. `network` has sock_connect, sock_sendall, sock_recv and adopt."""

    network: Any

    def __init__(self) -> None:
        super().__init__()
        self._now_s = START_S
        self._clock_resolution = 1e-9
        self._turns = 0
        self._selector = self  # of which _run_once asks `select`
        VirtualTask._last = 0
        self.set_task_factory(lambda loop, coro, **kw: VirtualTask(coro, loop=loop, **kw))

    def time(self) -> float:
        return self._now_s

    def select(self, timeout: float | None) -> list[Any]:
        """What _run_once calls to wait: the clock jumps to the next timer."""
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise Livelock(f"{TURNS_MAX} turns of the loop")
        if timeout is None:
            raise Deadlock("nothing is ready and no timer is set")
        self._now_s += TURN_S
        if timeout > 0:
            self._now_s = max(self._now_s, self._scheduled[0]._when)  # type: ignore[attr-defined]
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """No thread waits to be woken."""

    # -- the network's sockets

    async def sock_connect(self, sock: Any, address: Any) -> None:
        await self.network.sock_connect(sock, address)

    async def sock_sendall(self, sock: Any, data: Any) -> None:
        await self.network.sock_sendall(sock, data)

    async def sock_recv(self, sock: Any, n: int) -> bytes:
        got: bytes = await self.network.sock_recv(sock, n)
        return got

    async def create_connection(self, protocol_factory: Any, *_: Any, **kw: Any) -> Any:
        return self.network.adopt(kw["sock"], protocol_factory)
