"""What clients see when links die: the table of reference/redis.md, section 3, on a real server.

The server is frozen (SIGSTOP) while commands are on their way, so that a cut finds them written and
unanswered; what it had received it executes after the thaw.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest
import pytest_asyncio

from proxy.demo.cutter import Cut, Cutter, Direction, Target
from proxy.demo.servers import RedisServer
from tests.integration.redis.conftest import MakeRoute, Routed
from tests.integration.redis.wire import AsyncWire, Closed
from tests.wire_redis import command

pytestmark = pytest.mark.servers

LOST = b"-UPSTREAMLOST outcome unknown: "
DOWN = b"-UPSTREAMDOWN not executed: "
EXECABORT = b"-EXECABORT Transaction discarded because of previous errors.\r\n"


@dataclass
class Broken:
    """A route behind a cutter in front of a server of the test's own."""

    server: RedisServer
    cutter: Cutter
    routed: Routed

    async def wire(self, resp: int = 2) -> AsyncWire:
        return await self.routed.wire(resp)

    async def arrived(self, wire: AsyncWire, *commands: bytes) -> None:
        """Sends commands; returns when their bytes have reached the server's socket."""
        before = sum(hop.to_server.passed_bytes for hop in self.cutter.hops.values())
        data = b"".join(commands)
        wire.send(data)
        async with asyncio.timeout(5):
            while True:
                now = sum(hop.to_server.passed_bytes for hop in self.cutter.hops.values())
                if now - before >= len(data):
                    return
                await asyncio.sleep(0.002)

    async def blocked(self, wire: AsyncWire, *words: str | int) -> None:
        """Sends a blocking command; returns when the server is waiting in its name."""
        wire.send(command(*words))
        async with asyncio.timeout(5):
            with self.server.connect() as client:
                while client.info("clients")["blocked_clients"] == 0:
                    await asyncio.sleep(0.002)

    def value(self, key: str) -> bytes | None:
        with self.server.connect() as client:
            found: bytes | None = client.get(key)
            return found


@pytest_asyncio.fixture
async def broken(
    make_redis: Callable[..., RedisServer],
    make_cutter: Callable[..., Awaitable[Cutter]],
    make_route: MakeRoute,
) -> AsyncIterator[Broken]:
    server = make_redis(settings={"enable-debug-command": "yes"})
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)))
    routed = await make_route(cutter.port, hold_s=3.0, command_timeout_s=2.0)
    yield Broken(server, cutter, routed)
    server.thaw()


@pytest.mark.parametrize("cut", [Cut.FIN, Cut.RST])
@pytest.mark.parametrize("resp", [2, 3])
async def test_idle_links_die_unnoticed(broken: Broken, resp: int, cut: Cut) -> None:
    wire = await broken.wire(resp)
    for number in range(5):
        assert await wire.ask("SET", "k", number) == b"+OK\r\n"
        assert broken.cutter.cut_all(cut) >= 1
        await broken.cutter.idle()
    assert await wire.ask("GET", "k") == b"$1\r\n4\r\n"
    await wire.close()


async def test_reads_are_asked_again_and_writes_are_not(broken: Broken) -> None:
    wire = await broken.wire()
    assert await wire.ask("SET", "k", "v") == b"+OK\r\n"
    broken.server.freeze()
    await broken.arrived(
        wire, command("INCR", "n"), command("GET", "k"), command("HGETALL", "h"), command("PING")
    )
    broken.cutter.cut_all(Cut.RST)
    assert (await wire.read()).startswith(LOST)
    broken.server.thaw()
    assert await wire.replies(3) == [b"$1\r\nv\r\n", b"*0\r\n", b"+PONG\r\n"]
    assert await wire.ask("PING") == b"+PONG\r\n"
    assert broken.value("n") in (None, b"1")
    assert broken.routed.counters.unknown == 1
    assert broken.routed.counters.resent == 3
    await wire.close()


