"""The last words of a dead link are never lost, and what surely never left is known.

Each test names the order of events that a loop by itself gets wrong, or a fact on which
`proxy.net.drain` relies; if a new loop or kernel changes one, it shows here.
"""

import asyncio
import random
import socket
import sys
from collections.abc import Callable

import pytest

from proxy.net.drain import LastWords
from proxy.net.tls import PumpOptions, TlsPump
from tests.unit.net.wires import (
    BlockingTls,
    Recorder,
    certificates,
    over_loop,
    reset,
    tcp_pair,
    turns,
    unix_pair,
)

pytestmark = [pytest.mark.both_loops]

FATAL = b"E\0\0\0\x1bSFATAL\0C57P01\0Mterminating\0\0"
PAIRS = {"tcp": tcp_pair, "unix": unix_pair}
Pair = Callable[[], tuple[socket.socket, socket.socket]]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="counts of the Linux kernel")


@pytest.fixture(params=PAIRS.values(), ids=PAIRS)
def pair(request: pytest.FixtureRequest) -> Pair:
    result: Pair = request.param
    return result


async def write_until_refused(link: Recorder) -> None:
    """Writes, in one turn of the loop, until the transport notices that the peer is gone."""
    for _ in range(10):
        link.write(b"QUERY")
        if link.transport.is_closing():
            break
    await link.lost.wait()


async def test_write_after_the_end_skips_what_is_unread(pair: Pair) -> None:
    """The trap: the write fails in the turn in which the FATAL became readable."""
    ours, peer = pair()
    link = Recorder()
    await over_loop(ours, link)
    peer.send(FATAL)
    peer.close()
    await write_until_refused(link)
    assert link.rest == FATAL
    assert link.received == b"", "the loop has read it after all: the trap is gone"
    assert isinstance(link.error, BrokenPipeError | ConnectionResetError)


async def test_peer_dies_with_our_bytes_unread(pair: Pair) -> None:
    """The peer's kernel answers RST at once, behind the FATAL."""
    ours, peer = pair()
    link = Recorder()
    await over_loop(ours, link)
    link.write(b"never read by the peer")
    peer.send(FATAL)
    peer.close()
    await write_until_refused(link)
    assert link.everything == FATAL


async def test_reset_without_a_write_of_ours(pair: Pair) -> None:
    ours, peer = pair()
    link = Recorder()
    await over_loop(ours, link)
    link.write(b"never read by the peer")
    peer.send(FATAL)
    peer.close()
    await link.lost.wait()
    assert link.everything == FATAL


async def test_linger_reset(pair: Pair) -> None:
    ours, peer = pair()
    link = Recorder()
    await over_loop(ours, link)
    peer.send(FATAL)
    reset(peer)
    await write_until_refused(link)
    assert link.everything == FATAL


async def test_paused_reading_then_a_failed_write(pair: Pair) -> None:
    """A paused link reads nothing by itself: all that the kernel holds is the rest."""
    ours, peer = pair()
    link = Recorder()
    transport = await over_loop(ours, link)
    await turns()
    transport.pause_reading()
    sent = random.Random(1).randbytes(100_000) + FATAL
    peer.settimeout(5)
    peer.sendall(sent)
    peer.close()
    await write_until_refused(link)
    assert link.rest == sent


