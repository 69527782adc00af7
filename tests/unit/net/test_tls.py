"""The TLS pump: the same bytes on both sides, handshakes, back-pressure, key updates."""

import asyncio
import contextlib
import random
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from proxy.net.contexts import (
    ClientTls,
    ServerTls,
    ServerTlsMode,
    SslMode,
    client_context,
    server_context,
)
from proxy.net.tls import HandshakeTimeout, PumpOptions, TlsPump, TruncatedStream
from proxy.net.tls_phase import LEGAL, Phase
from tests.unit.net.pumps import (
    VERSIONS,
    Two,
    client_of_blocking_server,
    client_options,
    server_options,
)
from tests.unit.net.wires import (
    BlockingTls,
    PemFiles,
    Recorder,
    certificates,
    over_loop,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(20)]

# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("size", [1, 16_383, 16_384, 16_385, 300_000, 3_000_000])
async def test_bytes_arrive_both_ways(version: ssl.TLSVersion, size: int) -> None:
    two = await Two().open(version)
    there, back = random.Random(size).randbytes(size), random.Random(-size).randbytes(size)
    two.near.write(there)
    two.far.write(back)
    await two.server.until(size)
    await two.client.until(size)
    assert two.server.received == there
    assert two.client.received == back
    assert two.near.ssl_object.version() == version.name.replace("v1_", "v1.")
    await two.close()


async def test_all_buffer_types_and_writelines() -> None:
    two = await Two().open()
    two.near.write(b"")
    two.near.write(bytearray(b"one "))
    two.near.write(memoryview(b"two "))
    two.near.writelines([b"three ", bytearray(b"four")])
    two.near.writelines([])
    await two.server.until(18)
    assert two.server.received == b"one two three four"
    await two.close()


async def test_one_chunk_is_one_delivery() -> None:
    """Twenty records that arrive together are one data_received."""
    link = Recorder()
    pump, far = await client_of_blocking_server(link)
    pump.pause_reading()
    far.sock.sendall(b"".join(far.encrypt(bytes([n]) * 50) for n in range(20)))
    before = link.chunks
    pump.resume_reading()
    await link.until(1000)
    assert link.chunks - before == 1
    assert link.received == b"".join(bytes([n]) * 50 for n in range(20))
    far.sock.close()


