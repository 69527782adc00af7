"""One connection through the cutter: two sockets, a flow each way, and the ways to break it.

A hop never decides anything by itself: its plan or the cutter's caller does.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final, Protocol, cast

from proxy.demo.flow import TRANSPARENT, Cut, Flow, FlowPlan

DIAL_S_MAX: Final = 10.0
FLUSH_S_MAX: Final = 1.0
TLS_FLUSH_TURNS: Final = 3

# Head of an application-data record that announces 80 bytes, of which 3 come (RFC 8446, 5.1).
_BROKEN_RECORD: Final = b"\x17\x03\x03\x00\x50\x00\x00\x00"
_SSL_REQUEST: Final = struct.pack("!II", 8, 80877103)


class Direction(Enum):
    """Which way bytes go, seen from the proxy under test: the server's answers or its requests."""

    TO_CLIENT = auto()
    TO_SERVER = auto()


class TlsStart(Enum):
    """When TLS begins on a connection."""

    DIRECT = auto()
    POSTGRES = auto()
    """After an SSLRequest, answered with S."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where to forward. `tls` is towards the server, `client_tls` towards whoever connects."""

    address: tuple[str, int] | Path
    tls: ssl.SSLContext | None = None
    tls_start: TlsStart = TlsStart.DIRECT
    server_name: str = "localhost"
    client_tls: ssl.SSLContext | None = None
    client_tls_start: TlsStart = TlsStart.DIRECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What happens to one new connection. `mute`: accepted, but no server behind it, no answer."""

    to_client: FlowPlan = TRANSPARENT
    to_server: FlowPlan = TRANSPARENT
    mute: bool = False


class HopOwner(Protocol):
    """What a hop tells whoever keeps it."""

    def hop_opened(self, hop: "Hop") -> None:
        """Its client has arrived."""

    def hop_closed(self, hop: "Hop") -> None:
        """Both sockets are gone."""

    def hop_cut(self, hop: "Hop", cut: Cut) -> None:
        """It is about to be broken."""

    def dial_failed(self) -> None:
        """The server could not be reached."""


class _Half(asyncio.Protocol):
    """One of the two sockets of a hop."""

    def __init__(self, hop: "Hop", outgoing: Flow, *, is_client: bool) -> None:
        self.hop = hop
        self.flow = outgoing  # carries what arrives here
        self.is_client = is_client
        self.transport: asyncio.Transport | None = None
        self.other: _Half | None = None
        self.early = bytearray()  # arrived before both halves stood
        self.preamble: asyncio.Future[bytes] | None = None
        self.ended = False  # the peer sent FIN
        self.wrote_end = False  # we did
        self._pauses: set[str] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if not self.hop.alive:  # cut while the dial was under way
            _reset(self.transport)
        elif self.is_client:
            self.hop.owner.hop_opened(self.hop)

    def data_received(self, data: bytes) -> None:
        if self.preamble is not None and not self.preamble.done():
            self.preamble.set_result(data)
        elif not self.hop.joined:
            self.early += data
        else:
            self.flow.feed(data)
            if self.flow.full():
                self.pause("queue")

    def eof_received(self) -> bool:
        self.ended = True
        if self.hop.joined:
            self.flow.feed_end()
        self._close_if_over()
        # The other direction may still have something to say, except that TLS has no half close.
        return not self.tls()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.transport = None
        if self.preamble is not None and not self.preamble.done():
            self.preamble.set_exception(ConnectionError("gone before TLS"))
        self.hop.half_lost(self)

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.pause("receiver")

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.unpause("receiver")

    def tls(self) -> bool:
        """Whether we terminate TLS on this socket."""
        return self.transport is not None and bool(self.transport.get_extra_info("sslcontext"))

    def pause(self, reason: str) -> None:
        """Stop reading until every reason is gone."""
        self._pauses.add(reason)
        if self.transport is not None:
            self.transport.pause_reading()

    def unpause(self, reason: str) -> None:
        """Drop one reason."""
        if reason not in self._pauses:
            return
        self._pauses.discard(reason)
        if self.transport is not None and not self._pauses:
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """Hand bytes to the peer; called by the flow that leads here."""
        if self.transport is not None and not (self.transport.is_closing() or self.wrote_end):
            self.transport.write(data)
        if self.other is not None and not self.other.flow.full():
            self.other.unpause("queue")

    def end_write(self) -> None:
        """Tell the peer that nothing follows."""
        if self.transport is None or self.transport.is_closing() or self.wrote_end:
            return
        self.wrote_end = True
        if self.tls():
            self.transport.close()
            return
        with contextlib.suppress(OSError):
            self.transport.write_eof()
        self._close_if_over()

    def _close_if_over(self) -> None:
        if self.ended and self.wrote_end and self.transport is not None:
            self.transport.close()


class Hop:
    """One connection through the cutter: a client half, a server half, a flow each way."""

    def __init__(self, owner: HopOwner, number: int, plan: Plan) -> None:
        self.owner = owner
        self.number = number
        self.joined = False
        self.alive = True
        self.closed = asyncio.Event()
        self.mute = plan.mute
        self._loop = asyncio.get_running_loop()
        self.to_client = Flow(plan.to_client, self._loop)
        self.to_server = Flow(plan.to_server, self._loop)
        self.client = _Half(self, self.to_server, is_client=True)
        self.server = _Half(self, self.to_client, is_client=False)
        self._wire(self.to_client, self.client, Direction.TO_CLIENT)
        self._wire(self.to_server, self.server, Direction.TO_SERVER)

    def _wire(self, flow: Flow, receiver: _Half, direction: Direction) -> None:
        flow.write = receiver.write
        flow.end = receiver.end_write
        flow.on_cut = lambda cut: self.cut(cut, direction)

    def flow(self, direction: Direction) -> Flow:
        """The flow of that direction: its counters, its live settings, `passed(n)`."""
        return self.to_client if direction is Direction.TO_CLIENT else self.to_server

    def cut(self, cut: Cut, direction: Direction = Direction.TO_CLIENT) -> None:
        """Break this connection now. `direction` matters for a half close only."""
        if not self.alive:
            return
        self.owner.hop_cut(self, cut)
        match cut:
            case Cut.SILENCE:
                self.to_client.silent = True
                self.to_server.silent = True
            case Cut.HALF_CLOSE:
                self.flow(direction).end()
                self.flow(direction).silent = True
            case Cut.RST:
                self.end(reset=True)
            case Cut.TLS_ABORT:
                if not self.client.tls():  # where we terminate TLS, abort() alone is it
                    self.client.write(_BROKEN_RECORD)
                self.end(reset=False)
            case Cut.FIN:
                self.end(reset=False)

    def cut_after(self, direction: Direction, more_bytes: int, cut: Cut = Cut.RST) -> None:
        """Break it once `more_bytes` further bytes have gone that way."""
        self.flow(direction).cut_after(more_bytes, cut)

    async def join(self, target: Target) -> None:
        """Dial, start TLS where asked, then forward what came early. Ends the hop on failure."""
        try:
            async with asyncio.timeout(DIAL_S_MAX):
                await self._start_client_tls(target)
                await self._dial(target)
        except (OSError, TimeoutError, ssl.SSLError):
            self.owner.dial_failed()
            self._forget_server()
            self.end(reset=False)
            return
        except asyncio.CancelledError:
            self._forget_server()
            self.end(reset=True)
            raise
        if not self.alive:
            self.end(reset=True)
            return
        self.client.other, self.server.other = self.server, self.client
        self.joined = True
        for half in (self.client, self.server):
            if half.early:
                half.flow.feed(bytes(half.early))
                half.early.clear()
            if half.ended:
                half.flow.feed_end()

    def _forget_server(self) -> None:
        # uvloop closes the socket of a cancelled dial without calling connection_lost.
        if self.server.transport is not None:
            self.server.transport.abort()
            self.server.transport = None

    async def _start_client_tls(self, target: Target) -> None:
        if target.client_tls is None or target.client_tls_start is TlsStart.DIRECT:
            return  # direct TLS was started by the listener
        request = await self._preamble(self.client)
        if request != _SSL_REQUEST:
            raise ConnectionError("expected an SSLRequest")
        self.client.write(b"S")
        await self._start_tls(self.client, target.client_tls, server_side=True)

    async def _dial(self, target: Target) -> None:
        loop = asyncio.get_running_loop()
        direct = target.tls if target.tls_start is TlsStart.DIRECT else None
        name = target.server_name if direct else None
        if isinstance(target.address, Path):
            await loop.create_unix_connection(
                lambda: self.server, str(target.address), ssl=direct, server_hostname=name
            )
        else:
            host, port = target.address
            await loop.create_connection(
                lambda: self.server, host, port, ssl=direct, server_hostname=name
            )
        if target.tls is not None and direct is None:
            self.server.write(_SSL_REQUEST)
            if await self._preamble(self.server) != b"S":
                raise ConnectionError("the server refused TLS")
            await self._start_tls(self.server, target.tls, server_name=target.server_name)

    async def _preamble(self, half: _Half) -> bytes:
        if half.early:
            data = bytes(half.early)
            half.early.clear()
            return data
        half.preamble = asyncio.get_running_loop().create_future()
        return await half.preamble

    async def _start_tls(
        self,
        half: _Half,
        context: ssl.SSLContext,
        *,
        server_side: bool = False,
        server_name: str | None = None,
    ) -> None:
        assert half.transport is not None, "TLS on a closed half"
        half.transport = await asyncio.get_running_loop().start_tls(
            half.transport, half, context, server_side=server_side, server_hostname=server_name
        )

    def half_lost(self, half: _Half) -> None:
        """A half's socket is gone: the other end hears of it the same way, unless all is silent."""
        other = half.other
        if other is not None and other.transport is not None and self.alive:
            if not half.ended and not half.flow.silent:
                _reset(other.transport)
            elif half.wrote_end:
                other.transport.close()
        self._finish_if_gone()

    def end(self, *, reset: bool) -> None:
        """Close both sockets, once what was written has left: by FIN, or by a reset."""
        self.alive = False
        self.to_client.stop()
        self.to_server.stop()
        self._close_flushed(reset, self._loop.time() + FLUSH_S_MAX, TLS_FLUSH_TURNS)

    def _close_flushed(self, reset: bool, deadline_s: float, turns: int) -> None:
        halves = [half for half in (self.client, self.server) if half.transport is not None]
        pending = any(half.transport.get_write_buffer_size() for half in halves if half.transport)
        # uvloop sends at the end of a loop turn, and a TLS transport does not count what it has
        # handed to the socket's: a reset at once would take back bytes that "have passed".
        pending = pending or (turns > 0 and any(half.tls() for half in halves))
        if pending and self._loop.time() < deadline_s:
            self._loop.call_soon(self._close_flushed, reset, deadline_s, turns - 1)
            return
        for half in halves:
            assert half.transport is not None, "filtered above"
            if reset:
                _reset(half.transport)
            elif half.tls():
                half.transport.abort()  # no close_notify: that is the point of a cut
            else:
                half.transport.close()
        self._finish_if_gone()

    def _finish_if_gone(self) -> None:
        if self.client.transport is None and self.server.transport is None:
            self.alive = False
            self.to_client.stop()
            self.to_server.stop()
            self.closed.set()
            self.owner.hop_closed(self)


def _reset(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
