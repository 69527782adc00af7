"""The cache as clients see it: the incident, coherence, permissions, loss; on real servers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from proxy.demo.cutter import Cut, Cutter, FlowPlan, Plan, Target
from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions, Phase
from proxy.redis.protocol.cache import Cache
from tests.integration.redis.conftest import MakeRoute, Routed
from tests.integration.redis.wire import AsyncWire
from tests.wire_redis import command

pytestmark = pytest.mark.servers
MakeRedis = Callable[..., RedisServer]
MakeCutter = Callable[..., Awaitable[Cutter]]

NIL = {2: b"$-1\r\n", 3: b"_\r\n"}


def calls(server: RedisServer, name: str) -> int:
    """How often the server has executed a command."""
    with server.connect() as client:
        stats = client.info("commandstats")
    return int(stats.get(f"cmdstat_{name}", {}).get("calls", 0))


async def settled(routed: Routed) -> None:
    """Until the tracking links are up."""
    async with asyncio.timeout(5):
        while any(
            p.tracker is not None and p.tracker.cache.phase is not Phase.READY
            for p in routed.route.partitions
        ):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("resp", [2, 3])
async def test_the_incident(
    resp: int, make_redis: MakeRedis, make_cutter: MakeCutter, make_route: MakeRoute
) -> None:
    """14 reads of one key and of a missing one, 25 ms away: one upstream read each."""
    server = make_redis()
    delay = FlowPlan(delay_s=0.0125)
    cutter = await make_cutter(
        Target(address=("127.0.0.1", server.port)), plan=Plan(to_client=delay, to_server=delay)
    )
    routed = await make_route(cutter.port, cache=CacheOptions())
    with server.connect() as other:
        other.set("user:1", "ada")
    before = calls(server, "get")
    wire = await routed.wire(resp)
    loop = asyncio.get_running_loop()
    took_s = []
    for key, expected in (("user:1", b"$3\r\nada\r\n"), ("membership:1", NIL[resp])):
        for _ in range(14):
            start_s = loop.time()
            assert await wire.ask("GET", key) == expected
            took_s.append(loop.time() - start_s)
    assert calls(server, "get") - before == 2
    assert sorted(took_s)[len(took_s) // 2] < 0.001


@pytest.mark.parametrize("resp", [2, 3])
async def test_whoever_writes_the_next_read_sees_it(
    resp: int, make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    reader, writer = await routed.wire(resp), await routed.wire()
    await reader.ask("GET", "k")
    with server.connect() as other:
        for number in range(100):
            value = f"v{number}"
            if number % 4 == 3:
                other.set("k", value)
                await asyncio.sleep(0.01)  # an invalidation's way
            elif number % 4 == 2:
                await reader.ask("SET", "k", value)
            elif number % 4 == 1:
                await writer.ask("SET", "k", value)
            else:
                writer.send(command("MULTI") + command("SET", "k", value) + command("EXEC"))
                await writer.replies(3)
            expected = b"$%d\r\n%b\r\n" % (len(value), value.encode())
            assert await reader.ask("GET", "k") == expected
            assert await reader.ask("GET", "k") == expected
    assert routed.route.caches is not None
    assert routed.route.caches.report().hits >= 50


@pytest.mark.parametrize("pushes", [True, False], ids=["as it is", "pushes come late"])
async def test_writes_of_every_kind_are_seen(
    pushes: bool, make_redis: MakeRedis, make_route: MakeRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those through the proxy also when the server's word of them is still on its way."""
    if not pushes:
        monkeypatch.setattr(Cache, "_on_push", lambda cache, frame: None)
    server = make_redis(settings={"enable-debug-command": "yes"})
    routed = await make_route(server.port, cache=CacheOptions())
    reader, writer = await routed.wire(3), await routed.wire(2)
    script = "return redis.call('SET', KEYS[1], 'scripted')"
    hidden = "return redis.call('SET', 'k', 'hidden')"
    writes: list[tuple[str, ...]] = [
        ("SET", "k", "plain"),
        ("APPEND", "k", "!"),
        ("DEL", "k"),
        ("EVAL", script, "1", "k"),
        ("EVAL", hidden, "0" if pushes else "1", "k"),
        ("RENAME", "k", "k2"),
        ("COPY", "k2", "k"),
        ("GETDEL", "k"),
        ("MSET", "a", "1", "k", "2"),
        ("INCR", "k"),
        ("EXPIRE", "k", "-1"),
        ("SET", "k", "again"),
        ("FLUSHALL",),
        ("LPUSH", "l", "1"),
        ("SORT", "l", "STORE", "k"),
        ("DEL", "k"),
        ("SET", "k", "x"),
        ("MOVE", "k", "1"),
        ("SWAPDB", "0", "1"),
        ("SWAPDB", "0", "1"),
        ("BITOP", "NOT", "k", "l2"),
        ("SETRANGE", "k", "3", "abc"),
        ("FLUSHDB",),
    ]
    with server.connect(protocol=3) as other:
        for words in writes:
            await reader.ask("GET", "k")
            await reader.ask("GET", "k")
            said = await writer.ask(*words)
            assert not said.startswith(b"-"), (words, said)
            got = await reader.ask("TYPE", "k"), await reader.ask("EXISTS", "k")
            kind = other.type("k")
            there = other.exists("k")
            assert got == (b"+%b\r\n" % kind, b":%d\r\n" % there), words
            if kind != b"list":
                value = other.get("k")
                expected = NIL[3] if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
                assert await reader.ask("GET", "k") == expected, words


