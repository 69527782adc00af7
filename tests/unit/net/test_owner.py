"""A descriptor is closed once: whoever gets its number next keeps it."""

import asyncio
import gc
import os
import socket
from collections.abc import Awaitable, Callable

import pytest

from proxy.core.errors import UpstreamUnavailable
from proxy.net.dial import TlsOptions, adopt
from tests.unit.net.wires import PEERS, Recorder, certificates, reset, tcp_pair, turns

pytestmark = [pytest.mark.both_loops, pytest.mark.timeout(20)]


class Eager(Recorder):
    """Writes as soon as it is connected, as a login does."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.write(b"the first write meets the reset")
        self.transport.write(b"and so does the second")


async def plain(sock: socket.socket) -> None:
    protocol = Eager()
    await adopt(sock, lambda: protocol, None)
    await protocol.lost.wait()


async def over_tls(sock: socket.socket) -> None:
    tls = TlsOptions(certificates().client_context(), "localhost")
    with pytest.raises(UpstreamUnavailable):
        await adopt(sock, Eager, tls)


async def cancelled(sock: socket.socket) -> None:
    task = asyncio.ensure_future(adopt(sock, Recorder, None))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("way", [plain, over_tls, cancelled])
async def test_the_number_of_a_lost_link_is_not_closed_twice(
    way: Callable[[socket.socket], Awaitable[None]],
) -> None:
    ours, peer = tcp_pair()
    PEERS.remove(peer)
    number = ours.fileno()
    reset(peer)
    await way(ours)
    await turns(5)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)  # closed, not leaked
    next_one = os.dup2(0, number)  # another connection, in the proxy
    try:
        del ours
        gc.collect()
        await turns(5)
        os.fstat(next_one)
    finally:
        os.close(next_one)
