"""The Redis half of the demo: requests that ask for the same key again and again.

    application ── hop, 25 ms ───────────── Redis        direct
    application ── Backstay ── hop, 25 ms ── Redis       through Backstay

Each side has a server of its own, so that what reaches it can be counted there. A request reads
one user's key 14 times, and 14 times a key that does not exist, as the application of the incident
did. After each request somebody else writes the user's key, straight into the server: a later read
must see it. The hops are cut now and then.
"""

import asyncio
import random
import statistics
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.demo.cutter import Cut, Cutter, FlowPlan, Plan, Target
from proxy.demo.servers import RedisServer
from proxy.demo.strikes import pause

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

READS: Final = 14
ROUND_TRIP_S: Final = 0.025
IDLE_S: Final = (0.1, 0.3)
LEASE_S: Final = 0.5  # cache.lease_ms: a read this long after a write sees it
ANSWER_S_MAX: Final = 20.0
TIMES_MAX: Final = 10_000
CUTS: Final = (Cut.FIN, Cut.RST)


@dataclass(slots=True)
class CacheTally:
    """What one side has seen."""

    requests: int = 0
    reads: int = 0
    errors: int = 0
    last_error: str = ""
    wrong: list[str] = field(default_factory=list)
    request_s: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES_MAX))
    repeat_s: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES_MAX))
    """Times of reads of a key that the same request had read before."""
    upstream_reads: int = 0
    """GETs that the server has run."""

    @property
    def request_ms(self) -> float:
        """Median time of a request."""
        return statistics.median(self.request_s) * 1000 if self.request_s else 0.0

    @property
    def repeat_ms(self) -> float:
        """Median time of a repeated read."""
        return statistics.median(self.repeat_s) * 1000 if self.repeat_s else 0.0


class CacheSide:
    """One way to Redis: its server, the hop in front of it, the application on it."""

    def __init__(self, seed: int) -> None:
        self.tally = CacheTally()
        self.server = RedisServer()
        one_way = FlowPlan(delay_s=ROUND_TRIP_S / 2)
        target = Target(address=("127.0.0.1", self.server.port))
        self.hop = Cutter(target, seed, plan=Plan(to_client=one_way, to_server=one_way))
        self._rng = random.Random(seed)
        self._number = 0
        self._written: tuple[str, str, float] | None = None  # key, value, when
        self._behind: Any = None  # a client of the server itself

    async def open(self, stack: "AsyncExitStack") -> None:
        """Start the server and the hop; `stack` ends them."""
        stack.push_async_callback(asyncio.to_thread, self.server.close)
        await asyncio.to_thread(self.server.start)
        await stack.enter_async_context(self.hop)
        self._behind = self.server.connect(decode_responses=True)
        stack.callback(self._behind.close)

    async def run(self, port: int, stop: asyncio.Event) -> None:
        """Serve requests, one after the other, on a client of 127.0.0.1:port."""
        import redis  # only in the `demo` extra

        client = redis.Redis(port=port, decode_responses=True, socket_timeout=ANSWER_S_MAX)
        try:
            while not stop.is_set():
                # In a thread, as in the incident: redis-py's own asyncio client lets errors of
                # uvloop's transports through that it would else retry.
                await asyncio.to_thread(self._request, client)
                await pause(stop, self._rng.uniform(*IDLE_S))
        finally:
            client.close()

    def look(self) -> None:
        """Ask the server what has reached it."""
        stats = self._behind.info("commandstats").get("cmdstat_get", {"calls": 0})
        self.tally.upstream_reads = int(stats["calls"])

    def _request(self, client: Any) -> None:
        """One request of the application; an error ends it."""
        import redis

        self._number += 1
        user, membership = f"user:{self._number}", f"membership:{self._number}"
        name = f"member {self._number}"
        self._behind.set(user, name)
        started_s = time.monotonic()
        try:
            self._read(client, user, name, READS)
            self._read(client, membership, None, READS)
            self.tally.request_s.append(time.monotonic() - started_s)
            self._check_write(client)
            self.tally.requests += 1
        except (redis.RedisError, OSError) as error:
            self.tally.errors += 1
            self.tally.last_error = str(error) or type(error).__name__
        else:
            self._behind.set(user, "renamed")
            self._written = (user, "renamed", time.monotonic())

    def _read(self, client: Any, key: str, right: str | None, times: int) -> None:
        for turn in range(times):
            started_s = time.monotonic()
            value = client.get(key)
            self.tally.reads += 1
            if turn:
                self.tally.repeat_s.append(time.monotonic() - started_s)
            if value != right:
                self.tally.wrong.append(f"GET {key}: expected {right}, got {value}")

    def _check_write(self, client: Any) -> None:
        """What somebody else has written since the request before is seen after the lease."""
        if self._written is None:
            return
        key, value, at_s = self._written
        self._written = None
        time.sleep(max(0.0, at_s + LEASE_S - time.monotonic()))
        self._read(client, key, value, 1)


class CacheHalf:
    """Both sides, and the cuts."""

    def __init__(self, seed: int) -> None:
        self.direct = CacheSide(seed)
        self.through = CacheSide(seed)
        self._rng = random.Random(seed)

    @property
    def sides(self) -> Sequence[CacheSide]:
        """Direct first."""
        return (self.direct, self.through)

    @property
    def links_cut(self) -> int:
        """By both hops."""
        return sum(len(side.hop.history) for side in self.sides)

    async def open(self, stack: "AsyncExitStack") -> None:
        """Start servers and hops."""
        for side in self.sides:
            await side.open(stack)

    async def strike(self, stop: asyncio.Event, every_s: float) -> None:
        """Cut both hops at the same moment in the same way, again and again."""
        while not stop.is_set():
            await pause(stop, every_s * self._rng.uniform(0.75, 1.25))
            cut = self._rng.choice(CUTS)
            for side in self.sides:
                side.hop.cut_all(cut)

    def look(self) -> None:
        """Bring the counts of both servers up to date."""
        for side in self.sides:
            side.look()

    def faults(self) -> list[str]:
        """What was not as promised on the proxy's side."""
        tally, found = self.through.tally, []
        if tally.errors:
            found.append(f"Redis: {tally.errors} errors, such as: {tally.last_error}")
        if tally.wrong:
            found.append(f"Redis: {len(tally.wrong)} wrong answers, such as: {tally.wrong[0]}")
        return found
