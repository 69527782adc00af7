"""Whose reply is it, and when: order and ownership where links change hands, die or fill up."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from proxy.demo.cutter import Cut, Cutter, Direction, Target
from proxy.demo.hop import Hop
from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.login import LinkIdentity, handshake
from proxy.redis.runtime.exclusive import ExclusiveLink
from proxy.redis.runtime.upstream import UpstreamLink
from tests.integration.redis.conftest import MakeRoute, Routed
from tests.integration.redis.wire import AsyncWire
from tests.wire_redis import command

pytestmark = pytest.mark.servers
MakeRedis = Callable[..., RedisServer]
MakeCutter = Callable[..., Awaitable[Cutter]]

LOST = b"-UPSTREAMLOST outcome unknown: "
DOWN = b"-UPSTREAMDOWN not executed: "


@dataclass
class Place:
    """A server, and a cutter in front of it for routes to dial."""

    server: RedisServer
    cutter: Cutter
    make: MakeRoute

    async def route(self, **options: object) -> Routed:
        return await self.make(self.cutter.port, **{"hold_s": 9.0, **options})

    async def arrived(self, wire: AsyncWire, *commands: bytes) -> None:
        """Sends commands; returns when their bytes have reached the (frozen) server's socket."""
        data = b"".join(commands)
        goal = self._passed_bytes + len(data)
        wire.send(data)
        await until(lambda: self._passed_bytes >= goal)

    @property
    def _passed_bytes(self) -> int:
        return sum(hop.to_server.passed_bytes for hop in self.cutter.hops.values())

    def hop_of(self, link: UpstreamLink) -> Hop:
        assert link.transport is not None
        name = link.transport.get_extra_info("sockname")
        for hop in self.cutter.hops.values():
            transport = hop.client.transport
            if transport is not None and transport.get_extra_info("peername") == name:
                return hop
        raise AssertionError("the link does not go through the cutter")

    def become_replica(self) -> None:
        """Of a primary that is not there: it reads, and refuses to write."""
        with self.server.connect() as client:
            client.replicaof("127.0.0.1", 1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


@pytest_asyncio.fixture
async def place(
    make_redis: MakeRedis, make_cutter: MakeCutter, make_route: MakeRoute
) -> AsyncIterator[Place]:
    server = make_redis()
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)))
    yield Place(server, cutter, make_route)
    server.thaw()


async def test_a_demoted_servers_link_is_left_when_it_owes_nothing(place: Place) -> None:
    """B's long answer is still on its way on the old link: what B asks next comes after it."""
    big = "x" * 2_000_000
    with place.server.connect() as direct:
        direct.set("big", big)
    place.become_replica()
    routed = await place.route()
    a, b = await routed.wire(), await routed.wire()
    assert await a.ask("PING") == await b.ask("PING") == b"+PONG\r\n"
    (hop,) = place.cutter.hops.values()
    hop.to_client.rate_bytes_s = 8_000_000
    place.server.freeze()
    await place.arrived(a, command("SET", "k", "v"))
    await place.arrived(b, command("GET", "big"))
    place.server.thaw()
    await until(lambda: bool(routed.named("redis_role_changed")))
    b.send(command("ECHO", "second"))
    assert await b.read() == b"$2000000\r\n" + big.encode() + b"\r\n"
    assert await b.read() == b"$6\r\nsecond\r\n"
    assert (await a.read()).startswith(b"-READONLY")


async def test_a_retried_command_whose_next_link_dies_too_holds_nobody_up(place: Place) -> None:
    """The client that waits for its retry goes on when the retry is lost."""
    place.become_replica()
    routed = await place.route()
    wire = await routed.wire()
    assert await wire.ask("PING") == b"+PONG\r\n"
    direct = await AsyncWire.connect("127.0.0.1", place.server.port)
    steps = handshake(LinkIdentity(None, 0, 2))
    direct.send(b"".join(steps))
    login_bytes = sum(map(len, await direct.replies(len(steps))))
    await direct.close()

    def cut_in_the_next_reply(hop: Hop) -> None:
        place.cutter.on_hop = None
        hop.cut_after(Direction.TO_CLIENT, login_bytes + 5, Cut.RST)

    place.cutter.on_hop = cut_in_the_next_reply
    wire.send(command("SET", "k", "v"))
    assert (await wire.read()).startswith(LOST)
    assert await wire.ask("PING") == b"+PONG\r\n"
    assert routed.counters.retried == 1


