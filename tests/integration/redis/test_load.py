"""Many clients, slow readers, large values, bad bytes: nobody disturbs anybody else."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from proxy.demo.cutter import Cut, Cutter, Target
from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions
from tests.integration.redis.conftest import MakeRoute
from tests.integration.redis.wire import AsyncWire, Closed
from tests.wire_redis import command

pytestmark = pytest.mark.servers
MakeRedis = Callable[..., RedisServer]
MakeCutter = Callable[..., Awaitable[Cutter]]


@pytest.mark.parametrize("cache", [None, CacheOptions()], ids=["uncached", "cached"])
async def test_two_hundred_clients_share_few_links(
    make_redis: MakeRedis, make_route: MakeRoute, cache: CacheOptions | None
) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=cache)

    async def work(number: int) -> None:
        wire = await routed.wire(2 + number % 2)
        for turn in range(20):
            wire.send(
                command("SET", f"k{number}", turn) + command("GET", f"k{number}")
                + command("INCR", "total") + command("LRANGE", "none", 0, -1)
            )  # fmt: skip
            replies = await wire.replies(4)
            text = b"%d" % turn
            assert replies[:2] == [b"+OK\r\n", b"$%d\r\n%b\r\n" % (len(text), text)]

    await asyncio.gather(*(work(number) for number in range(200)))
    with server.connect() as other:
        assert other.get("total") == b"4000"
        assert len(other.client_list()) <= 6


@pytest.mark.timeout(90)
@pytest.mark.parametrize("cache", [None, CacheOptions()], ids=["uncached", "cached"])
async def test_the_ledger_under_cuts(
    make_redis: MakeRedis, make_cutter: MakeCutter, make_route: MakeRoute,
    cache: CacheOptions | None,
) -> None:  # fmt: skip
    """Counter = acknowledged + at most the reported unknowns; nothing doubled, no other error."""
    server = make_redis()
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)), seed=7)
    routed = await make_route(cutter.port, cache=cache, hold_s=5.0)
    counts: Counter[str] = Counter()
    own: Counter[int] = Counter()
    doubt: Counter[int] = Counter()
    over = asyncio.get_running_loop().time() + 6.0

    async def work(number: int) -> None:
        wire = await routed.wire(2 + number % 2)
        while asyncio.get_running_loop().time() < over:
            wire.send(command("INCR", f"n{number}") * 5 + command("GET", "other"))
            replies = await wire.replies(6)
            assert replies[5][:1] in b"$_", replies[5]
            for reply in replies[:5]:
                if reply.startswith(b":"):
                    own[number] += 1
                else:
                    assert reply.startswith(b"-UPSTREAMLOST outcome unknown: "), reply
                    doubt[number] += 1
            await asyncio.sleep(0.002)

    cutter.cut_every(0.15, (Cut.FIN, Cut.RST))
    await asyncio.gather(*(work(number) for number in range(12)))
    cutter.cut_every(0)
    with server.connect() as other:
        for number in range(12):
            value = int(other.get(f"n{number}") or 0)
            assert own[number] <= value <= own[number] + doubt[number]
    counts.update(acknowledged=own.total(), unknown=doubt.total(), cuts=len(cutter.history))
    assert counts["acknowledged"] > 1000
    assert counts["cuts"] > 20
    assert counts["unknown"] == routed.counters.unknown


async def test_a_slow_reader_stalls_nobody_and_is_closed(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    server = make_redis()
    routed = await make_route(server.port, limits={"client_output_bytes_max": 4 * 1024 * 1024})
    quick, slow = await routed.wire(), await routed.wire()
    assert await quick.ask("SET", "big", "x" * 200_000) == b"+OK\r\n"
    await slow.ask("PING")
    slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
    slow.send(command("GET", "big") * 200)
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(20):
        while not routed.counters.clients_too_slow:
            start_s = loop.time()
            assert await quick.ask("PING") == b"+PONG\r\n"
            assert loop.time() - start_s < 2
            await asyncio.sleep(0.01)
    reasons = [report["reason"].value for report in routed.named("redis_client_closed")]
    assert reasons == ["client_too_slow"]
    slow.writer.transport.resume_reading()  # type: ignore[attr-defined]


@pytest.mark.parametrize("resp", [2, 3])
async def test_large_values_both_ways(
    make_redis: MakeRedis, make_route: MakeRoute, resp: int
) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    wire, other = await routed.wire(resp), await routed.wire()
    value = random.Random(1).randbytes(8 * 1024 * 1024)
    assert await wire.ask("SET", "big", value) == b"+OK\r\n"
    expected = b"$%d\r\n%b\r\n" % (len(value), value)
    for _ in range(2):
        assert await wire.ask("GET", "big") == expected
    wire.send(command("RPUSH", "l", *range(100_000)) + command("LRANGE", "l", 0, -1))
    assert await other.ask("PING") == b"+PONG\r\n"
    assert await wire.read() == b":100000\r\n"
    assert (await wire.read()).startswith(b"*100000\r\n$1\r\n0\r\n")
    wire.send(command("MULTI") + command("GET", "big") + command("EXEC"))
    assert (await wire.replies(3))[2] == b"*1\r\n" + expected


async def test_a_reply_cut_in_its_middle(
    make_redis: MakeRedis, make_cutter: MakeCutter, make_route: MakeRoute
) -> None:
    """Small: read again, unseen. Large, and passed on in part: the connection ends, says why."""
    server = make_redis()
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)))
    routed = await make_route(cutter.port, limits={"reply_hold_bytes": 256 * 1024})
    wire = await routed.wire()
    assert await wire.ask("SET", "small", "x" * 100_000) == b"+OK\r\n"
    assert await wire.ask("SET", "large", "y" * 3_000_000) == b"+OK\r\n"
    from proxy.demo.cutter import Direction

    for after in (1, 5, 9, 50_000, 100_008):
        assert await wire.ask("PING") == b"+PONG\r\n"
        for hop in cutter.hops.values():
            hop.cut_after(Direction.TO_CLIENT, after, Cut.RST)
        assert await wire.ask("GET", "small") == b"$100000\r\n" + b"x" * 100_000 + b"\r\n"
    assert await wire.ask("PING") == b"+PONG\r\n"
    for hop in cutter.hops.values():
        hop.cut_after(Direction.TO_CLIENT, 2_000_000, Cut.RST)
    wire.send(command("GET", "large"))
    with pytest.raises(Closed) as closed:
        await wire.read()
    assert closed.value.rest.startswith(b"$3000000\r\nyyy")
    reasons = [report["reason"].value for report in routed.named("redis_client_closed")]
    assert reasons == ["result_interrupted"]


PIECES = [
    b"*", b"$", b"\r\n", b"\n", b"\r", b"1", b"3", b"-1", b"0", b"PING", b"GET", b"\0", b" ", b'"',
    b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", b"*3\r\n$3\r\nSET\r\n", b"'",
    b"*1\r\n$5\r\nMULTI\r\n", b"*1\r\n$4\r\nEXEC\r\n", b"*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n",
    b"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n", b"SET a b\r\n",
    b"*99999\r\n", b"$-7\r\n", b"\xff\xfe", b"*2\r\n$5\r\nWATCH\r\n$1\r\nk\r\n", b"HELLO 2\r\n",
    b"*3\r\n$6\r\nCLIENT\r\n$5\r\nREPLY\r\n$4\r\nSKIP\r\n", b"*1\r\n$5\r\nRESET\r\n", b"+OK\r\n",
]  # fmt: skip


async def test_hostile_bytes_harm_only_their_sender(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    """Random token soup: the same bytes as directly, and the neighbour on the link never errs."""
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    neighbour = await routed.wire()
    rng = random.Random(11)
    for turn in range(150):
        soup = b"".join(rng.choice(PIECES) for _ in range(rng.randrange(1, 12)))
        if not soup.endswith(b"\n"):
            soup += b"\r\n"
        ends = []
        for port in (server.port, routed.port):
            wire = await AsyncWire.connect("127.0.0.1", port)
            wire.send(soup + b"*1\r\n$4\r\nQUIT\r\n" * 2)
            wire.writer.write_eof()
            ends.append(await wire.until_closed())
            await wire.close()
        assert await neighbour.ask("ECHO", turn) == b"$%d\r\n%d\r\n" % (len(str(turn)), turn)
        # Redis drops replies not yet written when it sees our EOF; what it did say must agree.
        direct, through = (end.replace(b"\r\n", b"|") for end in ends)
        if b"server" not in direct:
            assert through.startswith(direct) or direct.startswith(through), (soup, ends)
    assert routed.named("task_crashed") == []
