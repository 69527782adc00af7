"""The Redis runtime on a virtual clock and a seeded network: fixed seeds, the same trace for a
seed, deliberate mistakes that must be found, and what was found once, by itself."""

import asyncio
import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from proxy.net.dial import Address
from proxy.redis.runtime.options import RouteOptions
from proxy.redis.runtime.partition import Partition
from proxy.redis.runtime.route import RedisRoute
from tests.simulation.loop import VirtualLoop
from tests.simulation.network import Network, installed
from tests.simulation.redis.data import Keyspace, Record
from tests.simulation.redis.mutants import FOUND_AT, MUTANTS, mutated
from tests.simulation.redis.resp import command
from tests.simulation.redis.server import Server
from tests.simulation.redis.world import run

ROOT = Path(__file__).resolve().parents[3]
SEEDS = range(1, 81)
SEEDS_MAX = 30  # from where a mistake was found, until it has to be found again
MUST_HAPPEN = {  # in SEEDS, or the runs show nothing
    *("redis_link_lost", "lost tracking", "redis_restored", "redis_resent"),
    *("redis_upstream_away", "error UPSTREAMDOWN", "error UPSTREAMLOST", "error EXECABORT"),
    *("cache hits", "cache negative_hits", "cache coalesced", "cache invalidations"),
}


def test_fixed_seeds_keep_every_promise() -> None:
    outcomes = [run(seed) for seed in SEEDS]
    assert {one.seed: one.problems for one in outcomes if one.problems} == {}
    seen = {name for one in outcomes for name, count in one.seen.items() if count}
    assert MUST_HAPPEN - seen == set()


def digest(seeds: range) -> str:
    """Of the traces of these runs."""
    text = "\n".join(line for seed in seeds for line in run(seed).told())
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_seed_is_one_trace_in_every_process() -> None:
    seeds = range(200, 203)
    module = "tests.simulation.redis.test_redis_simulation"
    program = f"from {module} import digest; print(digest({seeds!r}))"
    told = set()
    for hashing in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True
        )
        told.add(done.stdout.decode().strip())
    assert len(told) == 1


@pytest.mark.parametrize("name", MUTANTS)
def test_a_deliberate_mistake_is_found(name: str) -> None:
    with mutated(name):
        first = FOUND_AT[name]
        assert any(run(seed).problems for seed in range(first, first + SEEDS_MAX))


# -- found by the simulation, each by itself ---------------------------------------------------


def on_virtual_time(main: Any) -> None:
    """Runs `main(network, route)` against one model server."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    network = Network(loop, random.Random(1), lambda who, what: None)
    loop.network = network
    data = Keyspace(Record(), loop.time, random.Random(1))
    network.accept = Server(network, data, random.Random(1), 1).accept

    async def whole() -> None:
        options = RouteOptions(name="one", address=Address("127.0.0.1", 6379))
        route = RedisRoute(options, lambda *_, **__: None, random.Random(1))
        await route.start()
        asked: Coroutine[Any, Any, None] = main(network, route)
        await asked
        await route.stop(1.0)

    try:
        with installed(network):
            loop.run_until_complete(whole())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def test_a_parked_exclusive_link_that_is_pinged_is_still_idle() -> None:
    """Its idle time began anew with each ping, which came before `link_idle_s` was over."""

    async def main(network: Network, route: RedisRoute) -> None:
        end = network.client("client", route.client_protocol(), asyncio.Protocol())
        end.write(command(b"BLPOP", b"q", b"0.1"))
        await asyncio.sleep(1.0)
        assert route.pool.total > 0
        end.abort()
        await asyncio.sleep(route.options.link_idle_s + 3 * route.options.ping_s)
        assert route.pool.total == 0

    on_virtual_time(main)


def test_a_sweep_survives_a_lane_that_is_made_in_it() -> None:
    """A client that is told of its time being over goes on, on a lane that may be a new one: the
    sweep broke off, and never came again (seed 154)."""

    async def main(network: Network, route: RedisRoute) -> None:
        partition = Partition(route, None, 0)
        first = partition.lane(2, bulk=False)
        first.sweep = lambda now_s: partition.lane(3, bulk=False)  # type: ignore[method-assign,assignment,return-value]
        partition.sweep(route.loop.time())
        assert len(partition.lanes) == 2

    on_virtual_time(main)


def test_a_sweep_that_fails_for_one_client_is_reported_and_goes_on_for_the_others() -> None:
    async def main(network: Network, route: RedisRoute) -> None:
        failed: list[Exception] = []
        swept: list[float] = []
        route.loop.set_exception_handler(lambda _, context: failed.append(context["exception"]))
        for name in ("one", "two"):
            end = network.client(name, route.client_protocol(), asyncio.Protocol())
            end.write(command(b"BLPOP", b"q", b"0"))
        await asyncio.sleep(1.0)
        one, two = (client.exclusive for client in route.clients.values())
        assert one is not None
        assert two is not None
        with (
            mock.patch.object(one, "sweep", side_effect=ZeroDivisionError),
            mock.patch.object(two, "sweep", swept.append),
        ):
            await asyncio.sleep(1.01)
        assert len(swept) == 20
        assert [type(error) for error in failed] == [ZeroDivisionError] * 20

    on_virtual_time(main)