async def test_an_inline_flush_is_seen(
    make_redis: MakeRedis, make_route: MakeRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cache, "_on_push", lambda cache, frame: None)
    routed = await make_route(make_redis().port, cache=CacheOptions())
    reader, writer = await routed.wire(), await routed.wire()
    await writer.ask("SET", "k", "v")
    assert await reader.ask("GET", "k") == b"$1\r\nv\r\n"
    writer.send(b"flushall\r\n")
    assert await writer.read() == b"+OK\r\n"
    assert await reader.ask("GET", "k") == NIL[2]


async def test_writes_behind_a_refused_multi_are_seen(
    make_redis: MakeRedis, make_route: MakeRoute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They run one by one, though they were sent as if to be queued."""
    monkeypatch.setattr(Cache, "_on_push", lambda cache, frame: None)
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    reader, writer = await routed.wire(), await routed.wire()
    await writer.ask("SET", "k", "old")
    assert await reader.ask("GET", "k") == b"$3\r\nold\r\n"
    with server.connect() as other:
        other.execute_command("ACL", "SETUSER", "default", "-multi")
    writer.send(command("MULTI") + command("SET", "k", "new"))
    said = await writer.replies(2)
    assert [one[:7] for one in said] == [b"-NOPERM", b"+OK\r\n"]
    assert await reader.ask("GET", "k") == b"$3\r\nnew\r\n"


async def test_a_blocking_pop_is_seen(make_redis: MakeRedis, make_route: MakeRoute) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    reader, popper = await routed.wire(3), await routed.wire(2)
    assert await reader.ask("RPUSH", "q", "x") == b":1\r\n"
    assert await reader.ask("LLEN", "q") == b":1\r\n"
    assert await popper.ask("BLPOP", "q", 1) == b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n"
    assert await reader.ask("LLEN", "q") == b":0\r\n"
    popper.send(command("BLPOP", "q", 5))
    await asyncio.sleep(0.05)
    assert await reader.ask("RPUSH", "q", "y") == b":1\r\n"
    await popper.read()
    assert await reader.ask("LLEN", "q") == b":0\r\n"


@pytest.mark.parametrize("behind", ["WATCH", "MULTI"])
async def test_what_an_exclusive_link_has_shown_is_not_taken_back(
    make_redis: MakeRedis, make_route: MakeRoute, behind: str
) -> None:
    """W7: the tracking link is late with an invalidation, and another link tells the new value."""
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    wire = await routed.wire(2)
    with server.connect() as other:
        other.set("k", "old")
        assert await wire.ask("GET", "k") == b"$3\r\nold\r\n"
        await settled(routed)
        assert await wire.ask("GET", "k") == b"$3\r\nold\r\n"
        for partition in routed.route.partitions:
            assert partition.tracker is not None
            assert partition.tracker.link is not None
            partition.tracker.link.transport.pause_reading()  # type: ignore[union-attr]
        other.set("k", "new")
        assert await wire.ask("GET", "k") == b"$3\r\nold\r\n"  # within the lease
        if behind == "WATCH":
            assert await wire.ask("WATCH", "else") == b"+OK\r\n"
            assert await wire.ask("GET", "k") == b"$3\r\nnew\r\n"
            assert await wire.ask("UNWATCH") == b"+OK\r\n"
        else:
            assert await wire.ask("MULTI") == b"+OK\r\n"
            assert await wire.ask("GET", "k") == b"+QUEUED\r\n"
            assert await wire.ask("EXEC") == b"*1\r\n$3\r\nnew\r\n"
        assert await wire.ask("GET", "k") == b"$3\r\nnew\r\n"


async def test_pipelines_keep_their_order(make_redis: MakeRedis, make_route: MakeRoute) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    wire = await routed.wire(2)
    await wire.ask("GET", "k")
    await settled(routed)
    for number in range(200):
        wire.send(
            command("GET", "k") + command("GET", "other") + command("SET", "k", number)
            + command("GET", "k") + command("MGET", "k", "other") + command("GET", "k")
            + command("PING") + command("CLIENT", "GETNAME") + command("GET", "k")
        )  # fmt: skip
        text = b"%d" % number
        now = b"$%d\r\n%b\r\n" % (len(text), text)
        old = b"%d" % (number - 1)
        before = NIL[2] if not number else b"$%d\r\n%b\r\n" % (len(old), old)
        assert await wire.replies(9) == [
            before,
            NIL[2],
            b"+OK\r\n",
            now,
            b"*2\r\n" + now + NIL[2],
            now,
            b"+PONG\r\n",
            NIL[2],
            now,
        ]


async def test_users_and_databases_share_no_entry(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    server = make_redis(
        users={"ada": ">ada-pw ~ada:* &* +@all", "bob": ">bob-pw ~* &* +@all -select"}
    )
    routed = await make_route(server.port, cache=CacheOptions())
    bob, ada, default = [await routed.wire(3) for _ in range(3)]
    assert await bob.ask("AUTH", "bob", "bob-pw") == b"+OK\r\n"
    assert await ada.ask("AUTH", "ada", "ada-pw") == b"+OK\r\n"
    assert await bob.ask("SET", "secret", "s") == b"+OK\r\n"
    for _ in range(3):
        assert await bob.ask("GET", "secret") == b"$1\r\ns\r\n"
        assert (await ada.ask("GET", "secret")).startswith(b"-NOPERM")
    assert (await bob.ask("SELECT", 1)).startswith(b"-NOPERM")
    assert await bob.ask("GET", "secret") == b"$1\r\ns\r\n"
    assert await default.ask("GET", "secret") == b"$1\r\ns\r\n"
    assert await default.ask("SELECT", 1) == b"+OK\r\n"
    assert await default.ask("GET", "secret") == NIL[3]
    assert await default.ask("GET", "secret") == NIL[3]
    assert await default.ask("SET", "secret", "one") == b"+OK\r\n"
    assert await default.ask("SELECT", 0) == b"+OK\r\n"
    assert await default.ask("GET", "secret") == b"$1\r\ns\r\n"


@pytest.mark.parametrize(
    ("granted", "missing"),
    [("", "TRACKING"), ("+client|tracking +client|caching", "TRACKINGINFO")],
)
async def test_a_user_who_may_not_track_is_served_uncached(
    make_redis: MakeRedis, make_route: MakeRoute, granted: str, missing: str
) -> None:
    """And the log says which command the user lacks."""
    server = make_redis(users={"meek": f">meek-pw ~* +@read +@connection -client {granted}"})
    routed = await make_route(server.port, cache=CacheOptions())
    wire = await routed.wire(2)
    assert await wire.ask("AUTH", "meek", "meek-pw") == b"+OK\r\n"
    for _ in range(3):
        assert await wire.ask("GET", "k") == NIL[2]
    off = routed.named("redis_cache_off")
    assert len(off) == 1
    assert off[0]["why"] == f"CLIENT {missing} was refused: NOPERM"


async def test_a_lost_tracking_link_empties_the_cache(
    make_redis: MakeRedis, make_cutter: MakeCutter, make_route: MakeRoute
) -> None:
    server = make_redis()
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)))
    routed = await make_route(cutter.port, cache=CacheOptions())
    wire = await routed.wire(2)
    with server.connect() as other:
        for number in range(10):
            other.set("k", number)
            await asyncio.sleep(0.01)
            expected = b"$1\r\n%d\r\n" % number
            assert await wire.ask("GET", "k") == expected
            assert await wire.ask("GET", "k") == expected
            cutter.cut_all(Cut.RST)
            await cutter.idle()
            await settled(routed)


async def test_expired_keys_are_not_served(make_redis: MakeRedis, make_route: MakeRoute) -> None:
    """200 short TTLs among 100 000 long ones, on a server that reclaims lazily."""
    fill = "for i = 1, 100000 do redis.call('SET', 'long:' .. i, 'x', 'EX', 10000) end"
    server = make_redis(settings={"enable-debug-command": "yes"})
    routed = await make_route(server.port, cache=CacheOptions())
    wire = await routed.wire(3)
    with server.connect() as other:
        other.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        other.eval(fill, 0)
        pipe = other.pipeline(transaction=False)
        for number in range(200):
            pipe.set(f"short:{number}", "x", px=1500)
        pipe.execute()
    over_s = asyncio.get_running_loop().time() + 1.5
    wire.send(b"".join(command("GET", f"short:{number}") for number in range(200)))
    assert set(await wire.replies(200)) == {b"$1\r\nx\r\n"}
    await asyncio.sleep(over_s - asyncio.get_running_loop().time())
    wire.send(b"".join(command("GET", f"short:{number}") for number in range(200)))
    assert set(await wire.replies(200)) == {NIL[3]}


async def test_stale_only_where_enabled(
    make_redis: MakeRedis, make_cutter: MakeCutter, make_route: MakeRoute
) -> None:
    server = make_redis()
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)))
    stale = await make_route(cutter.port, cache=CacheOptions(stale_max_s=30.0), hold_s=0.2)
    strict = await make_route(cutter.port, cache=CacheOptions(), hold_s=0.2)
    wires = [await routed.wire(2) for routed in (stale, strict)]
    with server.connect() as other:
        other.mset({"k": "v", "lock": "held"})
    for wire in wires:
        assert await wire.ask("SET", "lock", "mine", "NX") == NIL[2]
        for _ in range(3):
            assert await wire.ask("GET", "k") == b"$1\r\nv\r\n"
            assert await wire.ask("GET", "lock") == b"$4\r\nheld\r\n"
    await cutter.refuse()
    cutter.cut_all(Cut.RST)
    await cutter.idle()
    assert await wires[0].ask("GET", "k") == b"$1\r\nv\r\n"
    assert (await wires[0].ask("GET", "lock")).startswith(b"-UPSTREAMDOWN")
    assert (await wires[1].ask("GET", "k")).startswith(b"-UPSTREAMDOWN")
    assert stale.route.caches is not None
    assert stale.route.caches.insight.stale_served == 1


async def test_many_readers_of_a_cold_key_are_one_read(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    wires = [await routed.wire(2) for _ in range(20)]
    await asyncio.gather(*(wire.ask("PING") for wire in wires))
    await settled(routed)
    before = calls(server, "get")
    server.freeze()
    for wire in wires:
        wire.send(command("GET", "cold"))
    await asyncio.sleep(0.1)
    server.thaw()
    assert await asyncio.gather(*(wire.read() for wire in wires)) == [NIL[2]] * 20
    assert calls(server, "get") - before == 1
    assert isinstance(wires[0], AsyncWire)


async def test_what_the_cache_did_is_told_at_the_end(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    """Issue 3, item 7: hot, repeated and missing keys, as shapes, and what was not cached."""
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions(exclude=(b"secret:*",)))
    with server.connect() as other:
        other.set("user:471100471100", "ada")
    wire = await routed.wire()
    await wire.ask("GET", "warm:1")
    await settled(routed)
    for _ in range(14):
        await wire.ask("GET", "user:471100471100")
        await wire.ask("GET", "membership:471100471100:9")
    await wire.ask("GET", "secret:1")
    await routed.route.stop(0.0)
    (told,) = routed.named("redis_cache_use")
    assert told["top_keys"] == {"membership:*:*": 14, "user:*": 14, "warm:*": 1}
    assert told["repeated_keys"] == {"membership:*:*": 13, "user:*": 13}
    assert told["missing_keys"] == {"membership:*:*": 14, "warm:*": 1}
    assert (told["hits"], told["negative_hits"], told["saved_repeats"]) == (26, 13, 26)
    assert told["misses"] == 3
    assert told["bypassed"] == {"excluded": 1}
    assert "471100471100" not in repr(told)


async def test_nothing_is_told_of_an_unused_cache(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    routed = await make_route(make_redis().port, cache=CacheOptions())
    wire = await routed.wire()
    await wire.ask("SET", "k", "v")
    await routed.route.stop(0.0)
    assert routed.named("redis_cache_use") == []


async def test_databases_swapped_by_others_are_seen_within_the_lease(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions(lease_s=0.2))
    with server.connect() as other:
        other.set("k", "before")
        wire = await routed.wire()
        assert await wire.ask("GET", "k") == b"$6\r\nbefore\r\n"
        await settled(routed)
        assert await wire.ask("GET", "k") == b"$6\r\nbefore\r\n"
        other.swapdb(0, 1)
        await asyncio.sleep(0.2)  # the lease is the promise
        assert await wire.ask("GET", "k") == b"$-1\r\n"
        other.set("k", "again")
        assert await wire.ask("SET", "n", "1") == b"+OK\r\n"
        other.swapdb(0, 1)
        await asyncio.sleep(0.2)
        assert await wire.ask("GET", "k") == b"$6\r\nbefore\r\n"
    assert routed.named("redis_swaps_unseen") == []
