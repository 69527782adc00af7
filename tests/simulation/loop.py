"""An event loop whose clock is virtual: when nothing is ready, the next timer's time has come.

No selector, no threads, no sockets but those of the simulated network. Waiting costs nothing, and
the same program runs the same way each time: callbacks run in the order in which they were given,
timers by their time. Nothing to do and nothing to wait for is a deadlock, which is an error.

Owns: time. Must not know: what runs, what the network is made of beyond four calls.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Any

START_S = 1000.0
TURN_S = 1e-7  # a turn takes time: who waits until a time that has all but come must not spin
RESOLUTION_S = 1e-9  # of the clock
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


class Call:
    """What asyncio's handles are: a callback and its time. Cancelled, it has no callback."""

    __slots__ = ("_when", "args", "callback", "context", "loop")

    def __init__(
        self,
        loop: "VirtualLoop",
        callback: Any,
        args: tuple[Any, ...],
        context: contextvars.Context | None,
        when: float = 0.0,
    ) -> None:
        self.loop, self.callback, self.args, self._when = loop, callback, args, when
        self.context = context

    def __repr__(self) -> str:
        return f"<{self.callback!r} at {self._when}>"

    def cancel(self) -> None:
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        return self.callback is None

    def when(self) -> float:
        return self._when


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. `network` has sock_connect, sock_sendall, sock_recv and adopt."""

    network: Any
    _ready: deque["Call"]  # type: ignore[assignment]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now_s = START_S
        self._turns = 0
        self._timers: list[tuple[float, int, Call]] = []
        self._timer_number = 0
        VirtualTask._last = 0
        self.set_task_factory(lambda loop, coro, **kw: VirtualTask(coro, loop=loop, **kw))

    def time(self) -> float:
        return self._now_s

    def timers(self) -> Iterator["Call"]:
        """Those that are set and not cancelled."""
        return (timer for _, _, timer in self._timers if not timer.cancelled())

    # asyncio's own versions of these do the same, and took a third of the simulation's time

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> "Call":
        call = Call(self, callback, args, context)
        self._ready.append(call)
        return call

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> "Call":
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> "Call":
        call = Call(self, callback, args, context, when)
        self._timer_number += 1
        heappush(self._timers, (when, self._timer_number, call))
        return call

    def _run_once(self) -> None:
        """One turn: timers whose time has come, then everything that was ready before."""
        timers, ready = self._timers, self._ready
        while timers and timers[0][2].callback is None:
            heappop(timers)
        self._turns += 1
        if self._turns > TURNS_MAX:
            raise Livelock(f"{TURNS_MAX} turns of the loop")
        self._now_s += TURN_S
        if not (ready or self._stopping):
            if not timers:
                raise Deadlock("nothing is ready and no timer is set")
            self._now_s = max(self._now_s, timers[0][0])
        until_s = self._now_s + RESOLUTION_S
        while timers and timers[0][0] < until_s:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            call = ready.popleft()
            if call.callback is None:
                continue
            try:
                if call.context is None:  # nothing here has a context of its own but tasks
                    call.callback(*call.args)
                else:
                    call.context.run(call.callback, *call.args)
            except Exception as error:
                about = {"message": f"Exception in callback {call!r}", "exception": error}
                self.call_exception_handler(about)

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
