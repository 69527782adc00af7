"""The TLS pump: every end told apart, goodbyes, and ends inside large chunks."""

import asyncio
import random
import socket
import ssl
import threading
from typing import Any

import pytest

from proxy.net.listen import close_gently
from proxy.net.tls import TruncatedStream
from tests.unit.net.pumps import (
    Two,
    client_of_blocking_server,
)
from tests.unit.net.wires import (
    Recorder,
    reset,
    turns,
)

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(20)]

# ---- ends ----------------------------------------------------------------------------------------


async def test_clean_end() -> None:
    two = await Two().open()
    two.near.write(b"bye")
    await two.close()
    assert two.server.received == b"bye"
    assert two.server.calls == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]
    assert two.server.error is None
    assert two.client.error is None
    assert two.near.is_closing()
    assert two.far.is_closing()


async def test_truncation_is_told_apart() -> None:
    link = Recorder()
    _, far = await client_of_blocking_server(link)
    far.sock.sendall(far.encrypt(b"half of"))
    far.sock.close()
    await link.lost.wait()
    assert link.received == b"half of"
    assert isinstance(link.error, TruncatedStream)
    assert "eof_received" not in link.calls


async def test_goodbye_in_the_chunk_of_the_data() -> None:
    link = Recorder()
    _, far = await client_of_blocking_server(link)
    far.sock.sendall(far.encrypt(b"all of it") + far.goodbye())
    far.sock.close()
    await link.lost.wait()
    assert link.received == b"all of it"
    assert link.error is None
    assert link.calls[-2:] == ["eof_received", "connection_lost"]


async def test_reset_is_told_apart() -> None:
    link = Recorder()
    pump, far = await client_of_blocking_server(link)
    pump.write(b"unread")
    await turns()
    reset(far.sock)
    await link.lost.wait()
    assert isinstance(link.error, ConnectionResetError)


async def test_forged_record() -> None:
    link = Recorder()
    pump, far = await client_of_blocking_server(link)
    forged = bytearray(far.encrypt(b"forged"))
    forged[-1] ^= 1
    far.sock.sendall(bytes(forged))
    await link.lost.wait()
    assert isinstance(link.error, ssl.SSLError)
    assert link.received == b""
    assert pump.is_closing()
    far.sock.close()


async def test_forged_record_behind_good_ones() -> None:
    link = Recorder()
    _, far = await client_of_blocking_server(link)
    good = far.encrypt(b"good one") + far.encrypt(b"good two")
    forged = bytearray(far.encrypt(b"forged"))
    forged[-1] ^= 1
    far.sock.sendall(good + bytes(forged))
    await link.lost.wait()
    assert link.received == b"good onegood two"
    assert isinstance(link.error, ssl.SSLError)
    far.sock.close()


async def test_half_closed_peer_still_gets_answers() -> None:
    """eof_received that returns true: the peer said goodbye, and waits for what it asked."""
    link = Recorder()
    link.eof_answer = True
    pump, far = await client_of_blocking_server(link)
    far.sock.sendall(far.encrypt(b"question") + far.goodbye())
    far.sock.shutdown(socket.SHUT_WR)
    await link.until_called("eof_received")
    await turns(5)
    assert not pump.is_closing()
    pump.write(b"answer")
    assert far.sock.recv(1000) != b""
    pump.close()
    await link.lost.wait()
    assert link.error is None
    far.sock.close()


async def test_close_flushes() -> None:
    link = Recorder()
    pump, far = await client_of_blocking_server(link)
    sent = random.Random(3).randbytes(2_000_000)
    got = b""

    def read_all() -> None:
        nonlocal got
        got = far.read(len(sent) + 1)  # one more than comes: ends at close_notify

    reader = threading.Thread(target=read_all)
    reader.start()
    pump.write(sent)
    pump.close()
    pump.write(b"dropped")
    await link.lost.wait()
    await asyncio.to_thread(reader.join)
    assert got == sent
    assert link.error is None
    far.sock.close()


async def test_abort() -> None:
    two = await Two().open()
    two.near.abort()
    two.near.abort()
    await two.client.lost.wait()
    await two.server.lost.wait()
    assert two.client.error is None
    assert isinstance(two.server.error, TruncatedStream | ConnectionResetError)
    two.near.write(b"dropped")
    two.near.close()