async def test_a_read_before_a_doubtful_write_is_not_repeated(broken: Broken) -> None:
    """Repeated now it could see what its own connection wrote later."""
    wire = await broken.wire()
    assert await wire.ask("SET", "k", "old") == b"+OK\r\n"
    broken.server.freeze()
    await broken.arrived(wire, command("GET", "k"), command("SET", "k", "new"))
    broken.cutter.cut_all(Cut.RST)
    first, second = await wire.replies(2)
    assert first.startswith(LOST)
    assert b"later write" in first
    assert second.startswith(LOST)
    broken.server.thaw()
    assert await wire.ask("PING") == b"+PONG\r\n"
    await wire.close()


async def test_replay_off_repeats_nothing(
    make_redis: Callable[..., RedisServer],
    make_cutter: Callable[..., Awaitable[Cutter]],
    make_route: MakeRoute,
) -> None:
    from proxy.redis.runtime.options import Replay

    server = make_redis()
    cutter = await make_cutter(Target(address=("127.0.0.1", server.port)))
    broken = Broken(server, cutter, await make_route(cutter.port, replay=Replay.OFF))
    wire = await broken.wire()
    assert await wire.ask("PING") == b"+PONG\r\n"
    server.freeze()
    await broken.arrived(wire, command("GET", "k"))
    cutter.cut_all(Cut.RST)
    assert (await wire.read()).startswith(LOST)
    server.thaw()
    assert await wire.ask("GET", "k") == b"$-1\r\n"
    await wire.close()


async def test_an_outage_is_a_wait(broken: Broken) -> None:
    wires = [await broken.wire(resp) for resp in (2, 3, 2)]
    for wire in wires:
        assert await wire.ask("PING") == b"+PONG\r\n"
    await broken.cutter.refuse()
    broken.cutter.cut_all(Cut.RST)
    for wire in wires:
        wire.send(command("INCR", "n"))
    await asyncio.sleep(0.3)
    await broken.cutter.accept()
    replies = [await wire.read() for wire in wires]
    assert sorted(replies) == [b":1\r\n", b":2\r\n", b":3\r\n"]
    for wire in wires:
        await wire.close()


async def test_a_long_outage_is_an_error_and_the_connection_stays(broken: Broken) -> None:
    wire = await broken.wire()
    assert await wire.ask("PING") == b"+PONG\r\n"
    await broken.cutter.refuse()
    broken.cutter.cut_all(Cut.FIN)
    await broken.cutter.idle()
    wire.send(command("INCR", "n") + command("GET", "n"))
    replies = await wire.replies(2)
    assert all(reply.startswith(DOWN) for reply in replies)
    assert b"waited 3 s" in replies[0]
    await broken.cutter.accept()
    assert await wire.ask("GET", "n") == b"$-1\r\n"
    assert broken.routed.counters.not_executed == 2
    await wire.close()


async def test_new_clients_of_an_absent_upstream_wait_as_well(
    make_route: MakeRoute, make_redis: Callable[..., RedisServer]
) -> None:
    server = make_redis()
    server.stop()
    routed = await make_route(server.port, hold_s=5.0)
    wire = await AsyncWire.connect("127.0.0.1", routed.port)
    wire.send(command("HELLO", 3) + command("PING"))
    await asyncio.sleep(0.1)
    await asyncio.to_thread(server.start)
    assert (await wire.read()).startswith(b"%7\r\n")
    assert await wire.read() == b"+PONG\r\n"
    assert len(routed.named("redis_upstream_away")) == 1
    assert len(routed.named("redis_upstream_back")) == 1
    await wire.close()


