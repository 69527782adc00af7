"""Dialling: addresses in order, every failure under its name, nothing read too early."""

import asyncio
import errno
import socket
import ssl
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy.core.errors import UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.net import dial
from proxy.net.dial import Address, DialOptions, TlsOptions, adopt, connect, exchange
from proxy.net.keepalive import Keepalive
from proxy.net.tls import PumpOptions, TlsPump
from tests.unit.net.wires import (
    PEERS,
    Recorder,
    certificates,
    over_loop,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(20)]


def listening(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    PEERS.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(5)
    return sock


def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


class FakeResolver:
    """Answers for any name; remembers who asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *hosts: str, delay_s: float = 0.0) -> None:
        self.asked = 0

        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            self.asked += 1
            await asyncio.sleep(delay_s)
            return [
                (socket.AF_INET6 if ":" in ip else socket.AF_INET, 1, 6, "", (ip, port))
                for ip in hosts
            ]

        class Loop:
            """The running loop with another resolver."""

            def __getattr__(self, name: str) -> Any:
                return getattr(asyncio.get_running_loop(), name)

        loop = Loop()
        loop.getaddrinfo = getaddrinfo  # type: ignore[attr-defined]
        proxy = type("FakeAsyncio", (), {"__getattr__": lambda _, name: getattr(asyncio, name)})()
        proxy.get_running_loop = lambda: loop
        monkeypatch.setattr(dial, "asyncio", proxy)


# ---- connect -------------------------------------------------------------------------------------


def test_address_as_text() -> None:
    assert str(Address("db.test", 5432)) == "db.test:5432"
    assert str(Address("::1", 5432)) == "[::1]:5432"
    assert str(Address(path="/run/pg/.s.PGSQL.5432")) == "/run/pg/.s.PGSQL.5432"
    for bad in ({}, {"host": "x"}, {"host": "x", "port": 1, "path": "/y"}):
        with pytest.raises(AssertionError):
            Address(**bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
async def test_connects(host: str) -> None:
    server = listening(host if ":" in host else "127.0.0.1")
    with await connect(Address(host, server.getsockname()[1]), DialOptions()) as sock:
        assert sock.getpeername()[:2] == server.getsockname()[:2]
        assert not sock.getblocking()


async def test_connects_to_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(1)
        with await connect(Address(path=path), DialOptions(keepalive=Keepalive())) as sock:
            assert sock.getpeername() == path


async def test_options_are_set() -> None:
    server = listening()
    address = Address("127.0.0.1", server.getsockname()[1])
    options = DialOptions(keepalive=Keepalive(idle_s=15, interval_s=5, count=3))
    with await connect(address, options) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if sys.platform == "linux":
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 15
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 29_500


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (Address("127.0.0.1", 1), "cannot connect to 127.0.0.1:1: Connection refused"),
        (Address(path="/no/such/socket"), "/no/such/socket: No such file or directory"),
        (Address("no-such-host.invalid", 5), "no-such-host.invalid: "),
    ],
)
async def test_unreachable(address: Address, text: str) -> None:
    with pytest.raises(UpstreamUnavailable) as caught:
        await connect(address, DialOptions())
    assert text in str(caught.value)
    assert caught.value.reason is Reason.UPSTREAM_UNREACHABLE


@pytest.fixture
def black_hole() -> Any:
    """A port that never answers: its backlog is full, so SYNs are dropped (Linux)."""
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(0)
    filler = [socket.socket() for _ in range(3)]
    for sock in filler:
        sock.setblocking(False)
        sock.connect_ex(server.getsockname())
    yield server.getsockname()[1]
    for sock in [*filler, server]:
        sock.close()


async def test_silence_has_its_own_reason(black_hole: int) -> None:
    with pytest.raises(UpstreamUnavailable, match=r"did not answer within 0\.05 s") as caught:
        await connect(Address("127.0.0.1", black_hole), DialOptions(connect_timeout_s=0.05))
    assert caught.value.reason is Reason.UPSTREAM_SILENT


async def test_slow_resolver_counts_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeResolver(monkeypatch, "127.0.0.1", delay_s=30)
    with pytest.raises(UpstreamUnavailable) as caught:
        await connect(Address("db.test", 5), DialOptions(connect_timeout_s=0.05))
    assert caught.value.reason is Reason.UPSTREAM_SILENT


async def test_name_is_resolved_at_each_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    server = listening()
    resolver = FakeResolver(monkeypatch, "127.0.0.1")
    for _ in range(2):
        (await connect(Address("db.test", server.getsockname()[1]), DialOptions())).close()
    assert resolver.asked == 2
    (await connect(Address("127.0.0.1", server.getsockname()[1]), DialOptions())).close()
    assert resolver.asked == 2, "a literal needs no resolver"


async def test_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeResolver(monkeypatch)
    with pytest.raises(UpstreamUnavailable, match=r"db\.test has no address"):
        await connect(Address("db.test", 5), DialOptions())


async def test_refused_address_is_skipped_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    server = listening("127.0.0.3")
    FakeResolver(monkeypatch, "127.0.0.1", "127.0.0.2", "127.0.0.3")
    started_s = asyncio.get_running_loop().time()
    with await connect(Address("db.test", server.getsockname()[1]), DialOptions()) as sock:
        assert sock.getpeername()[0] == "127.0.0.3"
    assert asyncio.get_running_loop().time() - started_s < 0.2


async def test_silent_address_is_overtaken(
    monkeypatch: pytest.MonkeyPatch, black_hole: int
) -> None:
    monkeypatch.setattr(dial, "_STAGGER_S", 0.03)
    listening("127.0.0.9", black_hole)
    FakeResolver(monkeypatch, "127.0.0.1", "127.0.0.9")
    with await connect(Address("db.test", black_hole), DialOptions()) as sock:
        assert sock.getpeername()[0] == "127.0.0.9"


async def test_all_refused_says_so_once(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeResolver(monkeypatch, "127.0.0.1", "127.0.0.2", "::1")
    port = closed_port()
    with pytest.raises(UpstreamUnavailable) as caught:
        await connect(Address("db.test", port), DialOptions())
    assert str(caught.value) == f"cannot connect to db.test:{port}: Connection refused"


async def test_addresses_are_bounded_and_families_alternate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[str] = []

    async def attempt(target: Any, options: Any) -> socket.socket:
        tried.append(target.sockaddr[0])
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    monkeypatch.setattr(dial, "_attempt", attempt)
    six = [f"fd00::{n}" for n in range(1, 8)]
    four = [f"10.0.0.{n}" for n in range(1, 4)]
    FakeResolver(monkeypatch, *six, *four)
    with pytest.raises(UpstreamUnavailable):
        await connect(Address("db.test", 5), DialOptions())
    expected = [six[0], four[0], six[1], four[1], six[2], four[2], six[3], six[4]]
    assert tried == expected


async def test_second_winner_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two attempts that connect in one turn: one socket is returned, the other closed."""
    made: list[socket.socket] = []
    both = asyncio.Event()

    async def attempt(target: Any, options: Any) -> socket.socket:
        made.append(socket.socket())
        if len(made) == 2:
            both.set()
        await both.wait()
        return made[int(target.sockaddr[0][-1]) - 1]

    monkeypatch.setattr(dial, "_STAGGER_S", 0.01)
    monkeypatch.setattr(dial, "_attempt", attempt)
    FakeResolver(monkeypatch, "127.0.0.1", "127.0.0.2")
    winner = await connect(Address("db.test", 5), DialOptions())
    assert sorted(sock.fileno() == -1 for sock in made) == [False, True]
    winner.close()


async def test_cancelled_dial_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, black_hole: int
) -> None:
    made: list[socket.socket] = []
    real = socket.socket

    def counted(*arguments: Any) -> socket.socket:
        made.append(real(*arguments))
        return made[-1]

    monkeypatch.setattr(dial, "_STAGGER_S", 0.01)
    FakeResolver(monkeypatch, "127.0.0.1", "127.0.0.1", "127.0.0.1")
    module = type("FakeSocket", (), {"__getattr__": lambda _, name: getattr(socket, name)})()
    module.socket = counted
    monkeypatch.setattr(dial, "socket", module)
    task = asyncio.ensure_future(connect(Address("db.test", black_hole), DialOptions()))
    while len(made) < 3:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [sock.fileno() for sock in made] == [-1, -1, -1]
    assert len(asyncio.all_tasks()) == 1


