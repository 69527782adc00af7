"""An upstream connection, logged in: what the pool keeps and a session is attached to.

A link is in one phase. OPENING: login, identity. IDLE: in the pool. ASKING: it answers something
the proxy asked (restore, ping, cleaning). ATTACHED: its bytes go to a session. CLOSED.

Owns: the transport, what the server says of itself, the way a loss is noticed. Must not know:
sessions beyond the callable that takes the bytes, how a loss is judged.
"""

import asyncio
from enum import Enum, auto
from typing import TYPE_CHECKING

from proxy.core.errors import PeerProtocolError, UpstreamUnavailable
from proxy.core.numbers import link_number
from proxy.core.reasons import Reason
from proxy.net.drain import LastWords
from proxy.net.tls import TruncatedStream
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.framing import Mark, scan, whole_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.net.dial import Address
    from proxy.postgres.runtime.counters import Traffic
    from proxy.postgres.runtime.options import Host, UpstreamOptions

ANSWER_BYTES_MAX = 8 << 20  # of all that the proxy asks for itself


class Phase(Enum):
    OPENING = auto()
    IDLE = auto()
    ASKING = auto()
    ATTACHED = auto()
    CLOSED = auto()


LEGAL: dict[Phase, frozenset[Phase]] = {
    Phase.OPENING: frozenset({Phase.IDLE, Phase.ASKING, Phase.CLOSED}),
    Phase.IDLE: frozenset({Phase.ASKING, Phase.ATTACHED, Phase.CLOSED}),
    Phase.ASKING: frozenset({Phase.IDLE, Phase.ATTACHED, Phase.CLOSED}),
    Phase.ATTACHED: frozenset({Phase.IDLE, Phase.ASKING, Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}

Message = tuple[int, bytes]  # type and body


class Link:
    """One upstream connection. `receive` is whoever takes its bytes now.

    An asyncio.Protocol in all but name: a compiled class has no interpreted base.
    """

    __slots__ = (
        "_answer",
        "_buffer",
        "_future",
        "_heard",
        "_no_cancels",
        "_readies",
        "backend_start",
        "cancelled_once",
        "cancels",
        "expires_s",
        "fatal",
        "given_bytes",
        "got_bytes",
        "host",
        "in_recovery",
        "last_words",
        "number",
        "on_lost",
        "on_writable",
        "opened_s",
        "options",
        "over_tls",
        "params",
        "peer",
        "phase",
        "pid",
        "pinged_s",
        "pooler",
        "proven_s",
        "reason",
        "receive",
        "secret",
        "stale",
        "startup",
        "traffic",
        "transport",
        "used_s",
    )

    def __init__(self) -> None:
        self.number = link_number()
        self.phase = Phase.OPENING
        self.receive: Callable[[bytes], None] = self._unexpected
        self.on_lost: Callable[[Link], None] | None = None
        self.on_writable: Callable[[bool], None] | None = None
        self.transport: asyncio.Transport | None = None
        self.last_words: LastWords | None = None
        self.given_bytes = 0  # handed to the transport since connection_made
        self.got_bytes = 0
        self.traffic: Traffic | None = None  # of all links of its upstream that have ended
        self.reason: Reason | None = None  # why it died, once it has
        self.fatal: dict[str, str] | None = None
        self.params: dict[bytes, bytes] = {}
        self.pid = 0
        self.secret = b""
        self.backend_start: str | None = None  # as the server writes it with these settings
        self.startup: tuple[tuple[bytes, bytes], ...] = ()
        self.in_recovery = False  # as of its login
        self.pooler = False  # what answers is not the backend itself
        self.host: Host | None = None
        self.options: UpstreamOptions | None = None  # it was opened with these
        self.peer: Address | None = None  # which of the host's addresses answered, if it is a name
        self.over_tls = False
        self.opened_s = self.used_s = self.expires_s = 0.0
        self.pinged_s = 0.0
        self.proven_s = 0.0  # when it last gave a sign of life to somebody who asked for one
        self.cancels = 0  # cancel requests under way for it
        self.cancelled_once = False  # one was sent, and nothing was asked since
        self._no_cancels: asyncio.Event | None = None
        self.stale: Reason | None = None  # why it is to be left at the next boundary
        self._buffer = bytearray()
        self._heard: bytearray | None = None  # notifications, of whoever is attached; None: nobody
        self._answer: list[Message] = []
        self._readies = 0
        self._future: asyncio.Future[list[Message]] | None = None

    @property
    def address(self) -> str:
        """Where it leads, for people."""
        return str(self.host.address) if self.host is not None else ""

    @property
    def closed(self) -> bool:
        return self.phase is Phase.CLOSED

    def become(self, phase: Phase) -> None:
        """The one place where the phase changes."""
        assert phase in LEGAL[self.phase], f"{self.phase} → {phase}"
        self.phase = phase

    def _end(self) -> None:
        self.become(Phase.CLOSED)
        if self.traffic is not None:
            self.traffic.sent += self.given_bytes
            self.traffic.received += self.got_bytes

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self.transport = transport  # type: ignore[assignment]
        self.last_words = LastWords(transport)

    def data_received(self, data: bytes) -> None:
        self.got_bytes += len(data)
        self.receive(data)

    def eof_received(self) -> bool:
        return False  # a server that says no more is of no use: close, which tells connection_lost

    def connection_lost(self, exc: Exception | None) -> None:
        if self.closed:
            return
        if self.last_words is not None:
            rest = self.last_words.read_rest()
            if rest:
                self._receive_last(rest)
        self.lose(_reason_of(exc))

    def pause_writing(self) -> None:
        if self.on_writable is not None:
            self.on_writable(False)

    def resume_writing(self) -> None:
        if self.on_writable is not None:
            self.on_writable(True)

    def _receive_last(self, rest: bytes) -> None:
        try:
            self.receive(rest)
        except PeerProtocolError as error:
            self.lose(error.reason)

    # -- life

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport; to none if it is closing, as its end will be told."""
        assert self.transport is not None
        self.given_bytes += len(data)
        if not self.transport.is_closing():  # uvloop raises on a closed one
            self.transport.write(data)

    def lose(self, reason: Reason) -> None:
        """The link is of no use any more, for this reason; whoever holds it is told, once."""
        if self.phase is Phase.CLOSED:
            return
        self.reason = reason
        self._end()
        if self.transport is not None:
            self.transport.abort()
        future, self._future = self._future, None
        if future is not None and not future.done():
            future.set_exception(UpstreamUnavailable(self.epitaph(), reason))
        on_lost, self.on_lost = self.on_lost, None
        self.receive = _nobody
        self.on_writable = None
        if on_lost is not None:
            on_lost(self)

    def close(self, reason: Reason) -> None:
        """End the link in the protocol's way; nobody needs to be told."""
        if self.phase is Phase.CLOSED:
            return
        self.reason = reason
        self.on_lost = None
        self.on_writable = None
        self.receive = _nobody
        self._end()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(messages.terminate())
            self.transport.close()
        if self._future is not None and not self._future.done():
            self._future.set_exception(UpstreamUnavailable("the link was closed", reason))
            self._future = None

    def cancel_begins(self) -> None:
        """A CancelRequest for this link is under way: it must not change hands."""
        self.cancels += 1
        self.cancelled_once = True

    def cancel_ends(self) -> None:
        self.cancels -= 1
        if not self.cancels and self._no_cancels is not None:
            self._no_cancels.set()

    async def cancels_over(self) -> None:
        """Returns when no CancelRequest is under way for the link."""
        while self.cancels:
            self._no_cancels = asyncio.Event()
            await self._no_cancels.wait()

    def keep_rest(self, rest: bytes) -> None:
        """The start of a message, of which whoever was attached has made nothing."""
        self._buffer += rest

    def take_rest(self) -> bytes:
        """What came for whoever is attached now: notifications, and the start of a message."""
        rest = bytes(self._heard or b"") + self._buffer
        self._heard = None
        self._buffer.clear()
        return bytes(rest)

    def epitaph(self) -> str:
        """Why it died, for logs and details; the server's own words first."""
        if self.fatal is not None:
            return self.fatal.get("M", "")
        return (self.reason or Reason.UPSTREAM_EOF).value.replace("_", " ")

    def _unexpected(self, data: bytes) -> None:
        """Bytes while nobody asked: the server's news, or its last words."""
        self._collect(data)

    # -- asking in the proxy's own name

    async def ask(self, data: bytes, readies: int, timeout_s: float) -> list[Message]:
        """The server's answer to messages of the proxy: every message up to the last Ready.

        Errors of the server are in the answer. ParameterStatus is taken note of. Notifications are
        not in it: they go to the session that is attached next (take_rest). The link must be
        IDLE or freshly opened. Raises UpstreamUnavailable when it is lost or does not answer; also
        if it was lost before, as it may be between an answer and whoever awaits it.
        """
        if self.phase is Phase.CLOSED:
            raise UpstreamUnavailable(self.epitaph(), self.reason or Reason.UPSTREAM_EOF)
        assert self._future is None, "one question at a time"
        self.become(Phase.ASKING)
        self._future = asyncio.get_running_loop().create_future()
        self._answer = []
        self._heard = self._heard or bytearray()
        self._readies = readies
        self.receive = self._collect
        self.write(data)
        future = self._future
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            self.lose(Reason.UPSTREAM_SILENT)
            raise UpstreamUnavailable(
                "the upstream did not answer", Reason.UPSTREAM_SILENT
            ) from None
        except asyncio.CancelledError:
            self.lose(Reason.SHUTDOWN)
            raise

    def watch(self) -> None:
        """Nobody is attached: take the server's news and notice its end."""
        self._heard = None
        self.receive = self._collect

    def _collect(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        if len(buffer) > ANSWER_BYTES_MAX:
            self.lose(Reason.UPSTREAM_PROTOCOL)
            return
        chunk = bytes(buffer)
        marks: list[Mark] = []
        try:
            end, _ = scan(chunk, 0, _EVERYTHING, marks)
            whole_bytes(chunk, end)
        except PeerProtocolError:
            self.lose(Reason.UPSTREAM_PROTOCOL)
            return
        del buffer[:end]
        for kind, start, stop in marks:
            try:
                self._take(kind, chunk[start + 5 : stop])
            except PeerProtocolError:
                self.lose(Reason.UPSTREAM_PROTOCOL)
            if self.phase is Phase.CLOSED:
                return

    def _take(self, kind: int, body: bytes) -> None:
        if kind == 0x53:  # ParameterStatus
            name, value = messages.read_parameter_status(body)
            self.params[name] = value
        elif kind == 0x45:  # ErrorResponse
            fields = messages.error_fields(body)
            if messages.is_fatal(fields):
                self.fatal = fields
                self.lose(Reason.UPSTREAM_FATAL)
                return
        elif kind == 0x41:  # NotificationResponse: may come behind the last Ready, too
            if self._heard is not None:
                self._heard += messages.message(b"A", body)
            return
        self._answer.append((kind, body))
        if kind != 0x5A:
            if self._future is None:
                self._answer.clear()
            return
        self._readies -= 1
        if self._readies == 0 and self._future is not None:
            future, self._future = self._future, None
            self.become(Phase.IDLE)
            if not future.done():
                future.set_result(self._answer)
            self._answer = []
        elif self._future is None:
            self.lose(Reason.UPSTREAM_PROTOCOL)


_EVERYTHING = bytes([1]) * 256


def _nobody(data: bytes) -> None:
    """Bytes of a link that is closed."""


def _reason_of(exc: Exception | None) -> Reason:
    if exc is None:
        return Reason.UPSTREAM_EOF
    if isinstance(exc, TruncatedStream):
        return Reason.UPSTREAM_EOF
    if isinstance(exc, TimeoutError):
        return Reason.UPSTREAM_SILENT
    return Reason.UPSTREAM_RESET


def errors_in(answer: list[Message]) -> dict[str, str] | None:
    """The fields of the first ErrorResponse in an answer, None if there is none."""
    for kind, body in answer:
        if kind == 0x45:
            return messages.error_fields(body)
    return None


def rows_in(answer: list[Message]) -> list[bytes]:
    """The bodies of the DataRows in an answer."""
    return [body for kind, body in answer if kind == 0x44]
