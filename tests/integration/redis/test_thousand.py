"""A thousand clients at once on one route: all answered, few links, a bounded memory."""

import asyncio
import resource
from collections.abc import Callable

import pytest

from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions
from tests.integration.redis.conftest import MakeRoute
from tests.integration.redis.wire import AsyncWire
from tests.wire_redis import command

pytestmark = pytest.mark.servers

CLIENTS = 1000
VALUE = b"v" * 2000
SLOW_REPLIES = 20_000


@pytest.fixture(autouse=True)
def _descriptors() -> None:
    """Both ends of each connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * CLIENTS + 200
    if soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"needs {wanted} descriptors, may have {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@pytest.mark.timeout(90)
async def test_a_thousand_clients_and_a_slow_reader(
    make_redis: Callable[..., RedisServer], make_route: MakeRoute
) -> None:
    """Reads, writes, transactions and blocking pops of all at once, each reply its own; the one
    that does not read holds no other up, and what is kept for it is bounded.
    """
    server = make_redis()
    # A lease that a busy machine does not let lapse: what is not in memory is asked for at once.
    cache = CacheOptions(lease_s=60.0)
    routed = await make_route(server.port, cache=cache, hold_s=20.0, command_timeout_s=30.0)
    wires = [await routed.wire(2 + number % 2) for number in range(CLIENTS)]
    refused = await AsyncWire.connect("127.0.0.1", routed.port)
    assert (await refused.read()).startswith(b"-ERR max number of clients reached")
    await refused.close()
    slow, others = wires[0], wires[1:]
    assert await slow.ask("SET", "big", VALUE) == b"+OK\r\n"
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    slow.send(command("GET", "big") * SLOW_REPLIES)
    async with asyncio.timeout(10):
        while not (found := [one for one in routed.route.clients.values() if one.is_slow]):
            await asyncio.sleep(0.002)
    (slow_one,) = found
    most = 0

    async def work(number: int, wire: AsyncWire) -> None:
        nonlocal most
        own = b"$%d\r\n%d\r\n" % (len(str(number)), number)
        for _ in range(3):
            wire.send(
                command("SET", f"k{number}", number) + command("GET", f"k{number}")
                + command("GET", "big") + command("INCR", "total")
            )  # fmt: skip
            replies = await wire.replies(4)
            assert replies[:3] == [b"+OK\r\n", own, b"$2000\r\n" + VALUE + b"\r\n"]
            most = max(most, slow_one.unread_bytes)
        if number % 20 == 0:
            wire.send(command("MULTI") + command("ECHO", number) + command("EXEC"))
            assert (await wire.replies(3))[2] == b"*1\r\n" + own
            wire.send(command("RPUSH", f"q{number}", number) + command("BLPOP", f"q{number}", 5))
            assert (await wire.replies(2))[1].endswith(own)

    await asyncio.gather(*(work(number, wire) for number, wire in enumerate(others)))
    with server.connect() as direct:
        assert direct.get("total") == b"%d" % (3 * len(others))
    shared = [lane.link for part in routed.route.partitions for lane in part.lanes if lane.link]
    assert len(shared) <= 4
    assert slow_one.is_slow
    assert 0 < most < 8 * 1024 * 1024
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for reply in await slow.replies(SLOW_REPLIES):
        assert len(reply) == len(VALUE) + 9
    assert routed.counters.clients_too_slow == 0