async def test_bug_in_an_attempt_is_not_taken_for_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def attempt(target: Any, options: Any) -> socket.socket:
        raise ZeroDivisionError

    monkeypatch.setattr(dial, "_attempt", attempt)
    FakeResolver(monkeypatch, "127.0.0.1", "127.0.0.2")
    with pytest.raises(ZeroDivisionError):
        await connect(Address("db.test", 5), DialOptions())


# ---- exchange ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
async def test_exchange_reads_no_more_than_asked(pair: Any) -> None:
    ours, peer = pair()
    peer.sendall(b"Sbytes of a man in the middle")
    assert await exchange(ours, b"SSLRequest", 1) == b"S"
    assert peer.recv(100) == b"SSLRequest"
    assert ours.recv(100) == b"bytes of a man in the middle"
    ours.close()


async def test_exchange_puts_pieces_together() -> None:
    ours, peer = tcp_pair()
    task = asyncio.ensure_future(exchange(ours, b"?", 4))
    for piece in (b"a", b"bc", b"de"):
        await turns()
        peer.sendall(piece)
        await asyncio.sleep(0.01)
    assert await task == b"abcd"
    ours.close()


async def test_exchange_with_a_peer_that_leaves() -> None:
    ours, peer = tcp_pair()
    peer.close()
    with pytest.raises(UpstreamUnavailable, match="before it answered") as caught:
        await exchange(ours, b"?", 1)
    assert caught.value.reason is Reason.UPSTREAM_EOF
    ours.close()


