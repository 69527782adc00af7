"""Logins, protocol versions, session state, TLS, Unix sockets: reference/redis.md, section 4."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy.demo.certificates import TlsFiles
from proxy.demo.cutter import Cutter, Target
from proxy.demo.servers import RedisServer
from proxy.net.dial import Address, TlsOptions
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.login import Credential
from proxy.redis.runtime import control
from proxy.redis.runtime.options import AuthMethod
from tests.integration.redis.conftest import MakeRoute
from tests.integration.redis.wire import AsyncWire, Closed
from tests.wire_redis import command

pytestmark = pytest.mark.servers
MakeRedis = Callable[..., RedisServer]

USERS = {"ada": ">ada-pw ~* &* +@all", "bob": ">bob-pw >bob-2 ~bob:* &* +@all"}
NOAUTH = b"-NOAUTH Authentication required.\r\n"
WRONGPASS = b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"


def who(reply: bytes) -> bytes:
    return reply.split(b"\r\n")[1]


@pytest.fixture
def guarded(make_redis: MakeRedis) -> RedisServer:
    """A server that wants a password: of the default user, or of USERS."""
    server = make_redis(users=USERS)
    with server.connect() as client:
        client.config_set("requirepass", "default-pw")
    return server


@pytest.mark.parametrize("cache", [None, CacheOptions()], ids=["uncached", "cached"])
async def test_passthrough(
    guarded: RedisServer, make_route: MakeRoute, cache: CacheOptions | None
) -> None:
    routed = await make_route(guarded.port, cache=cache)
    direct = await AsyncWire.connect("127.0.0.1", guarded.port)
    wire = await routed.wire()
    for words in (
        ("GET", "k"), ("HELLO", "3"), ("SELECT", "1"), ("AUTH", "wrong"), ("AUTH", "ada", "wrong"),
        ("HELLO", "3", "AUTH", "ada", "wrong"), ("PING",), ("MULTI",), ("SUBSCRIBE", "c"),
        ("AUTH", "ada", "ada-pw"), ("ACL", "WHOAMI"), ("SET", "k", "v"), ("GET", "k"),
        ("HELLO", "3", "AUTH", "bob", "bob-pw", "SETNAME", "app"), ("ACL", "WHOAMI"),
        ("GET", "k"), ("SET", "bob:k", "v"), ("CLIENT", "GETNAME"),
        ("AUTH", "default-pw"), ("ACL", "WHOAMI"), ("GET", "k"), ("AUTH", "bob", "bob-2"),
        ("GET", "k"), ("RESET",), ("GET", "k"), ("PING",),
    ):  # fmt: skip
        expected, got = await direct.ask(*words), await wire.ask(*words)
        same = expected[:1] == got[:1] if expected.startswith((b"%", b"*1")) else expected == got
        assert same, (words, expected, got)
    await direct.close()


async def test_unauthenticated_limits(guarded: RedisServer, make_route: MakeRoute) -> None:
    """Redis takes at most 10 arguments of 16 KiB from a stranger; the shared link must survive."""
    routed = await make_route(guarded.port)
    stranger, friend = await routed.wire(), await routed.wire()
    assert await stranger.ask("PING") == NOAUTH
    assert await friend.ask("PING") == NOAUTH
    stranger.send(command(*(["DEL"] + ["k"] * 10)))
    end = await stranger.until_closed()
    assert end == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    big = await routed.wire()
    assert await big.ask("PING") == NOAUTH
    big.send(command("GET", "k" * 16385))
    end = await big.until_closed()
    assert end == b"-ERR Protocol error: unauthenticated bulk length\r\n"
    assert await friend.ask("AUTH", "ada", "ada-pw") == b"+OK\r\n"
    assert (await friend.ask(*(["DEL"] + ["k"] * 10))) == b":0\r\n"


async def test_passwords_of_our_own(guarded: RedisServer, make_route: MakeRoute) -> None:
    routed = await make_route(
        guarded.port,
        auth=AuthMethod.PASSWORD,
        credential=Credential(None, b"default-pw"),
        users={b"default": b"default-pw", b"ada": b"ada-pw"},
    )
    wire = await routed.wire()
    assert await wire.ask("GET", "k") == NOAUTH
    assert (await wire.ask("HELLO", 3)).startswith(b"-NOAUTH HELLO must be called")
    assert await wire.ask("AUTH", "wrong") == WRONGPASS
    assert await wire.ask("AUTH", "eve", "x") == WRONGPASS
    assert await wire.ask("HELLO", 3, "AUTH", "ada", "nope") == WRONGPASS
    assert (await wire.ask("HELLO", 3, "AUTH", "ada", "ada-pw")).startswith(b"%")
    assert who(await wire.ask("ACL", "WHOAMI")) == b"ada"
    assert await wire.ask("AUTH", "default-pw") == b"+OK\r\n"
    assert who(await wire.ask("ACL", "WHOAMI")) == b"default"
    assert await wire.ask("MULTI") == b"+OK\r\n"
    assert (await wire.ask("AUTH", "ada", "ada-pw")).startswith(b"-ERR AUTH as another user")
    assert await wire.ask("DISCARD") == b"+OK\r\n"
    assert await wire.ask("RESET") == b"+RESET\r\n"
    assert await wire.ask("GET", "k") == NOAUTH
    assert routed.counters.logins_refused == 3


async def test_trust(guarded: RedisServer, make_route: MakeRoute) -> None:
    credential = Credential(b"ada", b"ada-pw")
    routed = await make_route(guarded.port, auth=AuthMethod.TRUST, credential=credential)
    wire = await routed.wire(3)
    assert who(await wire.ask("ACL", "WHOAMI")) == b"ada"
    assert await wire.ask("AUTH", "whatever") == b"+OK\r\n"
    assert (await wire.ask("HELLO", 2, "AUTH", "x", "y")).startswith(b"*")
    assert who(await wire.ask("ACL", "WHOAMI")) == b"ada"
    assert await wire.ask("RESET") == b"+RESET\r\n"
    assert who(await wire.ask("ACL", "WHOAMI")) == b"ada"


async def test_wrong_credentials_of_the_route_are_told(
    guarded: RedisServer, make_route: MakeRoute
) -> None:
    credential = Credential(b"ada", b"changed")
    routed = await make_route(guarded.port, auth=AuthMethod.TRUST, credential=credential)
    wire = await routed.wire()
    reply = await wire.ask("GET", "k")
    assert reply.startswith(b"-UPSTREAMDOWN not executed: the upstream refused the login")
    with pytest.raises(Closed):
        await wire.read()
    reports = repr(routed.reports)
    assert "changed" not in reports
    assert "redis_login_refused" in reports


async def test_a_password_changed_meanwhile(guarded: RedisServer, make_route: MakeRoute) -> None:
    routed = await make_route(guarded.port)
    old = await routed.wire()
    assert await old.ask("AUTH", "ada", "ada-pw") == b"+OK\r\n"
    with guarded.connect(password="default-pw") as admin:
        admin.execute_command("ACL", "SETUSER", "ada", "<ada-pw", ">new-pw")
    new = await routed.wire()
    assert await new.ask("AUTH", "ada", "ada-pw") == WRONGPASS
    assert await new.ask("AUTH", "ada", "new-pw") == b"+OK\r\n"
    assert who(await new.ask("ACL", "WHOAMI")) == b"ada"


async def test_reply_modes(make_redis: MakeRedis, make_route: MakeRoute) -> None:
    server = make_redis()
    routed = await make_route(server.port, cache=CacheOptions())
    wire, other = await routed.wire(), await routed.wire()
    wire.send(
        command("CLIENT", "REPLY", "SKIP") + command("INCR", "n") + command("INCR", "n")
        + command("CLIENT", "REPLY", "OFF") + command("INCR", "n") + command("GET", "n")
        + command("SELECT", 3) + command("CLIENT", "SETNAME", "x") + command("SET", "in3", 1)
        + command("CLIENT", "REPLY", "ON") + command("GET", "in3") + command("CLIENT", "GETNAME")
    )  # fmt: skip
    replies = await wire.replies(4)
    assert replies == [b":2\r\n", b"+OK\r\n", b"$1\r\n1\r\n", b"$1\r\nx\r\n"]
    assert await other.ask("GET", "n") == b"$1\r\n3\r\n"
    wire.send(
        command("CLIENT", "REPLY", "OFF") + command("MULTI") + command("INCR", "n")
        + command("EXEC") + command("BLPOP", "none", "0.01") + command("CLIENT", "REPLY", "ON")
        + command("GET", "n")
    )  # fmt: skip
    assert await wire.replies(2) == [b"+OK\r\n", b"$1\r\n1\r\n"]


async def test_ids_lead_to_the_right_client(make_redis: MakeRedis, make_route: MakeRoute) -> None:
    server = make_redis()
    routed = await make_route(server.port)
    sleeper, waker = await routed.wire(), await routed.wire()
    number = int((await sleeper.ask("CLIENT", "ID"))[1:-2])
    assert number > 1 << 40
    assert int((await sleeper.ask("CLIENT", "ID"))[1:-2]) == number
    assert await waker.ask("CLIENT", "UNBLOCK", number) == b":0\r\n"
    sleeper.send(command("BLPOP", "q", 0))
    while await waker.ask("CLIENT", "UNBLOCK", number) == b":0\r\n":
        pass
    assert await sleeper.read() == b"*-1\r\n"
    assert await sleeper.ask("SUBSCRIBE", "c") == b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"


async def test_wait_covers_writes_of_shared_links(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    primary, replica = make_redis(), make_redis()
    with replica.connect() as client:
        client.replicaof("127.0.0.1", primary.port)
    routed = await make_route(primary.port)
    wire = await routed.wire()
    with primary.connect() as client:
        while client.wait(1, 100) < 1:
            pass
    for number in range(20):
        assert await wire.ask("SET", "k", number) == b"+OK\r\n"
        assert await wire.ask("WAIT", 1, 5000) == b":1\r\n"
        with replica.connect() as client:
            assert client.get("k") == b"%d" % number


async def test_a_parked_link_that_answers_pings_is_closed_all_the_same(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    """Each ping began its idle time anew: links of users long gone stayed for ever."""
    routed = await make_route(make_redis().port, ping_s=0.1, link_idle_s=0.6)
    wire = await routed.wire()
    wire.send(command("MULTI") + command("EXEC"))
    assert await wire.replies(2) == [b"+OK\r\n", b"*0\r\n"]
    async with asyncio.timeout(5):
        while routed.route.pool.total:
            await asyncio.sleep(0.02)


async def test_half_a_command_is_no_reason_to_stay(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    """Its rest never comes once the client has closed its half: the connection stayed for ever."""
    routed = await make_route(make_redis().port)
    wire = await routed.wire()
    (client,) = routed.route.clients.values()
    for part in (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\n", b"abc", b"def"):
        before = len(client.buf) + client._chunk_bytes
        wire.send(part)
        while len(client.buf) + client._chunk_bytes == before:
            await asyncio.sleep(0)
    wire.writer.write_eof()
    assert await wire.until_closed() == b""


async def test_quit_reset_and_half_close(make_redis: MakeRedis, make_route: MakeRoute) -> None:
    server = make_redis()
    routed = await make_route(server.port)
    wire = await routed.wire()
    wire.send(command("SET", "k", "v") + command("GET", "k") + command("QUIT") + command("PING"))
    assert await wire.until_closed() == b"+OK\r\n$1\r\nv\r\n+OK\r\n"
    wire = await routed.wire(3)
    wire.send(command("SUBSCRIBE", "c") + command("RESET") + command("GET", "k"))
    assert (await wire.read()).startswith(b">3\r\n")
    assert await wire.replies(2) == [b"+RESET\r\n", b"$1\r\nv\r\n"]
    wire.send(command("MULTI") + command("GET", "k") + command("QUIT"))
    assert await wire.until_closed() == b"+OK\r\n+QUEUED\r\n+OK\r\n"
    wire = await routed.wire()
    wire.send(command("GET", "k"))
    wire.writer.write_eof()
    assert await wire.until_closed() == b"$1\r\nv\r\n"


async def test_replication_and_http_are_refused(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    server = make_redis()
    routed = await make_route(server.port)
    wire = await routed.wire()
    for name in ("SYNC", "PSYNC", "REPLCONF"):
        assert (await wire.ask(name, "x")).startswith(b"-ERR replication commands")
    wire.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert await wire.until_closed() == b""


async def test_tls_on_both_sides(
    make_redis: MakeRedis,
    make_route: MakeRoute,
    make_cutter: Callable[..., Awaitable[Cutter]],
    tls_files: TlsFiles,
) -> None:
    server = make_redis()
    terminator = await make_cutter(
        Target(address=("127.0.0.1", server.port), client_tls=tls_files.server_context())
    )
    routed = await make_route(
        terminator.port,
        tls=TlsOptions(tls_files.client_context(), "localhost"),
        client_tls=tls_files.server_context(),
        cache=CacheOptions(),
    )
    wire = await routed.wire(3, tls_files.client_context())
    value = "x" * 300_000
    for _ in range(3):
        assert await wire.ask("SET", "k", value) == b"+OK\r\n"
        assert await wire.ask("GET", "k") == b"$300000\r\n" + value.encode() + b"\r\n"
        assert await wire.ask("GET", "small") == b"_\r\n"


async def test_unix_sockets_on_both_sides(
    make_redis: MakeRedis, make_route: MakeRoute, tmp_path: Path
) -> None:
    server = make_redis()
    path = str(tmp_path / "backstay.sock")
    await make_route(0, path, address=Address(path=str(server.socket_path)))
    wire = await AsyncWire.connect_unix(path)
    assert await wire.ask("SET", "k", "v") == b"+OK\r\n"
    assert await wire.ask("GET", "k") == b"$1\r\nv\r\n"
    await wire.close()


async def test_too_many_clients(make_redis: MakeRedis, make_route: MakeRoute) -> None:
    server = make_redis()
    routed = await make_route(server.port, limits={"clients_max": 2})
    first, second = await routed.wire(), await routed.wire()
    assert await first.ask("PING") == await second.ask("PING") == b"+PONG\r\n"
    third = await routed.wire()
    assert await third.until_closed() == b"-ERR max number of clients reached\r\n"
    assert await first.ask("PING") == b"+PONG\r\n"
    await second.close()
    fourth = await routed.wire()
    assert await fourth.ask("PING") == b"+PONG\r\n"


async def test_who_selects_under_a_pause_leaves_no_link_of_nobody(
    make_redis: MakeRedis, make_route: MakeRoute
) -> None:
    """It dialled for a partition that had ended meanwhile, as nobody was in it yet: that link
    stayed open until the route stopped (simulation, seed 5170)."""
    routed = await make_route(make_redis().port, link_idle_s=0.2)
    route, wire = routed.route, await routed.wire()
    assert await wire.ask("GET", "k") == b"$-1\r\n"
    assert await control.pause(route) is True
    wire.send(command("SELECT", "1"))
    assert await wire.is_quiet(0.3)  # six sweeps, in which partitions without clients end
    control.resume(route)
    assert await wire.read() == b"+OK\r\n"
    assert await wire.ask("GET", "k") == b"$-1\r\n"
    await wire.close()
    async with asyncio.timeout(10):
        while route.partitions:
            await asyncio.sleep(0.01)
    assert [link.number for link in route.links] == []
