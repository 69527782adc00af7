"""PAUSE, RESUME, RECONNECT and KILL on a Redis route: clients stay, links go and come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from proxy.demo.servers import RedisServer
from proxy.redis.runtime import control
from tests.integration.redis.conftest import MakeRoute, Routed
from tests.integration.redis.wire import AsyncWire, Closed

pytestmark = pytest.mark.servers

OK = b"+OK\r\n"
Own = tuple[RedisServer, Routed]


@pytest_asyncio.fixture
async def own(make_redis: Any, make_route: MakeRoute) -> AsyncIterator["Own"]:
    server = make_redis()
    yield server, await make_route(server.port, hold_s=0.3)


async def test_the_server_restarts_under_a_pause(own: Own) -> None:
    server, routed = own
    wire, subscriber = await routed.wire(), await routed.wire()
    assert await wire.ask("SET", "k", "1") == OK
    assert await wire.ask("GET", "k") == b"$1\r\n1\r\n"
    await subscriber.ask("SUBSCRIBE", "news")
    assert await control.pause(routed.route) is True
    assert not routed.route.links
    server.stop()
    wire.send(b"SET k 2\r\nGET k\r\n")
    joining = await routed.wire()
    joining.send(b"PING\r\nHELLO 3\r\n")
    server.start()
    assert await wire.is_quiet(0.5)  # longer than hold_s: their time begins with RESUME
    control.resume(routed.route)
    assert await wire.replies(2) == [OK, b"$1\r\n2\r\n"]
    assert await joining.read() == b"+PONG\r\n"
    assert (await joining.read()).startswith(b"%")
    while await wire.ask("PUBLISH", "news", "x") == b":0\r\n":
        await asyncio.sleep(0.01)  # it is subscribed again when its link is there
    assert await subscriber.read() == b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$1\r\nx\r\n"
    assert routed.counters.unknown == routed.counters.not_executed == 0
    assert not routed.named("redis_link_lost")


async def test_a_transaction_is_waited_for(own: Own) -> None:
    _, routed = own
    wire = await routed.wire()
    assert await wire.ask("MULTI") == OK
    pausing = asyncio.ensure_future(control.pause(routed.route))
    assert await wire.ask("SET", "k", "1") == b"+QUEUED\r\n"
    assert not pausing.done()
    assert await wire.ask("EXEC") == b"*1\r\n+OK\r\n"
    async with asyncio.timeout(5):
        assert await pausing is True
    control.resume(routed.route)
    assert await wire.ask("GET", "k") == b"$1\r\n1\r\n"


async def test_a_blocked_client_is_waited_for_until_resume(
    own: Own,
) -> None:
    server, routed = own
    wire, other = await routed.wire(), await routed.wire()
    wire.send(b"BLPOP q 0\r\n")
    with server.connect() as direct:
        while not direct.info("clients")["blocked_clients"]:
            await asyncio.sleep(0.01)
    pausing = asyncio.ensure_future(control.pause(routed.route))
    assert await wire.is_quiet(0.2)
    assert not pausing.done()
    control.resume(routed.route)
    assert await pausing is False
    assert await other.ask("RPUSH", "q", "x") == b":1\r\n"
    assert await wire.read() == b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n"


async def test_reconnect_under_load_reorders_nothing(own: Own) -> None:
    """16 clients count; every link is replaced 20 times; each sees its own numbers in order."""
    server, routed = own
    over, done = asyncio.Event(), [0] * 16

    async def count(wire: AsyncWire, number: int) -> int:
        key = f"n{number}"
        expected = 0
        while not over.is_set():
            wire.send(f"INCR {key}\r\nGET {key}\r\nINCR {key}\r\n".encode())
            first, read, second = await wire.replies(3)
            assert first == b":%d\r\n" % (expected + 1)
            assert read.endswith(b"\r\n%d\r\n" % (expected + 1))
            assert second == b":%d\r\n" % (expected + 2)
            done[number] = expected = expected + 2
        return expected

    wires = [await routed.wire() for _ in range(16)]
    counting = [asyncio.ensure_future(count(w, i)) for i, w in enumerate(wires)]
    for _ in range(20):
        seen = list(done)
        async with asyncio.timeout(5):
            while any(map(int.__eq__, seen, done)):
                await asyncio.sleep(0.005)
        before = {link.number for link in routed.route.links}
        control.reconnect(routed.route)
        async with asyncio.timeout(5):
            while before & {link.number for link in routed.route.links}:
                await asyncio.sleep(0.01)
    over.set()
    totals = await asyncio.gather(*counting)
    with server.connect() as direct:
        assert [int(direct.get(f"n{i}")) for i in range(16)] == totals
    assert routed.counters.unknown == routed.counters.resent == 0


async def test_kill_ends_clients_until_resume(own: Own) -> None:
    _, routed = own
    wire, other = await routed.wire(), await routed.wire()
    assert await wire.ask("PING") == b"+PONG\r\n"
    number = int((await other.ask("CLIENT", "ID"))[1:])
    assert control.kill_client(routed.route, number)
    assert await other.until_closed() == b""
    assert await wire.ask("PING") == b"+PONG\r\n"
    assert control.kill(routed.route) == 1
    with pytest.raises(Closed):
        await wire.read()
    refused = await routed.wire()
    assert b"until RESUME" in await refused.read()
    control.resume(routed.route)
    again = await routed.wire()
    assert await again.ask("PING") == b"+PONG\r\n"