async def test_our_own_words_keep_their_turn_when_an_exclusive_link_dies(place: Place) -> None:
    """Reads that are asked again, with an answer of the proxy's own behind them: it takes its turn
    on the shared link, and nobody else's reply is mistaken for it."""
    routed = await place.route()
    wire, other = await routed.wire(), await routed.wire()
    number = await wire.ask("CLIENT", "ID")
    assert await other.ask("SET", "k", "v") == b"+OK\r\n"
    assert await wire.ask("WATCH", "k") == b"+OK\r\n"
    place.server.freeze()
    await place.arrived(wire, command("UNWATCH"), command("GET", "k"))
    wire.send(command("CLIENT", "ID") + command("ECHO", "last"))
    await until(lambda: _exclusively_owed(routed) == 4)
    place.hop_of(_exclusive_link(routed)).cut(Cut.RST)
    await until(lambda: _exclusively_owed(routed) == 0)
    place.server.thaw()
    asked = [other.ask("ECHO", turn) for turn in range(3)]
    assert [await one for one in asked] == [b"$1\r\n%d\r\n" % turn for turn in range(3)]
    assert await wire.replies(4) == [b"+OK\r\n", b"$1\r\nv\r\n", number, b"$4\r\nlast\r\n"]


def _exclusive_link(routed: Routed) -> ExclusiveLink:
    sessions = [client.exclusive for client in routed.route.clients.values()]
    (link,) = [session.link for session in sessions if session is not None]
    assert link is not None
    return link


def _exclusively_owed(routed: Routed) -> int:
    sessions = [client.exclusive for client in routed.route.clients.values()]
    return sum(len(session.state.expected) for session in sessions if session is not None)


async def test_a_write_that_moves_from_a_dead_exclusive_link_ends_its_barrier(
    place: Place,
) -> None:
    routed = await place.route(cache=CacheOptions())
    caches = routed.route.caches
    assert caches is not None
    wire = await routed.wire()
    assert await wire.ask("WATCH", "k") == b"+OK\r\n"
    place.server.freeze()
    wire.send(command("UNWATCH") + command("SET", "big", "x" * 30_000_000))
    await until(lambda: _exclusively_owed(routed) == 2)
    place.hop_of(_exclusive_link(routed)).cut(Cut.RST)
    place.server.thaw()
    assert await wire.read() == b"+OK\r\n"
    assert (await wire.read()).startswith((b"+OK", LOST))
    await until(lambda: len(caches.barriers) == 0)


async def test_a_full_hold_queue_answers_in_order(place: Place) -> None:
    routed = await place.route(limits={"hold_commands_max": 3})
    first, other = await routed.wire(), await routed.wire()
    assert await first.ask("PING") == await other.ask("PING") == b"+PONG\r\n"
    await place.cutter.refuse()
    place.cutter.cut_all(Cut.RST)
    await place.cutter.idle()
    first.send(command("INCR", "n"))
    await until(lambda: _held(routed) == 1)
    other.send(command("INCR", "n") * 2)
    await until(lambda: _held(routed) == 3)
    first.send(command("ECHO", "late"))
    late = await routed.wire()
    assert (await late.ask("PING")).startswith(DOWN + b"the hold queue is full")
    await place.cutter.accept()
    assert (await first.read())[:1] == b":"
    assert (await first.read()).startswith(DOWN + b"the hold queue is full")
    assert [reply[:1] for reply in await other.replies(2)] == [b":", b":"]
    assert routed.counters.hold_refused == 2


def _held(routed: Routed) -> int:
    return sum(lane.queue.commands for part in routed.route.partitions for lane in part.lanes)


async def test_a_read_between_lost_writes_keeps_its_place(place: Place) -> None:
    """With a cache each read has a taker of its own: it is still the same connection."""
    routed = await place.route(cache=CacheOptions())
    wire = await routed.wire()
    assert await wire.ask("SET", "k", "old") == b"+OK\r\n"
    place.server.freeze()
    await place.arrived(
        wire, command("INCR", "n"), command("GET", "k"), command("SET", "k", "new"),
        command("GET", "other"),
    )  # fmt: skip
    place.cutter.cut_all(Cut.RST)
    await until(lambda: routed.counters.unknown >= 2)
    place.server.thaw()
    replies = await wire.replies(4)
    assert [reply.startswith(LOST) for reply in replies] == [True, True, True, False], replies
    assert b"later write" in replies[1]
    assert replies[3] == b"$-1\r\n"


