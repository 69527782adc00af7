"""One run: the real Redis runtime between model clients and model servers, faults, and the checks.

Everything follows from the seed. `run(seed)` gives what went wrong (nothing, it is hoped), what
happened, and the trace.
"""

import asyncio
import contextlib
import copy
import gc
import random
from collections.abc import Iterator
from typing import Any
from unittest import mock

from proxy.core import numbers as product_numbers
from proxy.net.dial import Address
from proxy.net.keepalive import Keepalive
from proxy.redis.protocol import command_table
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.commands import CommandTable
from proxy.redis.runtime import control
from proxy.redis.runtime import route as product_route
from proxy.redis.runtime.options import Limits, RouteOptions
from proxy.redis.runtime.route import RedisRoute
from proxy.redis.runtime.upstream import UpstreamLink
from tests.simulation.loop import Deadlock, Livelock, VirtualLoop
from tests.simulation.network import Endpoint, Network, Plan, installed
from tests.simulation.redis.books import Books
from tests.simulation.redis.client import Client
from tests.simulation.redis.data import Keyspace, Record
from tests.simulation.redis.outside import Outsider
from tests.simulation.redis.script import Numbers
from tests.simulation.redis.server import Server
from tests.simulation.world import Outcome

FOCUSES = ("", "", "", "pair", "hidden", "whole", "stalled")  # what a run has more of than others
LIVES_MAX = 6
REST_S_MAX = 20  # from the last client's end until nothing of it is left
KEEPALIVE = Keepalive(idle_s=1, interval_s=1, count=1)
CUTS = ("fin", "rst", "silence", "half", "stall", "kill", "kill all")
SERVER = ("restart", "lose", "failover", "isolate", "demote", "freeze", "full")
FAULTS = (*CUTS, *CUTS, *SERVER, "pause", "reconnect")


