"""A TCP hop that breaks connections on purpose: seeded, in-process, replayable.

It listens on 127.0.0.1 and forwards to a server over TCP or a Unix socket. Without a fault it is
transparent. Faults come per connection (`Hop.cut`, `Hop.cut_after`), for all that live (`cut_all`),
for those to come (`plans`, `plan`), by the clock (`cut_every`), and at the listener (`refuse`).
Loop-neutral: runs on asyncio and uvloop. All chance comes from the seed; `history` says what was
done.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from proxy.demo.flow import Cut, FlowPlan
from proxy.demo.hop import Direction, Hop, Plan, Target, TlsStart
from proxy.demo.ports import free_port

__all__ = ["Cut", "Cutter", "Direction", "FlowPlan", "Hop", "Plan", "Stroke", "Target", "TlsStart"]

BACKLOG: Final = 1024


@dataclass(frozen=True, slots=True)
class Stroke:
    """One line of the history: which hop was cut how, and after how many bytes each way."""

    hop: int
    cut: Cut
    to_client_bytes: int
    to_server_bytes: int


@dataclass(eq=False)
class Cutter:
    """The listener and everything that goes through it. Use as `async with Cutter(target):`."""

    target: Target
    seed: int = 0
    plan: Plan = field(default_factory=Plan)
    """For every connection that `plans` has no entry for."""
    plans: deque[Plan] = field(default_factory=deque)
    """For the next connections, one each."""
    history: list[Stroke] = field(default_factory=list)
    counters: Counter[str] = field(default_factory=Counter)
    hops: dict[int, Hop] = field(default_factory=dict)
    """Live connections by number, oldest first."""
    on_hop: Callable[[Hop], None] | None = None
    """Called with each accepted connection before its first byte."""
    on_cut: Callable[[Hop, Cut], None] | None = None
    """Called with each connection about to be cut."""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._clock: asyncio.Task[None] | None = None
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    async def __aenter__(self) -> Self:
        await self.accept()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def accept(self) -> None:
        """Listen (again, after `refuse`)."""
        if self._server is not None:
            return
        direct = self.target.client_tls_start is TlsStart.DIRECT
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            self._new_half,
            "127.0.0.1",
            self.port,
            backlog=BACKLOG,
            reuse_address=True,
            ssl=self.target.client_tls if direct else None,
        )

    async def refuse(self) -> None:
        """Stop listening: new connections get ECONNREFUSED; live ones stay. Undo: `accept`."""
        if self._server is not None:
            self._server.close()
            self._server = None
            # uvloop closes the listening socket in its next turn only.
            await asyncio.sleep(0)

    def cut_all(self, cut: Cut) -> int:
        """Break every live connection; how many there were."""
        hops = list(self.hops.values())
        for hop in hops:
            hop.cut(cut)
        return len(hops)

    def cut_some(self, cuts: Sequence[Cut], share: float = 1.0) -> int:
        """Break each live connection with the given probability, each in a random way."""
        struck = 0
        for hop in list(self.hops.values()):
            if self.rng.random() < share:
                hop.cut(self.rng.choice(cuts))
                struck += 1
        return struck

    def cut_every(
        self, interval_s: float, cuts: Sequence[Cut] = (Cut.FIN, Cut.RST), share: float = 1.0
    ) -> None:
        """From now on `cut_some` at each interval, jittered by a quarter; 0 stops it."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if interval_s > 0:
            self._clock = self._spawn(self._tick(interval_s, cuts, share))

    async def accepted(self, total: int) -> None:
        """Return once this many connections have been accepted since the start."""
        await self._until(lambda: self.counters["accepted"] >= total)

    async def idle(self) -> None:
        """Return once no connection lives."""
        await self._until(lambda: not self.hops)

    async def hop(self, number: int) -> Hop:
        """The connection with that number (from 0), once accepted. KeyError if it has ended."""
        await self.accepted(number + 1)
        return self.hops[number]

    async def close(self) -> None:
        """Stop listening and reset everything that lives."""
        await self.refuse()
        self.cut_every(0)
        for hop in list(self.hops.values()):
            hop.end(reset=True)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.idle()

    def hop_cut(self, hop: Hop, cut: Cut) -> None:
        """Called by a hop about to be cut."""
        self.counters[f"cut_{cut.name.lower()}"] += 1
        sizes = (hop.to_client.passed_bytes, hop.to_server.passed_bytes)
        self.history.append(Stroke(hop.number, cut, *sizes))
        if self.on_cut is not None:
            self.on_cut(hop, cut)

    def hop_opened(self, hop: Hop) -> None:
        """Called by a hop whose client has arrived."""
        self.hops[hop.number] = hop
        self.counters["accepted"] += 1
        if self.on_hop is not None:
            self.on_hop(hop)
        if hop.mute:
            self.counters["muted"] += 1
        else:
            self._spawn(hop.join(self.target))
        self._notify()

    def hop_closed(self, hop: Hop) -> None:
        """Called by a hop both of whose sockets are gone."""
        if self.hops.pop(hop.number, None) is not None:
            self.counters["closed"] += 1
            self.counters["to_client_bytes"] += hop.to_client.passed_bytes
            self.counters["to_server_bytes"] += hop.to_server.passed_bytes
            self._notify()

    def _new_half(self) -> asyncio.Protocol:
        plan = self.plans.popleft() if self.plans else self.plan
        number = self.counters["numbered"]
        self.counters["numbered"] += 1
        return Hop(self, number, plan).client

    async def _tick(self, interval_s: float, cuts: Sequence[Cut], share: float) -> None:
        while True:
            await asyncio.sleep(interval_s * self.rng.uniform(0.75, 1.25))
            self.cut_some(cuts, share)

    def dial_failed(self) -> None:
        """Called by a hop whose server could not be reached."""
        self.counters["dial_failed"] += 1

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _until(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((condition, waiter))
        await waiter

    def _notify(self) -> None:
        for condition, waiter in self._waiters:
            if condition() and not waiter.done():
                waiter.set_result(None)
        self._waiters = [entry for entry in self._waiters if not entry[1].done()]
