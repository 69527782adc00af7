"""What the pools of a route share, and who waits for a link in one.

Must not know: links, beyond handing one over.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from proxy.core.errors import LimitExceeded, ProxyError, UpstreamRefused, UpstreamUnavailable
from proxy.core.events import Events
from proxy.core.reasons import Reason
from proxy.core.report import Latency
from proxy.net.gate import Gate
from proxy.net.tasks import TaskSet
from proxy.postgres.protocol.say import Wait
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.options import PoolOptions, ResilienceOptions
from proxy.postgres.runtime.upstream import Upstream

Startup = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class PoolKey:
    """Whose links: never shared between users, databases or secrets."""

    user: bytes
    database: bytes
    secret: bytes


class Hold:
    """How many sessions of the route wait; at most `hold_clients`."""

    __slots__ = ("count", "limit", "peak")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.count = self.peak = 0

    def enter(self) -> None:
        """Raises LimitExceeded."""
        if self.count >= self.limit:
            raise LimitExceeded(f"{self.limit} sessions are waiting already", Reason.HOLD_FULL)
        self.count += 1
        self.peak = max(self.peak, self.count)

    def leave(self) -> None:
        self.count -= 1


@dataclass(slots=True)
class Waiter:
    """A session in the queue of its pool."""

    startup: Startup
    future: asyncio.Future[Link]
    since_s: float
    left_s: float  # while the gate is shut
    limit: asyncio.Timeout | None = None

    def stop_clock(self, now_s: float) -> None:
        """The gate was shut: from now on nothing is lost by waiting."""
        if self.limit is not None and (due_s := self.limit.when()) is not None:
            self.left_s = due_s - now_s
            self.limit.reschedule(None)

    def start_clock(self, now_s: float) -> None:
        stopped = self.limit is not None and self.limit.when() is None
        if self.limit is not None and stopped and not self.future.done():
            self.limit.reschedule(now_s + max(self.left_s, 0.0))


@dataclass(slots=True)
class PoolContext:
    """What the pools of a route share; the route puts other options in when it is told others."""

    upstream: Upstream
    gate: Gate
    options: PoolOptions
    resilience: ResilienceOptions
    ping_s: float
    ping_timeout_s: float
    hold: Hold
    latency: Latency
    on_loss: Callable[[Link, bool], None]  # (link, whether it was idle)
    tasks: TaskSet
    events: Events
    rng: random.Random
    route: str


def timed_out(cause: Wait, upstream: Upstream) -> ProxyError:
    """What a session is told that has waited `hold_s` for this cause."""
    match cause:
        case Wait.POOL_FULL:
            return UpstreamUnavailable("all links are in use", Reason.POOL_TIMEOUT)
        case Wait.OPENING:
            return UpstreamUnavailable("others' links were opened first", Reason.POOL_TIMEOUT)
        case Wait.SERVER_FULL:
            wire = upstream.full_wire
            return UpstreamRefused(upstream.last_error, Reason.UPSTREAM_FULL, wire)
        case Wait.AWAY | Wait.PAUSED:
            error = upstream.last_error or "It has not answered so far."
            return UpstreamUnavailable(error, Reason.HOLD_TIMEOUT)