async def test_silence_is_noticed(broken: Broken) -> None:
    """No FIN, no RST: only the missing reply tells."""
    wire = await broken.wire()
    assert await wire.ask("SET", "k", "v") == b"+OK\r\n"
    broken.cutter.cut_all(Cut.SILENCE)
    wire.send(command("GET", "k"))
    assert await wire.read() == b"$1\r\nv\r\n"
    broken.cutter.cut_all(Cut.SILENCE)
    wire.send(command("INCR", "n"))
    assert (await wire.read()).startswith(LOST + b"no reply within 2 s")
    await wire.close()


async def test_a_transaction_loses_its_queue(broken: Broken) -> None:
    wire = await broken.wire()
    assert await wire.ask("MULTI") == b"+OK\r\n"
    assert await wire.ask("INCR", "n") == b"+QUEUED\r\n"
    broken.cutter.cut_all(Cut.RST)
    await broken.cutter.idle()
    assert await wire.ask("INCR", "n") == EXECABORT
    assert await wire.ask("EXEC") == EXECABORT
    assert await wire.ask("GET", "n") == b"$-1\r\n"
    assert await wire.ask("MULTI") == b"+OK\r\n"
    assert await wire.ask("INCR", "n") == b"+QUEUED\r\n"
    assert await wire.ask("EXEC") == b"*1\r\n:1\r\n"
    await wire.close()


async def test_a_lost_exec_is_doubtful(broken: Broken) -> None:
    wire = await broken.wire()
    assert await wire.ask("MULTI") == b"+OK\r\n"
    assert await wire.ask("INCR", "n") == b"+QUEUED\r\n"
    broken.server.freeze()
    await broken.arrived(wire, command("EXEC"), command("GET", "other"))
    broken.cutter.cut_all(Cut.RST)
    assert (await wire.read()).startswith(LOST)
    broken.server.thaw()
    assert await wire.read() == b"$-1\r\n"
    assert await wire.ask("PING") == b"+PONG\r\n"
    await wire.close()


@pytest.mark.parametrize("resp", [2, 3])
async def test_lost_watches_make_exec_fail_as_if_a_key_had_changed(
    broken: Broken, resp: int
) -> None:
    wire = await broken.wire(resp)
    assert await wire.ask("WATCH", "k") == b"+OK\r\n"
    broken.cutter.cut_all(Cut.RST)
    await broken.cutter.idle()
    assert await wire.ask("GET", "k") == (b"$-1\r\n" if resp == 2 else b"_\r\n")
    assert await wire.ask("MULTI") == b"+OK\r\n"
    assert await wire.ask("SET", "k", "v") == b"+QUEUED\r\n"
    assert await wire.ask("EXEC") == (b"*-1\r\n" if resp == 2 else b"_\r\n")
    assert broken.value("k") is None
    assert await wire.ask("WATCH", "k") == b"+OK\r\n"
    assert await wire.ask("MULTI") == b"+OK\r\n"
    assert await wire.ask("SET", "k", "v") == b"+QUEUED\r\n"
    assert await wire.ask("EXEC") == b"*1\r\n+OK\r\n"
    await wire.close()


async def test_a_lost_blocking_pop_is_doubtful(broken: Broken) -> None:
    wire = await broken.wire()
    await broken.blocked(wire, "BLPOP", "q", 0)
    broken.cutter.cut_all(Cut.RST)
    assert (await wire.read()).startswith(LOST)
    wire.send(command("BLPOP", "q", 5))
    with broken.server.connect() as other:
        other.rpush("q", "x")
    assert await wire.read() == b"*2\r\n$1\r\nq\r\n$1\r\nx\r\n"
    await wire.close()


async def test_a_lost_xread_from_an_id_goes_on(broken: Broken) -> None:
    wire = await broken.wire()
    await broken.blocked(wire, "XREAD", "BLOCK", 5000, "STREAMS", "x", "0-0")
    accepted = broken.cutter.counters["accepted"]
    broken.cutter.cut_all(Cut.RST)
    await broken.cutter.accepted(accepted + 1)
    with broken.server.connect() as other:
        other.xadd("x", {"a": "1"}, id="1-1")
    assert (await wire.read()).startswith(b"*1\r\n*2\r\n$1\r\nx\r\n")
    await broken.blocked(wire, "XREAD", "BLOCK", 5000, "STREAMS", "x", "$")
    broken.cutter.cut_all(Cut.RST)
    assert (await wire.read()).startswith(LOST)
    await wire.close()


