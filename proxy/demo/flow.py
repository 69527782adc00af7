"""One direction of a connection through the cutter: delay, rate, silence, and a cut after byte n.

Knows bytes, the loop's clock and a transport to write to; what a cut *is* lies in cutter.py.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

QUEUE_BYTES_MAX: Final = 4 * 1024 * 1024


class Cut(Enum):
    """How a connection ends. All but SILENCE and the half close end both halves of the hop."""

    FIN = auto()
    """Orderly close of the TCP connection; under TLS without close_notify."""
    RST = auto()
    """Reset (SO_LINGER 0): unread and unsent bytes are lost."""
    TLS_ABORT = auto()
    """The head of a TLS record, then FIN: what is seen when a middlebox kills a TLS link."""
    SILENCE = auto()
    """Nothing ends, nothing arrives any more, in both directions; the kernel still acknowledges."""
    HALF_CLOSE = auto()
    """FIN in the direction of the cut only; the other direction lives on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPlan:
    """What happens to one direction of a new connection."""

    delay_s: float = 0.0
    rate_bytes_s: float = 0.0  # 0: as fast as it goes
    silent: bool = False
    piece_bytes: int = 0  # each piece of this size in a write, and a loop turn, of its own
    cut_after_bytes: int | None = None
    cut: Cut = Cut.RST


TRANSPARENT: Final = FlowPlan()


class Flow:
    """Carries bytes one way. The hop sets `write`, `end` and `on_cut` before the first byte."""

    def __init__(self, plan: FlowPlan, loop: asyncio.AbstractEventLoop) -> None:
        self.delay_s = plan.delay_s
        self.rate_bytes_s = plan.rate_bytes_s
        self.silent = plan.silent
        self.piece_bytes = plan.piece_bytes
        self.received_bytes = 0
        self.passed_bytes = 0
        self.swallowed_bytes = 0
        self.queued_bytes = 0
        self.write: Callable[[bytes], None] = _unset
        self.end: Callable[[], None] = _unset
        self.on_cut: Callable[[Cut], None] = _unset
        self._loop = loop
        self._cut_at = plan.cut_after_bytes
        self._cut = plan.cut
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._free_at_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._stopped = False

    def feed(self, data: bytes) -> None:
        """Bytes came in. They leave now, later or never, according to the settings of now."""
        self.received_bytes += len(data)
        if self.silent or self._stopped:
            self.swallowed_bytes += len(data)
            return
        if not (self.delay_s or self.rate_bytes_s or self.piece_bytes or self._queue):
            self._pass(data)
            return
        self.queued_bytes += len(data)
        size = self.piece_bytes or len(data)
        for at in range(0, len(data), size):
            self._enqueue(data[at : at + size])

    def feed_end(self) -> None:
        """The sender closed its half: the receiver hears of it after the bytes before it."""
        if self.silent or self._stopped:
            return
        if self._queue:
            self._enqueue(None)
        else:
            self.end()

    def full(self) -> bool:
        """Whether so much is under way that the sender must be paused."""
        return self.queued_bytes > QUEUE_BYTES_MAX

    def cut_after(self, more_bytes: int, cut: Cut) -> None:
        """Cut once `more_bytes` have passed from now on; 0 cuts at once."""
        self._cut_at = self.passed_bytes + more_bytes
        self._cut = cut
        if more_bytes == 0:
            self._strike()

    async def passed(self, total_bytes: int) -> None:
        """Return once this many bytes in total have been handed to the receiver."""
        if self.passed_bytes >= total_bytes:
            return
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append((total_bytes, waiter))
        await waiter

    def stop(self) -> None:
        """Carry nothing any more; whoever waits for a byte gets ConnectionError."""
        self._stopped = True
        self._queue.clear()
        self.queued_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for _, waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ConnectionError("cut before that byte"))
        self._waiters.clear()

    def _enqueue(self, data: bytes | None) -> None:
        now_s = self._loop.time()
        start_s = max(now_s, self._free_at_s)
        if data is not None and self.rate_bytes_s:
            start_s += len(data) / self.rate_bytes_s
        self._free_at_s = start_s
        self._queue.append((start_s + self.delay_s, data))
        if self._timer is None:
            self._timer = self._loop.call_at(self._queue[0][0], self._deliver)

    def _deliver(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        while self._queue and self._queue[0][0] <= now_s:
            _, data = self._queue.popleft()
            if data is None:
                self.end()
                continue
            self.queued_bytes -= len(data)
            if self.silent:
                self.swallowed_bytes += len(data)
            else:
                self._pass(data)
            if self.piece_bytes:
                break
        if self._queue:
            self._timer = self._loop.call_at(self._queue[0][0], self._deliver)

    def _pass(self, data: bytes) -> None:
        cut_at = self._cut_at
        if cut_at is not None and self.passed_bytes + len(data) >= cut_at:
            data = data[: cut_at - self.passed_bytes]
            self._hand_over(data)
            self._strike()
            return
        self._hand_over(data)

    def _hand_over(self, data: bytes) -> None:
        if data:
            self.passed_bytes += len(data)
            self.write(data)
        for need, waiter in self._waiters:
            if need <= self.passed_bytes and not waiter.done():
                waiter.set_result(None)
        self._waiters = [entry for entry in self._waiters if not entry[1].done()]

    def _strike(self) -> None:
        self._cut_at = None
        self.on_cut(self._cut)


def _unset(*_: object) -> None:
    raise AssertionError("the hop has not wired this flow")
