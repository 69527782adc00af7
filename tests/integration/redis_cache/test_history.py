"""The promise through the real route: many clients, a writer beside it, delays, stalls and cuts.

And the gate: with a rule taken out of the route's cache its named check fails here too.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import RedisServer
from proxy.redis.protocol.cache import Cache
from tests.integration.redis_cache.conftest import Cached, MakeCached
from tests.integration.redis_cache.history import Connection, Op, Writer, check
from tests.property.cache_mutants import NoDetach, NoFlush, NoLease, NoRecheck, NoTtl, NoW3
from tests.wire_redis import RedisWire

pytestmark = pytest.mark.servers

LEASE_S = 0.1
SEEDS_MAX = 16  # of a gate: on a busy machine one run finds "lease" three times of five
OWN = [f"own:{i}" for i in range(4)]
EXTERNAL = ["ext:1", "ext:2", "ttl:1", "ttl:2", "pair"]
KEYS = [*OWN, "ext:1", "ext:2", "ttl:1", "ttl:2"]


@dataclass
class Load:
    """Who does what, for how long."""

    operations: int
    seconds: float = 1.0  # at least
    readers: int = 8
    pipeline_max: int = 4
    external_pause_s: float = 0.004
    stall_s: float = 0.0  # the longest
    cuts: bool = False
    write_share: float = 0.15
    tracking_delay_s: float = 0.0  # of what the tracking link says
    pulses: bool = False  # that only every other half second


class Run:
    """One history through one route."""

    def __init__(self, cached: Cached, server: RedisServer, load: Load, seed: int) -> None:
        self.cached = cached
        self.server = server
        self.load = load
        self.rng = random.Random(seed)
        self.history: list[Op] = []
        self.until_s = time.monotonic() + load.seconds

    def line(self) -> tuple[str, ...]:
        dice = self.rng.random()
        if dice < 0.12:
            return ("MGET", "pair:a", "pair:b")
        if dice < 0.15:
            return ("GET", "pair:a")  # so that the pair is cached in part
        if dice < 0.23:
            return ("MGET", *self.rng.sample(KEYS, 3))
        return ("GET", self.rng.choice(KEYS))

    def lines(self, low: int, high: int) -> list[tuple[str, ...]]:
        return [self.line() for _ in range(self.rng.randint(low, high))]

    @property
    def done(self) -> bool:
        enough = len(self.history) >= self.load.operations
        return enough and time.monotonic() >= self.until_s

    async def client(self, number: int) -> None:
        """Reads; the first four also write, each its own key."""
        connection = await self.connect(f"client{number}", 2 + number % 2)
        writer = Writer(connection, [OWN[number]], self.rng) if number < len(OWN) else None
        while not self.done:
            if writer is not None and self.rng.random() < self.load.write_share:
                await writer.write(*self.lines(0, 3))
            else:
                await connection.ask(*self.lines(1, self.load.pipeline_max))
            if self.rng.random() < 0.2:
                await asyncio.sleep(0)
        connection.close()

    async def connect(self, name: str, resp: int) -> Connection:
        return await Connection(name, self.cached.port, resp, self.history).open()

    async def external(self) -> None:
        """A writer that does not know the proxy."""
        connection = await Connection("external", self.server.port, 3, self.history).open()
        writer = Writer(connection, EXTERNAL, self.rng)
        while not self.done:
            await writer.write()
            await asyncio.sleep(self.rng.expovariate(1 / self.load.external_pause_s))
        connection.close()

    async def weather(self) -> None:
        """Stalls of one link after the other, and cuts."""
        while not self.done:
            await asyncio.sleep(self.rng.uniform(0.01, 0.06))
            hops = list(self.cached.cutter.hops.values())
            if not hops:
                continue
            hop = self.rng.choice(hops)
            if self.load.cuts and self.rng.random() < 0.5:
                hop.cut(self.rng.choice([Cut.FIN, Cut.RST]))
            elif self.load.stall_s:
                flow = hop.flow(self.rng.choice(list(Direction)))
                flow.delay_s = self.rng.uniform(0.0, self.load.stall_s)
                await asyncio.sleep(0.05)
                flow.delay_s = 0.0

    async def slow_tracking(self) -> None:
        """What T says comes late, all the time, so that answers on D overtake it."""
        while not self.done:
            for partition in self.cached.route.partitions:
                link = partition.tracker.link if partition.tracker else None
                if link is None or link.transport is None:
                    continue
                name = link.transport.get_extra_info("sockname")
                for hop in self.cached.cutter.hops.values():
                    transport = hop.client.transport
                    if transport and transport.get_extra_info("peername") == name:
                        late = not self.load.pulses or time.monotonic() % 1.0 < 0.5
                        hop.to_client.delay_s = self.load.tracking_delay_s if late else 0.0
            await asyncio.sleep(0.02)

    async def run(self) -> dict[str, list[str]]:
        """What broke, by check."""
        with RedisWire.connect(("127.0.0.1", self.server.port)) as wire:
            wire.ask("FLUSHALL")  # versions start at 1 in every run
        work = [self.client(number) for number in range(self.load.readers)]
        if self.load.tracking_delay_s:
            work.append(self.slow_tracking())
        await asyncio.gather(*work, self.external(), self.weather())
        broken = check(self.history, LEASE_S)
        still = await self.at_rest()
        return broken | ({"C5 quiescence": still} if still else {})

    async def at_rest(self) -> list[str]:
        """When nothing moves any more, the cache says what Redis says."""
        direct = await Connection("direct", self.server.port, 3, []).open()
        through = await self.connect("through", 3)
        await asyncio.sleep(3 * LEASE_S)
        told = []
        for key in [*KEYS, "pair:a", "pair:b"]:
            (truth,) = await direct.ask(("GET", key))
            for _ in range(2):
                (op,) = await through.ask(("GET", key))
                if op.reply != truth.reply:
                    told.append(f"{op}: {truth.reply!r} is true")
        direct.close()
        through.close()
        return told


@pytest.fixture
def server(make_redis: Callable[..., RedisServer]) -> RedisServer:
    return make_redis()


LOADS = {
    "calm": Load(20_000),
    "stalls": Load(16_000, stall_s=0.3),
    "cuts": Load(20_000, stall_s=0.1, cuts=True),
}


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("name", LOADS)
async def test_the_promise_holds(name: str, make_cached: MakeCached, server: RedisServer) -> None:
    cached = await make_cached(server.port, lease_s=LEASE_S, flight_s=LEASE_S)
    run = Run(cached, server, LOADS[name], seed=7)
    started_s = time.monotonic()
    assert await run.run() == {}
    report = cached.report
    print(
        f"{len(run.history)} operations in {time.monotonic() - started_s:.1f} s, "
        f"{report.hits} hits, {report.misses} fills, {report.coalesced} joined, "
        f"bypassed {report.bypassed}, {len(cached.cutter.history)} cuts"
    )
    assert report.hits > len(run.history) / 20
    if LOADS[name].cuts:
        assert len(cached.cutter.history) > 5


GATE = [
    ("W3", NoW3, "C2 acknowledged", Load(6_000, pipeline_max=1, tracking_delay_s=0.01)),
    ("detach", NoDetach, "C2 acknowledged", Load(8_000, write_share=0.5, stall_s=0.1)),
    ("re-check", NoRecheck, "C6 torn", Load(6_000, external_pause_s=0.002, tracking_delay_s=0.004)),
    (
        "lease",
        NoLease,
        "C3 lease",
        Load(
            1_000,
            3.0,
            pipeline_max=1,
            write_share=0.0,
            external_pause_s=0.02,
            tracking_delay_s=0.4,
            pulses=True,
        ),
    ),
    ("flush on loss", NoFlush, "C3 lease", Load(1_000, 3.0, cuts=True, write_share=0.0)),
    ("TTL", NoTtl, "C7 expired", Load(6_000, pipeline_max=1)),
]


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("rule", "mutant", "name", "load"), GATE, ids=[one[0] for one in GATE])
async def test_without_the_rule_its_check_fails(
    rule: str,
    mutant: type[Cache],
    name: str,
    load: Load,
    make_cached: MakeCached,
    server: RedisServer,
) -> None:
    for seed in range(SEEDS_MAX):
        cached = await make_cached(server.port, mutant, lease_s=LEASE_S, flight_s=LEASE_S)
        if name in await Run(cached, server, load, seed).run():
            return
    pytest.fail(f"{rule}: {name} held")