class FakeTransport(asyncio.Transport):
    """Keeps what is written; has no loop and no socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.calls: list[str] = []

    def write(self, data: Any) -> None:
        self.written += data

    def take(self) -> bytes:
        result, self.written = bytes(self.written), bytearray()
        return result

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def is_closing(self) -> bool:
        return bool(self.calls)

    def get_write_buffer_size(self) -> int:
        return len(self.written)


@pytest.mark.parametrize("seed", range(12))
async def test_any_chopping_gives_the_same(seed: int) -> None:
    """Handshake, data and goodbye, cut anywhere between the two pumps."""
    rng = random.Random(seed)
    ends = [(Recorder(), FakeTransport()), (Recorder(), FakeTransport())]
    pumps = [TlsPump(ends[0][0], client_options()), TlsPump(ends[1][0], server_options())]
    for pump, (_, wire) in zip(pumps, ends, strict=True):
        pump.connection_made(wire)
    pending = [b"", b""]
    said = [b"", b""]
    longest = rng.choice((1, 7, 100, 5000))

    def pass_on() -> bool:
        moved = False
        for side in (0, 1):
            pending[side] += ends[side][1].take()
            cut = rng.randint(1, longest)
            piece, pending[side] = pending[side][:cut], pending[side][cut:]
            if piece:
                pumps[1 - side].data_received(piece)
                moved = True
        return moved

    while pass_on():
        pass
    for _ in range(6):
        side = rng.randrange(2)
        data = rng.randbytes(rng.choice((1, 80, 17_000) if longest > 50 else (1, 80)))
        said[side] += data
        pumps[side].write(data)
        for _ in range(rng.randrange(4)):
            pass_on()
    while pass_on():
        pass
    pumps[0].close()
    while pass_on():
        pass
    assert ends[1][0].received == said[0]
    assert ends[0][0].received == said[1]
    assert "eof_received" in ends[1][0].calls


# ---- handshake -----------------------------------------------------------------------------------


async def test_connection_made_comes_after_the_handshake() -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    ready: list[Exception | None] = []
    pump = TlsPump(link, client_options(on_ready=ready.append))
    await over_loop(ours, pump)
    await turns()
    assert link.calls == []
    far = BlockingTls(peer, certificates().server_context())
    await asyncio.to_thread(far.handshake)
    await pump.handshaken()
    assert link.calls == ["connection_made"]
    assert link.transport is pump
    assert ready == [None]
    await pump.handshaken()  # again: at once
    peer.close()


async def test_extra_info() -> None:
    two = await Two().open()
    assert two.near.get_extra_info("ssl_object") is two.near.ssl_object
    der = two.near.get_extra_info("peercert")
    assert ssl.DER_cert_to_PEM_cert(der).encode() in [
        blob.bytes() for blob in certificates().server.cert_chain_pems
    ]
    assert two.far.get_extra_info("peercert") is None
    assert two.near.get_extra_info("peername") == two.far.get_extra_info("sockname")
    assert two.near.get_extra_info("socket").family is socket.AF_INET
    assert two.near.get_extra_info("cipher")[1] == "TLSv1.3"
    assert isinstance(two.near.get_extra_info("sslcontext"), ssl.SSLContext)
    assert two.near.get_extra_info("nonsense", 7) == 7
    await two.close()


async def test_alpn() -> None:
    two = Two()
    server = server_options()
    server.context.set_alpn_protocols(["postgresql"])
    client = client_options()
    client.context.set_alpn_protocols(["other", "postgresql"])
    near, far = tcp_pair()
    far.setblocking(False)
    two.near, two.far = TlsPump(two.client, client), TlsPump(two.server, server)
    await over_loop(near, two.near)
    await over_loop(far, two.far)
    await two.near.handshaken()
    assert two.near.ssl_object.selected_alpn_protocol() == "postgresql"
    await two.close()


@pytest.mark.parametrize("pair", [tcp_pair, unix_pair])
async def test_upgrade_in_the_middle(pair: Any) -> None:
    """SSLRequest, S, handshake, data: no second connection_made, the same protocols."""
    near, far = pair()
    far.setblocking(False)
    client, server = Recorder(), Recorder()
    near_raw, far_raw = await over_loop(near, client), await over_loop(far, server)
    near_raw.write(b"please")
    await server.until(6)
    far_raw.write(b"S")
    far_pump = TlsPump.upgrade(far_raw, server, server_options())
    await client.until(1)
    near_pump = TlsPump.upgrade(near_raw, client, client_options())
    await near_pump.handshaken()
    await far_pump.handshaken()
    near_pump.write(b" over TLS")
    far_pump.write(b"ecret")
    await server.until(15)
    await client.until(6)
    assert (server.received, client.received) == (b"please over TLS", b"Secret")
    assert server.calls.count("connection_made") == client.calls.count("connection_made") == 1
    near_pump.close()
    await server.lost.wait()


async def test_upgrade_resumes_a_paused_transport() -> None:
    near, far = tcp_pair()
    far.setblocking(False)
    server = Recorder()
    far_raw = await over_loop(far, server)
    await turns()
    far_raw.pause_reading()
    far_pump = TlsPump.upgrade(far_raw, server, server_options())
    near_pump = TlsPump(Recorder(), client_options())
    await over_loop(near, near_pump)
    await near_pump.handshaken()
    await far_pump.handshaken()


async def test_direct_tls_first_bytes_were_read_already() -> None:
    """The first byte says that it is TLS: what has been read goes to the pump."""

    class Sniffer(Recorder):
        pump: TlsPump | None = None

        def data_received(self, data: bytes) -> None:
            if self.pump is None:
                assert data[0] == 0x16
                self.pump = TlsPump.upgrade(self.transport, self, server_options(), data)
            else:
                super().data_received(data)

    near, far = tcp_pair()
    far.setblocking(False)
    server = Sniffer()
    await over_loop(far, server)
    client = Recorder()
    pump = TlsPump(client, client_options())
    await over_loop(near, pump)
    await pump.handshaken()
    pump.write(b"hello")
    await server.until(5)
    assert server.received == b"hello"
    pump.close()
    await server.lost.wait()


async def test_writes_before_the_handshake_wait_in_order() -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    raw = await over_loop(ours, link)
    pump = TlsPump.upgrade(raw, link, client_options())
    pump.write(b"one ")
    pump.writelines([b"two ", b"three"])
    assert pump.get_write_buffer_size() == 13
    far = BlockingTls(peer, certificates().server_context())
    await asyncio.to_thread(far.handshake)
    assert await asyncio.to_thread(far.read, 13) == b"one two three"
    assert pump.get_write_buffer_size() == 0
    peer.close()


async def test_writes_before_the_handshake_are_bounded() -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    raw = await over_loop(ours, link)
    pump = TlsPump.upgrade(raw, link, client_options())
    for _ in range(17):
        pump.write(b"x" * 65_536)
    await link.lost.wait()
    assert isinstance(link.error, BufferError)
    peer.close()


@pytest.mark.parametrize("fresh", [True, False])
async def test_silent_peer_times_out(fresh: bool) -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    ready: list[Exception | None] = []
    options = client_options(handshake_timeout_s=0.02, on_ready=ready.append)
    if fresh:
        pump = TlsPump(link, options)
        await over_loop(ours, pump)
    else:
        pump = TlsPump.upgrade(await over_loop(ours, link), link, options)
    with pytest.raises(HandshakeTimeout, match=r"within 0\.02 s"):
        await pump.handshaken()
    with pytest.raises(HandshakeTimeout):
        await pump.handshaken()
    assert len(ready) == 1
    assert isinstance(ready[0], HandshakeTimeout)
    await turns(5)
    assert link.calls == ([] if fresh else ["connection_made", "connection_lost"])
    assert peer.recv(10_000) != b""  # the ClientHello
    peer.close()


async def test_timer_stops_after_the_handshake() -> None:
    two = await Two().open(handshake_timeout_s=0.2)
    await asyncio.sleep(0.3)
    assert not two.near.is_closing()
    await two.close()


async def test_certificate_of_an_unknown_authority() -> None:
    """The client says why; the server is told by an alert, and its protocol is never made."""
    near, far = tcp_pair()
    far.setblocking(False)
    client, server = Recorder(), Recorder()
    near_pump = TlsPump(
        client, PumpOptions(ssl.create_default_context(), server_hostname="localhost")
    )
    far_pump = TlsPump(server, server_options())
    await over_loop(near, near_pump)
    await over_loop(far, far_pump)
    with pytest.raises(ssl.SSLCertVerificationError):
        await near_pump.handshaken()
    with contextlib.suppress(ssl.SSLError):
        await far_pump.handshaken()  # TLS 1.3: the server may be done before the alert comes
    await turns(5)
    assert "data_received" not in server.calls
    assert client.calls == []


async def test_peer_that_does_not_speak_tls() -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    pump = TlsPump(link, server_options())
    await over_loop(ours, pump)
    peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ssl.SSLError):
        await pump.handshaken()
    assert link.calls == []
    peer.close()


@pytest.mark.parametrize("how", [socket.socket.close, reset])
async def test_peer_leaves_during_the_handshake(how: Any) -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    pump = TlsPump(link, client_options())
    await over_loop(ours, pump)
    how(peer)
    with pytest.raises((TruncatedStream, ConnectionResetError, BrokenPipeError)):
        await pump.handshaken()
    assert link.calls == []


@pytest.mark.parametrize("act", ["close", "abort"])
async def test_we_leave_during_the_handshake(act: str) -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    raw = await over_loop(ours, link)
    pump = TlsPump.upgrade(raw, link, client_options())
    pump.write(b"never sent")
    getattr(pump, act)()
    getattr(pump, act)()
    await link.lost.wait()
    with pytest.raises(ConnectionAbortedError):
        await pump.handshaken()
    assert b"never sent" not in peer.recv(10_000)
    peer.close()


# ---- back-pressure -------------------------------------------------------------------------------


async def test_slow_reader_pauses_the_writer() -> None:
    two = await Two().open()
    two.far.pause_reading()
    two.near.set_write_buffer_limits(high=100_000)
    assert two.near.get_write_buffer_limits()[1] == 100_000
    sent = 0
    while "pause_writing" not in two.client.calls:
        two.near.write(b"x" * 100_000)
        sent += 100_000
        await turns(1)
        assert sent < 50_000_000
    assert two.near.get_write_buffer_size() > 100_000
    received = len(two.server.received)
    await asyncio.sleep(0.05)
    assert len(two.server.received) == received, "reads although it is paused"
    two.far.resume_reading()
    await two.client.until_called("resume_writing")
    await two.server.until(sent)
    assert len(two.server.received) == sent
    await two.close()


async def test_is_reading() -> None:
    two = await Two().open()
    two.near.pause_reading()
    assert not two.near.is_reading()
    two.near.resume_reading()
    assert two.near.is_reading()
    await two.close()


async def test_protocol_can_be_changed() -> None:
    """Login and session are two protocols of one transport."""
    two = await Two().open()
    second = Recorder()
    two.near.set_protocol(second)
    assert two.near.get_protocol() is second
    two.far.write(b"hello")
    await second.until(5)
    assert second.received == b"hello"
    two.near.close()
    await second.lost.wait()
    assert "connection_lost" not in two.client.calls


# ---- key update and renegotiation, with a peer that can do them ----------------------------------

openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl on PATH")


class Echo(Recorder):
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


@pytest_asyncio.fixture
async def run_openssl() -> AsyncIterator[Callable[..., Awaitable[asyncio.subprocess.Process]]]:
    started: list[asyncio.subprocess.Process] = []

    async def start(*arguments: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            "openssl",
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def echo_server(made: list[Echo], pem: PemFiles) -> asyncio.Server:
    tls = ServerTls(mode=ServerTlsMode.REQUIRE, cert=pem.server)
    context = server_context(tls)
    assert context is not None

    def factory() -> TlsPump:
        made.append(Echo())
        return TlsPump(made[-1], PumpOptions(context, server_side=True))

    return await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)


@pytest.fixture
def pem(tmp_path: Path) -> PemFiles:
    return PemFiles(tmp_path)


def address_of(server: asyncio.Server) -> str:
    return f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def read_until(stream: asyncio.StreamReader | None, end: bytes) -> bytes:
    assert stream is not None
    return await asyncio.wait_for(stream.readuntil(end), 10)


@openssl
@pytest.mark.parametrize("command", ["K", "k"])
async def test_key_update(command: str, run_openssl: Any, pem: PemFiles) -> None:
    """K asks us to change our keys, too (RFC 8446, 4.6.3): the answer must go out at once."""
    made: list[Echo] = []
    server = await echo_server(made, pem)
    client = await run_openssl("s_client", "-connect", address_of(server))
    assert client.stdin is not None
    client.stdin.write(b"before\n")
    await read_until(client.stdout, b"before\n")
    client.stdin.write(f"{command}\n".encode())
    await read_until(client.stdout, b"KEYUPDATE\n")  # it takes a whole read as one command
    for _ in range(3):
        client.stdin.write(b"after\n")
        await read_until(client.stdout, b"after\n")
    client.stdin.write(b"Q\n")
    await client.wait()
    await made[0].lost.wait()
    assert made[0].received == b"before\n" + 3 * b"after\n"
    assert made[0].error is None
    server.close()


@openssl
async def test_client_renegotiation_is_refused(run_openssl: Any, pem: PemFiles) -> None:
    made: list[Echo] = []
    server = await echo_server(made, pem)
    client = await run_openssl("s_client", "-connect", address_of(server), "-tls1_2")
    assert client.stdin is not None
    client.stdin.write(b"before\n")
    await read_until(client.stdout, b"before\n")
    client.stdin.write(b"R\n")
    await made[0].lost.wait()  # the client gives up
    client.stdin.close()
    await client.wait()
    assert made[0].received == b"before\n"
    server.close()


@openssl
async def test_server_renegotiation_is_refused(run_openssl: Any, pem: PemFiles) -> None:
    """HelloRequest gets a warning, and the connection goes on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = ("-cert", pem.server, "-key", pem.server)
    server = await run_openssl("s_server", "-accept", f"127.0.0.1:{port}", *files, "-tls1_2")
    await read_until(server.stdout, b"ACCEPT\n")
    context = client_context(ClientTls(mode=SslMode.VERIFY_FULL, root_cert=pem.ca))
    assert context is not None
    link = Recorder()
    pump = TlsPump(link, PumpOptions(context, server_hostname="localhost"))
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: pump, "127.0.0.1", port)
    await pump.handshaken()
    assert server.stdin is not None
    server.stdin.write(b"before\n")
    await link.until(7)
    server.stdin.write(b"r\n")
    await read_until(server.stdout, b"SSL_do_handshake -> ")
    server.stdin.write(b"after\n")
    await link.until(13)
    pump.abort()
    if link.error is None:
        assert link.received == b"before\nafter\n"
    else:
        assert isinstance(link.error, ssl.SSLError)


# ---- life ----------------------------------------------------------------------------------------


def test_every_phase_can_be_reached_and_the_last_is_final() -> None:
    reached, waiting = {Phase.NEW}, [Phase.NEW]
    while waiting:
        for phase in LEGAL[waiting.pop()]:
            if phase not in reached:
                reached.add(phase)
                waiting.append(phase)
    assert reached == set(Phase)
    assert LEGAL[Phase.CLOSED] == frozenset()


async def test_illegal_step_is_a_bug() -> None:
    pump = TlsPump(Recorder(), client_options())
    with pytest.raises(AssertionError, match="NEW"):
        pump._become(Phase.OPEN)