async def test_close_from_data_received() -> None:
    class Hasty(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    link = Hasty()
    _, far = await client_of_blocking_server(link)
    far.sock.sendall(far.encrypt(b"one") + far.goodbye())
    await link.lost.wait()
    assert link.calls == ["connection_made", "data_received", "connection_lost"]
    far.sock.close()


# ---- saying goodbye first ------------------------------------------------------------------------


async def test_after_write_eof_the_peer_is_still_heard() -> None:
    """Our half ends with close_notify; the peer's bytes and its goodbye arrive."""
    two = await Two().open()
    two.near.write(b"last words")
    two.near.write_eof()
    two.near.write_eof()
    await two.server.until_called("eof_received")
    assert two.server.received == b"last words"
    await two.client.lost.wait()  # the server answered the goodbye with its own
    assert two.client.error is None
    assert "eof_received" in two.client.calls


async def test_peer_that_goes_on_sending_gets_our_last_words() -> None:
    """Closing with bytes unread would reset: `close_gently` relies on this."""
    link = Recorder()
    pump, far = await client_of_blocking_server(link)
    pump.write(b"refused: too many")
    pump.write_eof()
    assert not pump.is_closing()
    far.sock.sendall(far.encrypt(b"still talking" * 100))
    await link.until(1300)
    assert await asyncio.to_thread(far.read, 100) == b"refused: too many"
    far.sock.sendall(far.goodbye())
    await link.lost.wait()
    assert link.error is None
    assert link.calls[-2:] == ["eof_received", "connection_lost"]


@pytest.mark.parametrize("how", [socket.socket.close, reset])
async def test_peer_that_just_leaves_after_our_goodbye(how: Any) -> None:
    """Most do. It is no truncation: nothing was asked any more."""
    link = Recorder()
    pump, far = await client_of_blocking_server(link)
    pump.write_eof()
    how(far.sock)
    await link.lost.wait()
    assert link.error is None


async def test_write_after_write_eof_is_a_bug() -> None:
    two = await Two().open()
    two.near.write_eof()
    with pytest.raises(RuntimeError, match="write after write_eof"):
        two.near.write(b"x")
    two.near.abort()


@pytest.mark.parametrize("act", ["close", "abort"])
async def test_leaving_for_good_after_write_eof(act: str) -> None:
    two = await Two().open()
    two.server.eof_answer = True
    two.near.write_eof()
    getattr(two.near, act)()
    await two.client.lost.wait()
    assert two.client.error is None
    two.far.abort()


async def test_close_gently_over_tls() -> None:
    link = Recorder()
    pump, far = await client_of_blocking_server(link)
    pump.write(b"bye")
    close_gently(pump)
    far.sock.sendall(far.encrypt(b"y" * 100_000))
    assert await asyncio.to_thread(far.read, 100) == b"bye"
    far.sock.close()
    await link.lost.wait()


# ---- large chunks --------------------------------------------------------------------------------


@pytest.mark.parametrize("record", [100, 16_384])
async def test_goodbye_and_forgery_deep_in_a_large_chunk(record: int) -> None:
    """A chunk goes to OpenSSL in pieces: each end is found in whichever piece it is."""
    for seed in range(6):
        link = Recorder()
        pump, far = await client_of_blocking_server(link)
        rng = random.Random(seed)
        sent = rng.randbytes(rng.randrange(70_000, 400_000))
        chunk = b"".join(far.encrypt(sent[at : at + record]) for at in range(0, len(sent), record))
        clean = rng.random() < 0.5
        tail = bytearray(far.goodbye() if clean else far.encrypt(b"forged"))
        tail[-1] ^= not clean
        before = link.chunks
        pump.data_received(chunk + bytes(tail) + b"after the end")
        assert link.received == sent
        assert link.chunks == before + 1
        await link.lost.wait()
        assert isinstance(link.error, ssl.SSLError) is not clean
        far.sock.close()


async def test_buffers_stay_small() -> None:
    """What OpenSSL was once given stays allocated: large data must pass in pieces."""
    two = await Two().open()
    most = 0

    class Watched:
        def __init__(self, bio: ssl.MemoryBIO) -> None:
            self.bio = bio

        def __getattr__(self, name: str) -> Any:
            nonlocal most
            most = max(most, self.bio.pending)
            return getattr(self.bio, name)

    two.near._outgoing = Watched(two.near._outgoing)  # type: ignore[assignment]
    two.far._incoming = Watched(two.far._incoming)  # type: ignore[assignment]
    two.near.write(b"x" * 3_000_000)
    await two.server.until(3_000_000)
    assert 60_000 < most < 200_000
    await two.close()