class World:
    """All there is in one run."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.loop = loop
        self.out = Outcome(seed)
        self.numbers = Numbers()
        self.rng = random.Random(f"{seed} faults")
        self.network = Network(loop, random.Random(f"{seed} network"), self.trace)
        self.network.plans = self._plan
        self.record = Record()
        data_rng = random.Random(f"{seed} server")
        self.data = Keyspace(self.record, loop.time, data_rng)
        self.servers = 0
        self.demoted: list[Server] = []  # replicas of whichever server is the primary
        self.tracking_lag_s = self.rng.choice((0.0, 0.0, 0.005, 0.05, 0.15))
        self.server = self._new_server(self.data)
        self.books = Books(self, self.record)
        self.losses = self.faults = 0
        self._fault_times: list[float] = []
        self.has_loaded = self.has_demoted = self.lossy = self.stopping = False
        self.outside_counted: dict[tuple[int, bytes], int] = {}
        self.outside_swaps: list[tuple[float, tuple[int, int]]] = []
        self.closings: list[tuple[float, object]] = []
        self.asked_s = 0.0  # by any client, last
        rng = self.rng
        self.caches = rng.random() < 0.8
        self.lease_s = rng.choice((0.5, 0.5, 0.2)) if self.caches else 0.0
        self.hold_s = rng.choice((1.5, 1.5, 0.5))
        self.streams = rng.random() < 0.3
        self.cut_chance = rng.choice((0.0, 0.0, 0.2, 0.5))
        self.clients = rng.randrange(1, 6)
        self.focus = rng.choice(FOCUSES)
        self.tracking_cut = 0.9 if self.focus == "stalled" else 0.4  # chance that a cut hits one
        self.route: Any = None
        loop.set_exception_handler(self._crashed)

    def _new_server(self, data: Keyspace) -> Server:
        self.servers += 1
        server = Server(self.network, data, self.rng, self.servers)
        server.replicas = self.demoted
        server.tracking_lag_s = self.tracking_lag_s
        self.network.accept = server.accept
        return server

    # -- what is noted

    def trace(self, who: str, what: object) -> None:
        """One event of the run."""
        self.out.trace.append((self.loop.time(), who, what))

    def wrong(self, problem: str) -> None:
        """An invariant is broken."""
        self.trace("WRONG", problem)
        self.out.problems.append(problem)

    def events(self, event: str, /, *, level: str = "info", **fields: object) -> None:
        """The product's own events."""
        fields.pop("route", None)
        self.trace("proxy", f"{event} {fields}")
        self.out.seen[event] += 1
        if event == "redis_link_lost":
            self.losses += 1
            self.out.seen[
                f"lost {fields['lane'] if fields['lane'] == 'tracking' else 'other'}"
            ] += 1
        if event == "redis_client_closed":
            self.closings.append((self.loop.time(), fields["reason"]))
            self.out.seen[f"closed {fields['reason']}"] += 1
        if event == "redis_cache_use":
            for name in ("hits", "negative_hits", "coalesced", "invalidations"):
                self.out.seen[f"cache {name}"] += int(str(fields[name]))
        if level == "error":
            self.wrong(f"{event} {fields}")

    def _crashed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.wrong(f"{context.get('message')}: {context.get('exception')!r}")

    def fault(self, kind: str) -> None:
        """Something happens to the network, the server or the proxy."""
        self.faults += 1
        self._fault_times.append(self.loop.time())
        self.out.seen[f"fault {kind}"] += 1
        self.trace("fault", kind)

    def faults_at(self, when_s: float) -> int:
        """How many there had been by then."""
        return sum(one_s < when_s for one_s in self._fault_times)

    def may_end(self, client: Client) -> bool:
        """The proxy may have ended this session."""
        return self.stopping or (bool(self.closings) and self.streams)

    # -- the parts

    def options(self) -> RouteOptions:
        """The route's."""
        limits = Limits(reply_hold_bytes=2000) if self.streams else Limits()
        return RouteOptions(
            name="sim",
            address=Address("127.0.0.1", 6379),
            command_timeout_s=self.rng.choice((3.0, 1.0)),
            hold_s=self.hold_s,
            connect_timeout_s=2.0,
            link_idle_s=2.0,
            ping_s=1.2,
            keepalive=KEEPALIVE,
            cache=CacheOptions(lease_s=self.lease_s) if self.caches else None,
            limits=limits,
        )

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self.out.seed} client {number}")
        left = rng.randrange(4, 22)
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.1, 1.0)) * rng.random())
        for life in range(LIVES_MAX):
            await asyncio.sleep(rng.uniform(0, 0.05) * life)
            client = Client(self, f"c{number}.{life}", rng)
            self.network.client(client.name, self.route.client_protocol(), client)
            left -= await client.live(min(left, rng.randrange(2, 20)))
            if left <= 0 or self.stopping:
                return

    # -- faults

    def _plan(self) -> Plan | None:
        """How the link that is made now will break."""
        rng = self.rng
        if rng.random() >= self.cut_chance or self.faults > 12:
            return None
        self.fault("plan")
        size = rng.choice((100, 400, 1500, 1500, 4000))
        return Plan(rng.random() < 0.4, rng.randrange(size), rng.choice(("fin", "rst", "silence")))

    def _some_link(self) -> Endpoint | None:
        """The proxy's end of one; the tracking link rather than another."""
        ends = list(self.network.upstreams.values())
        if not ends:
            return None
        tracking = [link for link in self.route.links if type(link).__name__ == "TrackingLink"]
        if tracking and self.rng.random() < self.tracking_cut:
            link = self.rng.choice(sorted(tracking, key=lambda one: int(one.number)))
            return next((end for end in ends if end is link.transport), ends[0])
        return self.rng.choice(ends)

    async def _break_things(self) -> None:
        rng = self.rng
        for _ in range(rng.choice((0, 1, 3, 5, 8))):
            await asyncio.sleep(rng.choice((0.01, 0.05, 0.3, 2.0)) * rng.random())
            kind = rng.choice(("stall", "silence") if self.focus == "stalled" else FAULTS)
            self.fault(kind)
            if kind in CUTS:
                self._cut(kind)
            elif kind in SERVER:
                await self._to_server(kind)
            else:
                await self._operate(kind)

    def _cut(self, kind: str) -> None:
        end, server = self._some_link(), self.server
        if kind == "kill all":
            for conn in list(server.connections.values()):
                server.kill(conn)
        elif end is None:
            return
        elif kind == "half":
            if not end.peer.is_closing():
                end.peer.write_eof()
                end.peer.close()
        elif kind == "stall":
            for one in (end, end.peer) if self.rng.random() < 0.5 else (end.peer,):
                self.network.stall(one, self.rng.choice((0.2, 0.7, 2.0)))
        elif kind == "kill":
            if not end.peer.lost:
                server.kill(end.peer.protocol)
        else:
            self.network.break_(end if self.rng.random() < 0.5 else end.peer, kind)

    async def _to_server(self, kind: str) -> None:
        rng, server = self.rng, self.server
        if kind == "freeze":
            server.freeze(rng.choice((0.1, 0.7, 2.0)))
        elif kind == "full":
            server.full = True
            await asyncio.sleep(rng.choice((0.1, 1.0)))
            server.full = False
        elif kind == "demote":
            self.has_demoted = server.read_only = True
            await asyncio.sleep(rng.choice((0.0, 0.2)))
            server.replicas = []
            self.demoted.append(server)
            self.server = self._new_server(self.data)
            if rng.random() < 0.3:
                await self._load(server, resync=True)
        elif kind == "isolate":
            for conn in list(server.connections.values()):
                self.network.break_(conn.transport, "silence")
                server.gone(conn)
            self.server = self._new_server(self.data)
        else:
            await self._replace(kind)

    async def _replace(self, kind: str) -> None:
        """The process dies, and another one comes, with all of its data, some or none."""
        rng, old = self.rng, self.data.copy()
        self.network.accept = None
        if kind == "failover":
            self.lossy = True
            await asyncio.sleep(rng.choice((0.0, 0.01, 0.1)))  # what the replica does not have yet
        self.server.die()
        await asyncio.sleep(rng.choice((0.0, 0.05, 1.0)))
        if kind != "restart":
            self.data.become([{} for _ in old] if kind == "lose" else old)
        self.server = self._new_server(self.data)
        if rng.random() < 0.4 and kind != "failover":
            await self._load(self.server, resync=False)

    async def _load(self, server: Server, resync: bool) -> None:
        self.has_loaded = server.loading = True
        if resync:
            for conn in [one for one in self.data.trackers if one in server.connections.values()]:
                conn.invalidate(None)
        await asyncio.sleep(self.rng.choice((0.02, 0.5)))
        server.loading = False

    async def _operate(self, kind: str) -> None:
        if kind == "reconnect":
            control.reconnect(self.route)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.rng.choice((0.1, 2.0))):
                await control.pause(self.route)
        await asyncio.sleep(self.rng.choice((0.0, 0.5, 2.5)))
        control.resume(self.route)

    async def _stop_early(self) -> None:
        """SIGTERM while clients work."""
        await asyncio.sleep(self.rng.uniform(0, 3.0))
        self.stopping = True
        self.trace("fault", "stop")
        await self.route.stop(self.rng.choice((0.0, 1.0, 5.0)))

    # -- the run

    async def main(self) -> None:
        """The run itself."""
        self.route = RedisRoute(
            self.options(), self.events, random.Random(f"{self.out.seed} proxy")
        )
        await self.route.start()
        outsider = Outsider(self, random.Random(f"{self.out.seed} outsider"))
        beside = self.loop.create_task(outsider.live())
        lives = [self._client(number) for number in range(self.clients)]
        if self.rng.random() < 0.1:
            lives.append(self._stop_early())
        await asyncio.gather(self._break_things(), *lives)
        beside.cancel()
        if not self.stopping:
            await self._come_to_rest()
            await self.route.stop(1.0)
        await asyncio.sleep(6.0)
        self._after_stop()
        self.out.problems += self.books.problems()
        self.out.problems += self.network.crashes

    async def _come_to_rest(self) -> None:
        """Everybody has gone: soon nothing may be left, and nothing may come again."""
        quiet = 0
        for _ in range(2 * REST_S_MAX):
            await asyncio.sleep(0.5)
            quiet = 0 if self._left() else quiet + 1
            if quiet == 2:
                return
        for problem in self._left():
            self.wrong(problem)

    def _left(self) -> list[str]:
        """What is there although all clients have gone."""
        route, upstreams = self.route, self.network.upstreams.values()
        counts = (
            ("clients", len(route.clients)),
            ("partitions", len(route.partitions)),
            ("links", len(route.links)),
            ("exclusive links", route.pool.total),
            ("tasks", len(route.tasks)),
            ("writes on their way", len(route.caches.barriers) if route.caches else 0),
            ("connections to the server", sum(not end.silent for end in upstreams)),
        )
        return [
            f"{count} {what} left when all clients have gone" for what, count in counts if count
        ]

    def _after_stop(self) -> None:
        if len(self.route.tasks):
            self.wrong(f"{len(self.route.tasks)} tasks after the stop")
        left = [end.name for end in self.network.upstreams.values()]
        if left:
            self.wrong(f"connections after the stop: {left}")
        for timer in self.loop.timers():
            where = getattr(timer.callback, "__module__", "")
            if where and where.startswith("proxy."):
                self.wrong(f"a timer after the stop: {timer!r}")