async def test_exchange_with_a_peer_that_resets() -> None:
    ours, peer = tcp_pair()
    reset(peer)
    with pytest.raises(UpstreamUnavailable, match="was lost: ") as caught:
        await exchange(ours, b"?", 1)
    assert caught.value.reason is Reason.UPSTREAM_RESET
    ours.close()


# ---- adopt ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
async def test_adopt_plain(pair: Any) -> None:
    ours, peer = pair()
    peer.sendall(b"S greeting")
    assert await exchange(ours, b"?", 2) == b"S "
    transport, protocol = await adopt(ours, Recorder, None)
    assert protocol.transport is transport
    await protocol.until(8)
    assert protocol.received == b"greeting"
    transport.abort()
    await protocol.lost.wait()


async def tls_server(far: socket.socket, context: ssl.SSLContext) -> Recorder:
    far.setblocking(False)
    server = Recorder()
    await over_loop(far, TlsPump(server, PumpOptions(context, server_side=True)))
    return server


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
async def test_adopt_tls_after_an_exchange(pair: Any) -> None:
    ours, peer = pair()
    peer.sendall(b"S")
    assert await exchange(ours, b"?", 1) == b"S"
    assert peer.recv(1) == b"?"
    server = await tls_server(peer, certificates().server_context())
    tls = TlsOptions(certificates().client_context(), "localhost")
    transport, protocol = await adopt(ours, Recorder, tls)
    assert protocol.calls == ["connection_made"]
    assert transport.get_extra_info("peercert")
    transport.write(b"hello")
    await server.until(5)
    transport.close()
    await protocol.lost.wait()


async def test_bad_certificate_is_a_refusal() -> None:
    ours, peer = tcp_pair()
    await tls_server(peer, certificates().server_context())
    tls = TlsOptions(certificates().client_context(), "wrong.test")
    with pytest.raises(
        UpstreamRefused, match=r"certificate does not verify: .*wrong.test"
    ) as caught:
        await adopt(ours, Recorder, tls)
    assert caught.value.reason is Reason.TLS_FAILED
    await turns(5)
    assert ours.fileno() == -1


async def test_peer_without_tls_is_unavailable() -> None:
    ours, peer = tcp_pair()
    peer.sendall(b"-ERR what is this?\r\n")
    tls = TlsOptions(certificates().client_context(), "localhost")
    with pytest.raises(UpstreamUnavailable, match="the TLS handshake failed: ") as caught:
        await adopt(ours, Recorder, tls)
    assert caught.value.reason is Reason.TLS_FAILED


async def test_silent_peer() -> None:
    ours, _ = tcp_pair()
    tls = TlsOptions(certificates().client_context(), "localhost", handshake_timeout_s=0.02)
    with pytest.raises(UpstreamUnavailable, match=r"within 0\.02 s") as caught:
        await adopt(ours, Recorder, tls)
    assert caught.value.reason is Reason.UPSTREAM_SILENT


async def test_peer_that_leaves_in_the_handshake() -> None:
    ours, peer = tcp_pair()
    tls = TlsOptions(certificates().client_context(), "localhost")
    task = asyncio.ensure_future(adopt(ours, Recorder, tls))
    await asyncio.sleep(0.01)
    peer.recv(65_536)
    peer.close()
    with pytest.raises(UpstreamUnavailable, match="closed the connection during") as caught:
        await task
    assert caught.value.reason is Reason.TLS_FAILED


async def test_peer_that_resets_in_the_handshake() -> None:
    ours, peer = tcp_pair()
    tls = TlsOptions(certificates().client_context(), "localhost")
    task = asyncio.ensure_future(adopt(ours, Recorder, tls))
    await asyncio.sleep(0.01)
    reset(peer)
    with pytest.raises(UpstreamUnavailable, match="was lost: ") as caught:
        await task
    assert caught.value.reason is Reason.UPSTREAM_RESET


async def test_cancelled_handshake_closes_the_socket() -> None:
    ours, peer = tcp_pair()
    tls = TlsOptions(certificates().client_context(), "localhost")
    task = asyncio.ensure_future(adopt(ours, Recorder, tls))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await turns(5)
    assert ours.fileno() == -1
    peer.recv(65_536)
    assert peer.recv(1) == b""