@pytest.mark.parametrize("resp", [2, 3])
async def test_subscriptions_go_over_to_another_link(broken: Broken, resp: int) -> None:
    wire = await broken.wire(resp)
    sign = b"*" if resp == 2 else b">"
    wire.send(command("SUBSCRIBE", "a", "b") + command("PSUBSCRIBE", "p*"))
    await wire.replies(3)
    assert (await wire.ask("UNSUBSCRIBE", "b"))[4:18] == b"$11\r\nunsubscri"
    assert (await wire.ask("SSUBSCRIBE", "s")).startswith(sign)
    broken.cutter.cut_all(Cut.RST)
    await broken.cutter.idle()
    with broken.server.connect() as other:
        async with asyncio.timeout(5):
            while other.pubsub_numsub("a") != [(b"a", 1)] or other.pubsub_numpat() != 1:
                await asyncio.sleep(0.01)
        other.publish("a", "1")
        other.publish("b", "no")
        other.publish("px", "2")
        other.execute_command("SPUBLISH", "s", "3")
    messages = await wire.replies(3)
    assert messages[0] == sign + b"3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert messages[1] == sign + b"4\r\n$8\r\npmessage\r\n$2\r\np*\r\n$2\r\npx\r\n$1\r\n2\r\n"
    assert messages[2] == sign + b"3\r\n$8\r\nsmessage\r\n$1\r\ns\r\n$1\r\n3\r\n"
    assert broken.routed.counters.resubscribed == 1
    await wire.close()


# What is sent, what confirms it (one by one, subscribed to "z" before), who listens at the end.
BETWEEN_TWO = [
    ("SUBSCRIBE a b", "", [("a", 2), ("b", 3)], {"z": 1, "a": 1, "b": 1}),
    ("SUBSCRIBE a a", "", [("a", 2), ("a", 2)], {"z": 1, "a": 1}),
    ("UNSUBSCRIBE a b", "a b", [("a", 2), ("b", 1)], {"z": 1, "a": 0, "b": 0}),
    ("UNSUBSCRIBE b x", "a b", [("b", 2), ("x", 2)], {"z": 1, "a": 1, "b": 0}),
]


@pytest.mark.parametrize("resp", [2, 3])
@pytest.mark.parametrize(("text", "before", "told", "held"), BETWEEN_TWO)
async def test_each_channel_is_confirmed_once_if_the_link_dies_between_two(
    broken: Broken,
    text: str,
    before: str,
    told: list[tuple[str, int]],
    held: dict[str, int],
    resp: int,
) -> None:
    wire = await broken.wire(resp)
    prepared = ["SUBSCRIBE", "z", *before.split()]
    wire.send(command(*prepared))
    await wire.replies(len(prepared) - 1)
    kind = text.split()[0].lower()
    sign = "*" if resp == 2 else ">"
    first, second = (
        f"{sign}3\r\n${len(kind)}\r\n{kind}\r\n$1\r\n{name}\r\n:{count}\r\n".encode()
        for name, count in told
    )
    for hop in broken.cutter.hops.values():
        hop.cut_after(Direction.TO_CLIENT, len(first), Cut.FIN)
    wire.send(command(*text.split()))
    assert await wire.replies(2) == [first, second]
    assert broken.routed.counters.resubscribed == 1
    with broken.server.connect() as other:
        for name, count in held.items():
            assert other.pubsub_numsub(name) == [(name.encode(), count)]
            other.publish(name, "m")
    for name in (name for name, count in held.items() if count):
        message = f"{sign}3\r\n$7\r\nmessage\r\n$1\r\n{name}\r\n$1\r\nm\r\n"
        assert await wire.read() == message.encode()
    await wire.close()


