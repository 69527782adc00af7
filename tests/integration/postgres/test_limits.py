"""Hostile and clumsy peers, on either side: a clear error or a close, and nobody else notices."""

import contextlib
import os
import random
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.demo.certificates import TlsFiles
from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.session_send import QUEUE_BYTES_MAX
from tests import wire
from tests.fix_backstay import Backstay
from tests.integration.postgres.fake import (
    IDLE,
    ONE,
    WELCOME,
    FakeMany,
    FakePostgres,
    answer,
    log_in,
    read,
    read_startup,
)
from tests.integration.postgres.kit import Make, eventually
from tests.wire import PgWire, message, zero

pytestmark = pytest.mark.servers

PASSTHROUGH: Mapping[str, Any] = {"auth": {"method": "passthrough"}}
MIB = 1 << 20


def resident_bytes(pid: int | None = None) -> int:
    pages = int(Path(f"/proc/{pid or os.getpid()}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def ends(client: PgWire) -> list[bytes]:
    """What the proxy says until it closes, however it does."""
    try:
        return client.until_closed()
    except (wire.WireClosed, ConnectionError):
        return []


# -- memory


@pytest.mark.timeout(60)
def test_a_thousand_idle_clients(make_backstay: Callable[..., Backstay]) -> None:
    """Each with a link of its own, logged in, having run a query: at most 8 kB a piece."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    count = 1000
    with FakeMany() as server:
        route = {
            "upstream": f"postgresql://postgres@127.0.0.1:{server.port}/app?sslmode=disable",
            "auth": {"method": "trust"},
            "pool": {"size": 3000, "clients": 3000, "connect_parallel": 50},
        }
        proxy = make_backstay(postgres=[route], log={"level": "warning", "format": "json"})
        address = ("127.0.0.1", proxy.port())
        warm = [_used(address) for _ in range(200)]  # what every process needs once
        before = resident_bytes(proxy.pid)
        clients = [_used(address) for _ in range(count)]
        each = (resident_bytes(proxy.pid) - before) / count
        print(f"one idle client and its link: {each:.0f} bytes")
        for client in [*warm, *clients]:
            client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert each <= 8192, f"{each:.0f} bytes"


def _used(address: tuple[str, int]) -> PgWire:
    session = PgWire.session(address)
    session.query("select 1")
    return session


def test_a_client_that_writes_and_never_reads(proxied: Make, postgres: PostgresServer) -> None:
    """No deadlock, and no queue without end: it is no longer read from."""
    proxy = proxied(postgres)
    with proxy.wire() as other, proxy.wire() as session:
        session.sock.setblocking(False)
        before = resident_bytes()
        request = wire.query("select repeat('x', 10000)") * 100
        sent = 0
        stalled_s = time.monotonic() + 20
        quiet = 0
        while quiet < 10 and time.monotonic() < stalled_s:
            try:
                sent += session.sock.send(request)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.1)
        assert quiet == 10, "it was read from for ever"
        assert resident_bytes() - before < 150 * MIB
        (ours,) = [s for s in proxy.route.sessions if s.expected.inflight]
        assert len(ours.expected.inflight) < 20_000  # a chunk's worth above the bound
        assert other.value("select 1") == b"1"
        whole = sent // (len(request) // 100)
        assert whole > 100


def test_a_client_that_waits_and_never_stops_writing(
    proxied: Make, postgres: PostgresServer
) -> None:
    """What waits is bounded: beyond it the client is not read from, and all is answered later."""
    proxy = proxied(postgres)
    request = wire.query(f"select '{'x' * 100_000}'")
    with proxy.wire() as session:
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        proxy.until("link_lost")
        session.sock.settimeout(1.0)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 64 * MIB:
                sent += session.sock.send(request[sent % len(request) :])
        assert sent < 64 * MIB, "it was read from for ever"
        (ours,) = proxy.route.sessions
        waiting = sum(len(part) for entry in ours._queue for part in entry.parts)
        assert waiting <= QUEUE_BYTES_MAX + 2 * len(request) + 256 * 1024  # and one chunk
        whole = sent // len(request)
        assert whole > 8
        session.sock.settimeout(20.0)
        proxy.call(lambda: proxy.cutter.accept())
        for _ in range(whole):
            assert len(wire.rows(session.until_ready())[0][0] or b"") == 100_000


def test_a_client_that_waits_and_writes(proxied: Make, postgres: PostgresServer) -> None:
    """What comes while there is no link is kept, up to a bound, and served in order."""
    proxy = proxied(postgres)
    with proxy.wire() as session:
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        proxy.until("link_lost")
        for number in range(300):
            session.send(wire.query(f"select {number}, '{'x' * 1000}'"))
        proxy.settled(waiting=1)
        proxy.call(lambda: proxy.cutter.accept())
        for number in range(300):
            assert wire.rows(session.until_ready())[0][0] == str(number).encode()


# -- before the login


GREETINGS = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(4096),
    "short length": struct.pack("!II", 4, 196608),
    "long length": struct.pack("!II", 100_000, 196608),
    "negative length": struct.pack("!iI", -1, 196608),
    "not terminated": struct.pack("!II", 16, 196608) + b"user\0pos",
    "no user": wire.startup(database="app"),
    "huge": struct.pack("!II", 10_001, 196608) + b"x" * 20_000,
    "cancel too short": struct.pack("!III", 12, 80877102, 1),
    "cancel too long": struct.pack("!III", 300, 80877102, 1) + bytes(288),
    "two ssl requests": wire.SSL_REQUEST * 2,
}


@pytest.mark.parametrize("how", GREETINGS)
def test_greetings_of_somebody_else(proxied: Make, postgres: PostgresServer, how: str) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH, pool={"login_timeout_s": 2})
    with proxy.wire() as session:
        with PgWire.connect(proxy.address) as client:
            client.send(GREETINGS[how])
            said = ends(client)
            assert [raw[:1] for raw in said] in ([b"E"], [])
            if said:
                assert wire.error_fields(said[0])["S"] == "FATAL"
        assert session.value("select 1") == b"1"
        assert proxy.call(lambda: len(proxy.route.entries)) == 0


PASSWORDS = {
    "too long": b"p" + struct.pack("!I", 70_000) + b"x" * 70_000,
    "far too long": b"p" + struct.pack("!I", 0x7FFFFFFF) + b"x" * 1000,
    "not a password": wire.query("select 1"),
    "no end": message(b"p", b"secret"),
    "two ends": message(b"p", b"a\0b\0"),
    "empty": message(b"p", b"\0"),
    "short length": b"p\0\0\0\2",
}


@pytest.mark.parametrize("how", PASSWORDS)
@pytest.mark.parametrize("method", ["passthrough", "scram-sha-256"])
def test_passwords_that_are_none(
    proxied: Make, postgres: PostgresServer, how: str, method: str
) -> None:
    auth = {"method": method} | ({"users": {"x": "y"}} if method != "passthrough" else {})
    proxy = proxied(postgres, setting={"auth": auth})
    with PgWire.connect(proxy.address) as client:
        client.send(wire.startup(user="app_scram", database="app"))
        client.read_message()
        client.send(PASSWORDS[how])
        (said,) = ends(client)
        assert wire.error_fields(said)["C"] in ("08P01", "28P01")
    assert proxy.call(lambda: len(proxy.route.entries)) == 0


def test_random_bytes_at_every_stage(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, setting=PASSTHROUGH, pool={"login_timeout_s": 1, "size": 50})
    rng = random.Random(7)
    with proxy.wire() as session:
        for turn in range(120):
            with PgWire.connect(proxy.address) as client:
                if turn % 3:
                    client.send(wire.startup(user="postgres", database="app"))
                    client.read_message()
                if turn % 3 == 2:
                    client.send(message(b"p", b"any\0"))
                    client.until(b"Z")
                client.send(_nonsense(rng))
                client.sock.shutdown(socket.SHUT_WR)
                ends(client)
            assert session.value("select 1") == b"1"
        eventually(lambda: proxy.call(lambda: len(proxy.route.sessions)) == 1)
        assert proxy.call(lambda: len(proxy.route.entries)) == 0


def _nonsense(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return rng.randbytes(rng.randrange(1, 3000))
    kinds = b"QPBDECSHFdcfXpZ"
    return b"".join(
        bytes([rng.choice(kinds)])
        + struct.pack("!I", rng.choice([4, 5, 8, 30, 1 << 20, 0, 3]))
        + rng.randbytes(rng.randrange(0, 30))
        for _ in range(rng.randrange(1, 20))
    )


# -- after the login


VIOLATIONS = {
    "unknown type": b"\xff\0\0\0\4",
    "short length": b"Q\0\0\0\3",
    "negative length": b"Q\xff\xff\xff\xff",
    "long sync": b"S" + struct.pack("!I", 100 * MIB),
}


@pytest.mark.parametrize("how", VIOLATIONS)
def test_a_violation_ends_one_session(proxied: Make, postgres: PostgresServer, how: str) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as other, proxy.wire() as session:
        session.send(wire.query("select 1") + VIOLATIONS[how])
        said = ends(session)
        assert wire.rows(said) == [(b"1",)]  # what was right is answered first
        fields = wire.error_fields(said[-1])
        assert (fields["S"], fields["C"]) == ("FATAL", "08P01")
        assert other.value("select 1") == b"1"


@pytest.mark.parametrize("when", ["idle", "in a query", "in a transaction", "in a batch"])
def test_a_client_that_closes_its_half(proxied: Make, postgres: PostgresServer, when: str) -> None:
    proxy = proxied(postgres, pool={"size": 1})
    sent = {
        "idle": b"",
        "in a query": wire.query("select pg_sleep(0.2)"),
        "in a transaction": wire.query("begin"),
        "in a batch": wire.run("select 1"),
    }
    with proxy.wire() as session:
        session.send(sent[when])
        session.sock.shutdown(socket.SHUT_WR)
        ends(session)
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"
        assert session.query("select 1")[-1] == IDLE


HALVES: dict[str, tuple[bytes, str]] = {
    "a query": (wire.query("select 1 from pg_sleep(0.2)"), "TDCZ"),
    "several": (wire.query("select 1") + wire.query("select 2 from pg_sleep(0.2)"), "TDCZTDCZ"),
    "a batch": (wire.run("select 1 from pg_sleep(0.2)") + wire.SYNC, "12TDCZ"),
    "half a unit behind": (wire.query("select pg_sleep(0.2)") + wire.run("select 3"), "TDCZ"),
    "a long answer": (wire.query("select repeat('x', 3000000)"), "TDCZ"),
}


@pytest.mark.parametrize(
    ("what", "tls"), [*((name, False) for name in HALVES), ("a query", True), ("a batch", True)]
)
def test_a_client_that_closes_its_half_is_answered(
    proxied: Make, postgres: PostgresServer, tls_files: TlsFiles, what: str, tls: bool
) -> None:
    """As by the server itself: `printf … | nc` waits for the answer."""
    paths = {"cert": str(tls_files.certificate), "key": str(tls_files.key)}
    towards = {"mode": "allow", **paths}
    proxy = proxied(postgres, pool={"size": 1}, setting={"tls": towards} if tls else {})
    sent, shape = HALVES[what]
    session = PgWire.connect(proxy.address)
    with session:
        if tls:
            assert session.request_tls(tls_files.client_context()) == b"S"
        session.login("any", user="postgres", database="app")
        session.send(sent)
        session.end_sending()
        assert wire.kinds(ends(session)) == shape
    proxy.settled(attached=0, idle=1)
    with proxy.wire() as other:  # and the link is as good as before
        assert other.value("select 1") == b"1"


def test_everything_at_once_and_the_half_closed(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres, pool={"warm": 0})
    with PgWire.connect(proxy.address) as session:
        session.send(wire.startup(user="postgres", database="app") + wire.query("select 5"))
        session.sock.shutdown(socket.SHUT_WR)
        assert wire.rows(ends(session)) == [(b"5",)]


def test_who_has_closed_its_half_does_not_wait_for_an_outage_to_end(
    proxied: Make, postgres: PostgresServer
) -> None:
    """It may be gone: its write must not run when the server is back, long after."""
    postgres.sql("drop table if exists halves; create table halves (id int)")
    proxy = proxied(postgres, pool={"warm": 0})
    with proxy.wire() as session:
        proxy.call(lambda: proxy.cutter.refuse())
        proxy.cut()
        proxy.until("link_lost")
        session.send(wire.query("insert into halves values (1)"))
        session.sock.shutdown(socket.SHUT_WR)
        ends(session)
    proxy.call(lambda: proxy.cutter.accept())
    with proxy.wire() as other:
        assert other.value("select count(*) from halves") == b"0"


def test_a_message_as_long_as_the_server_takes(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with proxy.wire() as session:
        before = resident_bytes()
        text = "x" * (40 * MIB)
        assert session.value(f"select length('{text}')") == str(40 * MIB).encode()
        assert session.value("select 1") == b"1"
        del text
        assert resident_bytes() - before < 300 * MIB  # the test's own copies are in it


# -- an upstream that talks nonsense


def serving(say: Callable[[bytes, bytes], bytes]) -> Callable[[FakePostgres, socket.socket], None]:
    """A server that is good at the login, and says this to everything else."""

    def script(server: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        while True:
            kind, body = read(sock)
            if kind == b"Q" and b"please" in body and server.connections == 1:
                sock.sendall(say(kind, body))
            else:
                sock.sendall(answer(kind, body))

    return script


ANSWERS = {
    "garbage": b"\xff" * 100,
    "length of zero": b"T\0\0\0\0",
    "two gigabytes of a key": b"K\x7f\xff\xff\xff",
    "a login": message(b"R", struct.pack("!I", 0)),
    "a bad status": message(b"Z", b"?"),
    "a broken parameter": message(b"S", b"no end") + IDLE,
    "one ready too many": ONE + IDLE + IDLE,
    "half an answer": ONE[:20],
}


@pytest.mark.parametrize("how", ANSWERS)
def test_nonsense_in_an_answer_costs_the_link(proxied: Make, how: str) -> None:
    """The read is run again on a good link."""
    with FakePostgres(serving(lambda *_: ANSWERS[how])) as server:
        proxy = proxied(setting={"upstream": server.url}, pool={"warm": 0})
        with proxy.wire() as session:
            session.send(wire.query("select 'please'"))
            if how == "half an answer":
                time.sleep(0.1)
                server.close_all()
            assert wire.rows(session.until_ready()) == [(b"1",)]
            assert session.value("select 1") == b"1"
        assert server.connections == 2
        assert proxy.named("link_lost")[0]["reason"] in (
            "upstream_protocol",
            "upstream_eof",
            "upstream_reset",
        )


NEWS = {
    "garbage": b"\xff" * 100,
    "a ready": IDLE,
    "a broken parameter": message(b"S", b"no end"),
    "a fatal": message(b"E", b"SFATAL\0VFATAL\0C57P01\0Mgood bye\0\0"),
    "a fatal without fields": message(b"E", b"SFATAL\0"),
    "9 MiB of notices": message(b"N", b"SNOTICE\0C00000\0M" + b"x" * (9 * MIB) + b"\0\0"),
}


@pytest.mark.parametrize("how", NEWS)
@pytest.mark.parametrize("attached", [True, False], ids=["attached", "in the pool"])
def test_news_on_an_idle_link(proxied: Make, how: str, attached: bool) -> None:
    socks: list[socket.socket] = []

    def script(server: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        socks.append(sock)
        while True:
            sock.sendall(answer(*read(sock)))

    with FakePostgres(script) as server:
        proxy = proxied(setting={"upstream": server.url}, pool={"warm": 0})
        with proxy.wire() as session:
            if not attached:
                session.close()
                proxy.settled(idle=1)
            eventually(lambda: bool(socks))  # the fake's thread may be behind the proxy
            sending = threading.Thread(target=_send, args=(socks[0], NEWS[how]))
            sending.start()
            if "notices" in how and attached:
                assert session.read_message()[:1] == b"N"
                sending.join()
            else:
                eventually(lambda: proxy.counts()["links"] == 0)
            if attached:
                assert session.value("select 1") == b"1"
        with proxy.wire() as other:
            assert other.value("select 1") == b"1"


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the proxy may have had enough before the end
        sock.sendall(data)


LOGINS = {
    "garbage": b"\xff" * 100,
    "a web server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a question nobody knows": message(b"R", struct.pack("!I", 99)),
    "a parameter too early": message(b"S", b"a\0b\0"),
    "too long a message": b"R\x7f\xff\xff\xff" + b"x" * 100,
    "no end": WELCOME[:-6] + message(b"S", b"a\0b\0") * 150_000,
    "in a transaction": WELCOME[:-1] + b"T",
    "nothing": b"",
}


@pytest.mark.parametrize("how", LOGINS)
def test_nonsense_in_a_login(proxied: Make, how: str) -> None:
    def script(server: FakePostgres, sock: socket.socket) -> None:
        read_startup(sock)
        sock.sendall(LOGINS[how])

    with FakePostgres(script) as server:
        proxy = proxied(setting={"upstream": server.url}, resilience={"hold_s": 0.3})
        with pytest.raises(wire.LoginRefused) as refused:
            proxy.wire()
        assert refused.value.args[0]["C"] == "57P03"
        assert proxy.named("upstream_down")[0]["reason"] in ("upstream_protocol", "upstream_eof")


@pytest.mark.parametrize(
    "said",
    [
        ONE,
        message(b"D", struct.pack("!H", 1)) + IDLE,
        message(b"E", b"SERROR\0C42601\0Mno such syntax\0\0") + IDLE,
        IDLE,
    ],
    ids=["another row", "a broken row", "an error", "nothing"],
)
def test_an_identity_nobody_expects(proxied: Make, said: bytes) -> None:
    """Whatever answers is taken for a pooler: nothing is assumed about it."""

    def script(server: FakePostgres, sock: socket.socket) -> None:
        read_startup(sock)
        sock.sendall(WELCOME)
        read(sock)
        sock.sendall(said)
        while True:
            sock.sendall(answer(*read(sock)))

    with FakePostgres(script) as server:
        proxy = proxied(setting={"upstream": server.url})
        with proxy.wire() as session:
            assert session.value("select 1") == b"1"
        assert len(proxy.named("upstream_is_pooler")) == 1


@pytest.mark.parametrize("connects_per_s", [50, 2])
def test_a_fingerprint_nobody_expects(proxied: Make, connects_per_s: int) -> None:
    """A restoration that cannot be checked is made again on another link, within hold_s."""

    def script(server: FakePostgres, sock: socket.socket) -> None:
        log_in(sock)
        while True:
            kind, body = read(sock)
            if kind == b"Q":
                tag = message(b"C", zero("SET")) + IDLE
                sock.sendall(tag if b"set " in body else answer(kind, body))
            elif kind == b"S":
                sock.sendall(message(b"D", struct.pack("!Hii", 2, -1, -1)) + IDLE)

    with FakePostgres(script) as server:
        pool = {"connects_per_s": connects_per_s}  # 2: the time is up before the tries are
        proxy = proxied(setting={"upstream": server.url}, resilience={"hold_s": 1}, pool=pool)
        with proxy.wire() as session:
            session.query("set work_mem = '5MB'")
            server.close_all()
            proxy.until("link_lost")
            session.send(wire.query("select 1"))
            said = session.until_closed()
        assert wire.sqlstate(said) == "08006"