_TABLE = command_table.fallback_table()  # the same for each run, and a tenth of its time


def _table() -> CommandTable:
    """What `fallback_table` makes; what clients teach it stays with this one."""
    table = copy.copy(_TABLE)
    table.heads = {}
    return table


@contextlib.contextmanager
def determined() -> Iterator[None]:
    """Hashes and numbers that are the same in each run of a seed."""
    product_numbers.session_number._last = 0
    product_numbers.link_number._last = 0
    with (
        mock.patch.object(UpstreamLink, "__hash__", lambda self: self.number),
        mock.patch.object(product_route, "fallback_table", _table),
    ):
        yield


def run(seed: int) -> Outcome:
    """One run from its seed. Never raises: what went wrong is in `problems`."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    world = World(seed, loop)
    loop.network = world.network
    gc.disable()  # a run is short: what it leaves is for the time between two
    try:
        with determined(), installed(world.network):
            try:
                loop.run_until_complete(world.main())
            except Exception as error:
                world.wrong(f"{type(error).__name__}: {error}")
            for task in asyncio.all_tasks(loop):
                task.cancel()
            with contextlib.suppress(Deadlock, Livelock):
                loop.run_until_complete(asyncio.sleep(0))
    finally:
        gc.enable()
        asyncio.set_event_loop(None)
        loop.close()
    return world.out