async def test_a_muted_reply_cut_in_its_middle_holds_nobody_up(place: Place) -> None:
    routed = await place.route(limits={"reply_hold_bytes": 64 * 1024})
    wire = await routed.wire()
    with place.server.connect() as direct:
        direct.set("big", "x" * 2_000_000)
    assert await wire.ask("PING") == b"+PONG\r\n"
    wire.send(command("CLIENT", "REPLY", "OFF"))
    for hop in place.cutter.hops.values():
        hop.cut_after(Direction.TO_CLIENT, 1_000_000, Cut.RST)
    wire.send(command("GET", "big") + command("CLIENT", "REPLY", "ON") + command("PING"))
    assert await wire.replies(2) == [b"+OK\r\n", b"+PONG\r\n"]
    assert len(routed.named("redis_link_lost")) == 1


async def test_who_waits_for_an_exclusive_link_gets_the_next_that_is_free(place: Place) -> None:
    routed = await place.route(limits={"exclusive_links_max": 1})
    wires = [await routed.wire() for _ in range(4)]
    for wire in wires:
        assert await wire.ask("PING") == b"+PONG\r\n"
    assert await wires[0].ask("MULTI") == b"+OK\r\n"
    for wire in wires[1:]:
        wire.send(command("MULTI") + command("INCR", "n") + command("EXEC"))
    assert await wires[0].ask("DISCARD") == b"+OK\r\n"
    replies = [await wire.replies(3) for wire in wires[1:]]
    assert sorted(reply[2] for reply in replies) == [b"*1\r\n:%d\r\n" % n for n in (1, 2, 3)]
    assert routed.route.pool.total == 1


async def test_what_is_sent_behind_a_multi_that_found_no_link_does_not_run(place: Place) -> None:
    """Nor without the WATCH that should have guarded it; what is sent later does."""
    routed = await place.route(limits={"exclusive_links_max": 1})
    first, second = await routed.wire(), await routed.wire()
    assert await first.ask("MULTI") == b"+OK\r\n"
    assert await second.ask("PING") == b"+PONG\r\n"
    routed.route.options = replace(routed.route.options, hold_s=0.2)
    second.send(command("MULTI") + command("INCR", "n") + command("EXEC") + command("PING"))
    replies = await second.replies(4)
    assert replies[0].startswith(DOWN)
    assert [reply[:10] for reply in replies[1:3]] == [b"-EXECABORT"] * 2
    assert replies[3] == b"+PONG\r\n"
    second.send(command("WATCH", "n") + command("MULTI") + command("INCR", "n") + command("EXEC"))
    replies = await second.replies(4)
    assert replies[0].startswith(DOWN)
    assert replies[1:] == [b"+OK\r\n", b"+QUEUED\r\n", b"*-1\r\n"]
    assert (await second.ask("MULTI")).startswith(DOWN)
    assert await second.ask("INCR", "n") == b":1\r\n"


async def test_half_a_message_is_not_for_the_links_next_owner(place: Place) -> None:
    routed = await place.route()
    reader = await routed.wire(3)
    assert (await reader.ask("SUBSCRIBE", "c")).startswith(b">3")
    for hop in place.cutter.hops.values():
        hop.to_client.rate_bytes_s = 600_000
    with place.server.connect() as direct:
        assert direct.publish("c", "x" * 300_000) == 1
    link = _exclusive_link(routed)
    await until(lambda: link.reply_in_progress)
    await reader.close()
    for turn in range(4):
        heir = await routed.wire(3)
        assert await heir.ask("MULTI") == b"+OK\r\n", turn
        assert await heir.ask("ECHO", "mine") == b"+QUEUED\r\n"
        assert await heir.ask("EXEC") == b"*1\r\n$4\r\nmine\r\n"
        await asyncio.sleep(0.2)  # until the rest of the message has come, and a link is clean