async def test_rest_is_bounded(pair: Pair) -> None:
    ours, peer = pair()
    rests: list[bytes] = []

    class Greedy(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            rests.append(self.words.read_rest(bytes_max=10))
            rests.append(self.words.read_rest())
            self.lost.set()

    link = Greedy()
    transport = await over_loop(ours, link)
    await turns()
    transport.pause_reading()
    peer.sendall(b"x" * 1000)
    peer.close()
    await write_until_refused(link)
    assert [len(rest) for rest in rests] == [10, 990]


async def test_nothing_after_the_socket_is_closed(pair: Pair) -> None:
    """The descriptor may belong to another connection by then: it must not be touched."""
    ours, peer = pair()
    link = Recorder()
    await over_loop(ours, link)
    await turns()
    link.transport.abort()
    await link.lost.wait()
    await turns()
    with socket.socket(), socket.socket():
        assert link.words.read_rest() == b""
        assert link.words.unsent_bytes(1) == 0
        assert LastWords(link.transport).read_rest() == b""
    peer.close()


async def test_peer_alive_and_silent(pair: Pair) -> None:
    """We abort: read_rest must not wait for an end that does not come."""
    ours, peer = pair()
    link = Recorder()
    await over_loop(ours, link)
    await turns()
    peer.send(b"abc")
    link.transport.abort()
    await link.lost.wait()
    assert link.everything == b"abc"
    peer.close()


async def test_random_orders_lose_nothing(pair: Pair) -> None:
    """Whatever the order of the peer's writes and end and of our writes, pauses and turns."""
    late = 0
    for seed in range(150):
        rng = random.Random(seed)
        link, sent = await one_random_life(rng, pair)
        assert link.everything == sent, f"seed {seed}: {link.calls}"
        late += bool(link.rest)
    assert late > 15, "hardly any life ended with unread bytes: the test does not test"


async def one_random_life(rng: random.Random, pair: Pair) -> tuple[Recorder, bytes]:
    ours, peer = pair()
    link = Recorder()
    transport = await over_loop(ours, link)
    parts = [rng.randbytes(rng.choice((1, 100, 3000))) for _ in range(rng.randrange(3))] + [FATAL]
    sent = b"".join(parts)
    end = rng.choice((peer.close, lambda: reset(peer)))
    steps: list[Callable[[], object]] = [lambda part=part: peer.send(part) for part in parts]
    steps.append(end)
    while steps:
        if rng.random() < 0.3:
            await turns(rng.randrange(3))
        match rng.randrange(6):
            case 0:
                link.write(b"request")
            case 1:
                transport.pause_reading()
            case 2:
                transport.resume_reading()
            case _:
                steps.pop(0)()
    if rng.random() < 0.5:
        await turns(rng.randrange(3))
    if rng.random() < 0.8:
        await write_until_refused(link)
    else:
        transport.resume_reading()
        await link.lost.wait()
    return link, sent


# ---- the same over TLS -------------------------------------------------------------------------


async def tls_link(pair: Pair) -> tuple[Recorder, TlsPump, BlockingTls]:
    ours, peer = pair()
    link = Recorder()
    options = PumpOptions(certificates().client_context(), server_hostname="localhost")
    pump = TlsPump(link, options)
    await over_loop(ours, pump)
    far = BlockingTls(peer, certificates().server_context())
    await asyncio.to_thread(far.handshake)
    await pump.handshaken()
    return link, pump, far


@pytest.mark.parametrize("goodbye", [True, False])
async def test_tls_write_after_the_end(pair: Pair, goodbye: bool) -> None:
    """The rest is ciphertext: decrypted, and delivered before connection_lost."""
    link, _, far = await tls_link(pair)
    far.sock.sendall(far.encrypt(FATAL) + (far.goodbye() if goodbye else b""))
    far.sock.close()
    await write_until_refused(link)
    assert bytes(link.received) == FATAL
    assert link.rest == b""
    assert link.calls[-1] == "connection_lost"
    assert (link.error is None) == goodbye


async def test_tls_rest_that_ends_inside_a_record(pair: Pair) -> None:
    """The whole records are delivered, the half one cannot be."""
    link, _, far = await tls_link(pair)
    far.sock.sendall(far.encrypt(FATAL) + far.encrypt(b"more")[:-1])
    reset(far.sock)
    await write_until_refused(link)
    assert bytes(link.received) == FATAL
    assert link.error is not None


async def test_tls_paused(pair: Pair) -> None:
    link, pump, far = await tls_link(pair)
    pump.pause_reading()
    sent = random.Random(2).randbytes(80_000) + FATAL
    far.sock.sendall(far.encrypt(sent))
    far.sock.close()
    await write_until_refused(link)
    assert bytes(link.received) == sent


async def test_tls_nothing_is_delivered_after_our_close(pair: Pair) -> None:
    link, pump, far = await tls_link(pair)
    far.sock.sendall(far.encrypt(FATAL))
    pump.close()
    await link.lost.wait()
    assert "data_received" not in link.calls
    assert link.error is None
    far.sock.close()


# ---- what left ---------------------------------------------------------------------------------


@on_linux
async def test_refused_write_is_unsent_although_the_buffer_is_empty() -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    await over_loop(ours, link)
    await turns()
    link.write(b"left")
    assert peer.recv(10) == b"left"
    reset(peer)
    link.write(b"refused")
    assert link.transport.is_closing()
    await link.lost.wait()
    assert link.buffered_at_loss == 0, "the loop tells the truth now"
    assert link.unsent_bytes == len(b"refused")


@on_linux
async def test_all_may_have_left() -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    await over_loop(ours, link)
    link.write(b"x" * 1000)
    await turns()
    reset(peer)
    await link.lost.wait()
    assert link.unsent_bytes == 0


@on_linux
async def test_backlog_of_a_peer_that_does_not_read() -> None:
    """What stays in the loop's buffer and in the kernel's send queue has not left."""
    ours, peer = tcp_pair()
    link = Recorder()
    await over_loop(ours, link)
    link.write(b"y" * 20_000_000)
    await turns()
    arrived = readable_bytes(peer)
    reset(peer)
    await link.lost.wait()
    left = link.given_bytes - link.unsent_bytes
    assert arrived <= left < 8_000_000


async def test_unsent_is_never_more_than_given() -> None:
    ours, peer = tcp_pair()
    link = Recorder()
    await over_loop(ours, link)
    await turns()
    reset(peer)
    link.write(b"refused")
    link.given_bytes = 3
    await link.lost.wait()
    assert link.unsent_bytes <= 3


@on_linux
async def test_random_backlogs_never_claim_what_arrived() -> None:
    """The certificate must be sound: a byte that the peer has read is never called unsent."""
    claims = 0
    for seed in range(60):
        rng = random.Random(seed)
        ours, peer = tcp_pair()
        link = Recorder()
        await over_loop(ours, link)
        read = 0
        for _ in range(rng.randrange(1, 6)):
            link.write(b"z" * rng.choice((10, 5_000, 400_000, 3_000_000)))
            await turns(rng.randrange(4))
            if rng.random() < 0.6:
                read += len(peer.recv(rng.choice((1, 10_000, 2_000_000))))
        read += readable_bytes(peer)
        rng.choice((peer.close, lambda peer=peer: reset(peer)))()
        await write_until_refused(link)
        assert read <= link.given_bytes - link.unsent_bytes, f"seed {seed}"
        claims += link.unsent_bytes > 0
    assert claims > 30, "hardly any claim: the test does not test"


@on_linux
async def test_living_connection_that_we_abort() -> None:
    """The kernel goes on sending what it has accepted: only what it refused is unsent."""
    ours, peer = tcp_pair()
    link = Recorder()
    await over_loop(ours, link)
    link.write(b"y" * 20_000_000)
    await turns()
    link.transport.abort()
    await link.lost.wait()
    await turns()
    arrived = 0
    while True:
        part = await asyncio.to_thread(peer.recv, 1_000_000)
        if not part:
            break
        arrived += len(part)
    assert arrived == link.given_bytes - link.unsent_bytes


def readable_bytes(sock: socket.socket) -> int:
    sock.setblocking(False)
    try:
        return len(sock.recv(20_000_000, socket.MSG_PEEK))
    except BlockingIOError:
        return 0


async def test_unix_sockets_claim_nothing() -> None:
    ours, peer = unix_pair()
    link = Recorder()
    await over_loop(ours, link)
    await turns()
    peer.close()
    link.write(b"refused")
    await link.lost.wait()
    assert link.unsent_bytes == 0


@on_linux
async def test_tls_unsent() -> None:
    link, pump, far = await tls_link(tcp_pair)
    link.write(b"left")
    assert far.read(4) == b"left"
    reset(far.sock)
    link.write(b"refused")
    await link.lost.wait()
    assert link.unsent_bytes == len(b"refused")
    assert pump.is_closing()


@on_linux
async def test_tls_everything_left() -> None:
    link, _, far = await tls_link(tcp_pair)
    link.write(b"left")
    assert far.read(4) == b"left"
    reset(far.sock)
    await link.lost.wait()
    assert link.unsent_bytes == 0


@on_linux
async def test_tls_partly_left() -> None:
    link, _, far = await tls_link(tcp_pair)
    link.write(b"y" * 20_000_000)
    await turns()
    reset(far.sock)
    await link.lost.wait()
    assert link.unsent_bytes == 1


@on_linux
async def test_tls_large_write_of_which_only_the_tail_is_unsent() -> None:
    """The pump hands a large write on in pieces: the first ones have left."""
    link, pump, far = await tls_link(tcp_pair)
    raw_write, written = pump._raw_write, 0

    def die_at_the_last_piece(data: bytes) -> None:
        nonlocal written
        written += len(data)
        if written > 400_000:
            reset(far.sock)
        raw_write(data)

    far.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
    pump._raw_write = die_at_the_last_piece
    link.write(b"y" * 400_000)
    await link.lost.wait()
    assert link.unsent_bytes == 1


@on_linux
async def test_tls_goodbye_that_did_not_leave_is_not_the_write_before() -> None:
    link, pump, far = await tls_link(tcp_pair)
    link.write(b"left")
    assert far.read(4) == b"left"
    reset(far.sock)
    pump.close()
    await link.lost.wait()
    assert link.unsent_bytes == 0
