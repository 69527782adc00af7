"""The promise on a real server and the real runtime: a history of writes and reads, checked.

Each key is written by one writer after another, alternately through the proxy and beside it, with
rising numbers. So a reply's number says how old it is, and C1 to C8 of reference/redis.md, 2.14
become comparisons. Links are cut and delayed meanwhile. The model in tests/property searches far
more orders; this shows that the runtime obeys it.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from proxy.demo.cutter import Cut, Cutter, FlowPlan, Plan, Target
from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions
from tests.integration.redis.conftest import MakeRoute, Routed
from tests.integration.redis.wire import AsyncWire
from tests.wire_redis import command

pytestmark = [pytest.mark.servers, pytest.mark.slow]

KEYS = [f"key:{number}" for number in range(6)]
LEASE_S = 0.5
GRACE_S = 0.1  # between a reply's arrival here and its turn in this busy loop


@dataclass
class Ledger:
    """What is known of each key, and what the reads broke."""

    issued: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    acked: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    outside: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    seen: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    reads: int = 0
    writes: int = 0
    broken: list[str] = field(default_factory=list)

    def floor(self, key: str, now_s: float) -> int:
        """No read that begins now may say less."""
        old = [number for at_s, number in self.outside[key] if at_s < now_s - LEASE_S - GRACE_S]
        return max(self.acked[key], old[-1] if old else 0, self.seen[key])

    def check(self, key: str, floor: int, reply: bytes) -> int:
        value = 0 if reply[:1] == b"_" or reply == b"$-1\r\n" else int(reply.split(b"\r\n")[1])
        self.reads += 1
        if not floor <= value <= self.issued[key]:
            self.broken.append(f"{key}: {value} not in {floor}..{self.issued[key]}")
        self.seen[key] = max(self.seen[key], value)
        return value


@dataclass
class Run:
    """One run: clients, their ledger, and when it ends."""

    routed: Routed
    server: RedisServer
    ledger: Ledger
    over_s: float
    pause_s_max: float = 0.01  # of a writer; longer than a read takes, or nothing is read twice

    @property
    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    async def write(self, key: str, seed: int) -> None:
        """The key's only writer: through the proxy, or beside it."""
        rng, ledger = random.Random(seed), self.ledger
        through = await self.routed.wire(2 + seed % 2)
        beside = await AsyncWire.connect("127.0.0.1", self.server.port)
        while self.now_s < self.over_s:
            ledger.issued[key] += 1
            number = ledger.issued[key]
            ledger.writes += 1
            if rng.random() < 0.3:
                assert await beside.ask("SET", key, number) == b"+OK\r\n"
                ledger.outside[key].append((self.now_s, number))
            else:
                await self._write_through(through, rng, key, number)
            await asyncio.sleep(rng.random() * self.pause_s_max)
        await beside.close()

    async def _write_through(
        self, wire: AsyncWire, rng: random.Random, key: str, number: int
    ) -> None:
        if rng.random() < 0.2:
            wire.send(command("MULTI") + command("SET", key, number) + command("EXEC"))
            good = (await wire.replies(3))[2].startswith(b"*1")
        elif rng.random() < 0.2:
            script = "return redis.call('SET', KEYS[1], ARGV[1])"
            good = await wire.ask("EVAL", script, 1, key, number) == b"+OK\r\n"
        else:
            good = await wire.ask("SET", key, number) == b"+OK\r\n"
        if good:
            self.ledger.acked[key] = number

    async def read(self, seed: int) -> None:
        """Single reads, pipelines and MGETs of random keys."""
        rng, ledger = random.Random(seed), self.ledger
        wire = await self.routed.wire(2 + seed % 2)
        while self.now_s < self.over_s:
            keys = [rng.choice(KEYS) for _ in range(rng.choice((1, 1, 4, 16)))]
            floors = [ledger.floor(key, self.now_s) for key in keys]
            wire.send(b"".join(command("GET", key) for key in keys))
            own: dict[str, int] = {}
            for key, floor in zip(keys, floors, strict=True):
                value = ledger.check(key, max(floor, own.get(key, 0)), await wire.read())
                own[key] = value
            if rng.random() < 0.02:
                await asyncio.sleep(0.002)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("weather", ["calm", "cuts", "slow"])
async def test_no_reply_is_older_than_promised(
    weather: str,
    make_redis: Callable[..., RedisServer],
    make_cutter: Callable[..., Awaitable[Cutter]],
    make_route: MakeRoute,
) -> None:
    server = make_redis()
    late = FlowPlan(delay_s=0.003 if weather == "slow" else 0.0)
    plan = Plan(to_client=late, to_server=late)
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)), seed=3, plan=plan)
    options = CacheOptions(lease_s=LEASE_S)
    routed = await make_route(cutter.port, cache=options, hold_s=10.0)
    run = Run(routed, server, Ledger(), asyncio.get_running_loop().time() + 8.0)
    if weather == "slow":
        run.pause_s_max = 0.05
    if weather == "cuts":
        cutter.cut_every(0.3, (Cut.FIN, Cut.RST))
    await asyncio.gather(
        *(run.write(key, seed) for seed, key in enumerate(KEYS)),
        *(run.read(100 + seed) for seed in range(10)),
    )
    cutter.cut_every(0)
    ledger = run.ledger
    assert ledger.broken[:5] == []
    assert ledger.reads > 10_000
    assert routed.route.caches is not None
    report = routed.route.caches.report()
    assert report.hits > 50
    assert report.misses > 500
    await asyncio.sleep(LEASE_S)
    wire = await routed.wire()
    with server.connect() as other:
        for key in KEYS:
            value = other.get(key)
            for _ in range(2):
                assert (await wire.ask("GET", key)).split(b"\r\n")[1] == value