async def test_a_subscriber_that_leaves_while_its_link_is_away_leaves_none_behind(
    place: Place,
) -> None:
    routed = await place.route()
    reader = await routed.wire()
    assert (await reader.ask("SUBSCRIBE", "c")).startswith(b"*3")
    await place.cutter.refuse()
    place.cutter.cut_all(Cut.RST)
    await place.cutter.idle()
    await reader.close()
    await until(lambda: not routed.route.clients)
    await place.cutter.accept()
    other = await routed.wire()
    assert await other.ask("MULTI") == b"+OK\r\n"  # dials behind the one that was too late
    assert await other.ask("DISCARD") == b"+OK\r\n"
    await asyncio.sleep(0.3)
    with place.server.connect() as direct:
        assert direct.pubsub_numsub("c") == [(b"c", 0)]


async def test_data_that_looks_like_a_message_is_no_message(place: Place) -> None:
    """RESP3 tells pushes from replies: a list of the words a message begins with is a reply."""
    routed = await place.route()
    wire = await routed.wire(3)
    assert await wire.ask("RPUSH", "l", "message", "c", "x") == b":3\r\n"
    assert (await wire.ask("SUBSCRIBE", "c")).startswith(b">3")
    as_list = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nx\r\n"
    assert await wire.ask("LRANGE", "l", 0, -1) == as_list
    faked = "return {'subscribe', 'c2', 7}"
    assert (await wire.ask("EVAL", faked, 0)).startswith(b"*3\r\n$9\r\nsubscribe")
    assert (await wire.ask("UNSUBSCRIBE", "c")).startswith(b">3")
    assert await wire.ask("PING") == b"+PONG\r\n"
    await until(lambda: all(c.exclusive is None for c in routed.route.clients.values()))


@pytest.mark.parametrize("cached", [True, False])
async def test_a_slow_reader_of_hits_is_not_answered_ahead_of_its_reading(
    place: Place, cached: bool
) -> None:
    """A pipeline of reads whose answers come from memory: they are made as they are taken."""
    routed = await place.route(cache=CacheOptions(lease_s=60.0) if cached else None)
    wire = await routed.wire()
    value = "v" * 60_000
    assert await wire.ask("SET", "k", value) == b"+OK\r\n"
    for _ in range(2):
        assert await wire.ask("GET", "k") == b"$60000\r\n" + value.encode() + b"\r\n"
    count = 900
    wire.writer.transport.pause_reading()  # type: ignore[attr-defined]
    wire.send(command("GET", "k") * count + command("INCR", "n"))
    other = await routed.wire()
    most = 0
    for _ in range(30):
        assert await other.ask("GET", "k") == b"$60000\r\n" + value.encode() + b"\r\n"
        most = max(most, *(client.unread_bytes for client in routed.route.clients.values()))
    if cached:
        assert most < 4 * 1024 * 1024
    wire.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for reply in await wire.replies(count):
        assert len(reply) == 60_010
    assert await wire.read() == b":1\r\n"


async def test_a_script_in_another_database_fences_the_reads_there(place: Place) -> None:
    """It wrote a key it did not declare, after a SELECT on a link of its own, and T is slow."""
    routed = await place.route(cache=CacheOptions())
    wire, other = await routed.wire(), await routed.wire()
    assert await wire.ask("PING") == b"+PONG\r\n"
    assert await other.ask("SELECT", 3) == b"+OK\r\n"
    assert await other.ask("SET", "hidden", "old") == b"+OK\r\n"
    for _ in range(3):
        assert await other.ask("GET", "hidden") == b"$3\r\nold\r\n"
    (tracker,) = [p.tracker for p in routed.route.partitions if p.db == 3]
    assert tracker is not None
    assert tracker.link is not None
    place.hop_of(tracker.link).to_client.delay_s = 0.3
    assert await wire.ask("WATCH", "w") == b"+OK\r\n"
    assert await wire.ask("SELECT", 3) == b"+OK\r\n"
    script = "return redis.call('SET', 'hidden', 'new')"
    assert await wire.ask("EVAL", script, 1, "declared") == b"+OK\r\n"
    assert await wire.ask("UNWATCH") == b"+OK\r\n"
    assert await wire.ask("GET", "hidden") == b"$3\r\nnew\r\n"