async def test_a_clients_own_tracking_is_told_to_flush(broken: Broken) -> None:
    wire = await broken.wire(3)
    assert await wire.ask("CLIENT", "TRACKING", "ON") == b"+OK\r\n"
    assert await wire.ask("GET", "k") == b"_\r\n"
    broken.cutter.cut_all(Cut.RST)
    assert await wire.read() == b">2\r\n$10\r\ninvalidate\r\n_\r\n"
    assert await wire.ask("GET", "k") == b"_\r\n"
    with broken.server.connect() as other:
        other.set("k", "v")
    assert await wire.read() == b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"
    await wire.close()


async def test_monitor_cannot_be_restored(broken: Broken) -> None:
    wire = await broken.wire()
    assert await wire.ask("MONITOR") == b"+OK\r\n"
    with broken.server.connect() as other:
        other.set("k", "v")
    while b'"SET" "k" "v"' not in await wire.read():
        pass  # what redis-py says first
    broken.cutter.cut_all(Cut.RST)
    with pytest.raises(Closed):
        while True:
            await wire.read()
    closed = broken.routed.named("redis_client_closed")
    assert [report["reason"].value for report in closed] == ["state_not_restorable"]
    await wire.close()


async def test_a_gone_clients_blocking_pop_takes_nothing(broken: Broken) -> None:
    wire = await broken.wire()
    await broken.blocked(wire, "BLPOP", "q", 0)
    hops = len(broken.cutter.hops)
    await wire.close()
    async with asyncio.timeout(5):
        while len(broken.cutter.hops) >= hops:
            await asyncio.sleep(0.01)
    with broken.server.connect() as other:
        other.rpush("q", "x")
        assert other.lrange("q", 0, -1) == [b"x"]


async def test_unsent_writes_are_sent_on_the_next_link(broken: Broken) -> None:
    """What the kernel never sent, the server never saw: it goes out again (M1)."""
    wire = await broken.wire()
    assert await wire.ask("PING") == b"+PONG\r\n"
    hop = next(iter(broken.cutter.hops.values()))
    hop.cut(Cut.RST)
    wire.send(command("INCR", "n"))  # written into a link that is dead already, or held
    reply = await wire.read()
    value = broken.value("n")
    assert (reply, value) == (b":1\r\n", b"1") or reply.startswith(LOST)
    await wire.close()


async def test_loading_is_waited_for(broken: Broken) -> None:
    wire = await broken.wire()
    with broken.server.connect() as other:
        for start in range(0, 60_000, 20_000):
            pipe = other.pipeline(transaction=False)
            for number in range(start, start + 20_000):
                pipe.set(f"key:{number}", "x" * 40)
            pipe.execute()
        other.save()
    assert await wire.ask("GET", "key:1") == b"$40\r\n" + b"x" * 40 + b"\r\n"
    await asyncio.to_thread(broken.server.kill)
    wire.send(command("GET", "key:2"))
    await asyncio.to_thread(broken.server.start)
    reply = await wire.read()
    assert not reply.startswith(b"-LOADING")
    assert await wire.ask("PING") == b"+PONG\r\n"
    await wire.close()


async def test_a_subscriber_that_may_not_listen_any_more_is_told(
    make_redis: Callable[..., RedisServer], make_route: MakeRoute
) -> None:
    """The server ends its link as its right to the channel goes; the next link refuses it."""
    server = make_redis()
    routed = await make_route(server.port)
    wire = await routed.wire()
    assert (await wire.ask("SUBSCRIBE", "news")).startswith(b"*3")
    with server.connect() as other:
        other.execute_command("ACL", "SETUSER", "default", "resetchannels")
    assert await wire.until_closed() == b""
    assert [one["reason"] for one in routed.named("redis_client_closed")] == ["restore_failed"]
