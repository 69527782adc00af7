"""A client's first bytes: encryption, cancel requests, the start-up packet, the login.

When the client has shown who it is, a Session takes over its transport. Until then it costs little,
is bounded in bytes and time, and tells nobody whether a user exists.

Owns: that exchange. Must not know: links, units, the session's life.
"""

import asyncio
import secrets
from enum import Enum, auto
from typing import TYPE_CHECKING

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.net.contexts import ServerTlsMode, server_context
from proxy.net.listen import close_gently, is_local
from proxy.net.stream import as_transport
from proxy.net.tls import PumpOptions, TlsPump
from proxy.postgres.protocol import keys, say, startup
from proxy.postgres.protocol.client_login import (
    MESSAGE_BYTES_MAX,
    Authenticated,
    ClientLogin,
    ClientPath,
    Method,
    Refused,
)
from proxy.postgres.protocol.framing import whole_bytes
from proxy.postgres.protocol.scram import NONCE_RANDOM_BYTES

if TYPE_CHECKING:
    from proxy.postgres.runtime.route import PostgresRoute

ALPN = "postgresql"
HANDSHAKE_S = 10.0
ENTRIES_SPARE = 100  # beyond pool.clients: for those who come to cancel, or to be told no


class Phase(Enum):
    FIRST = auto()  # reading the first packets
    SHAKING = auto()  # a TLS handshake is under way
    CANCELLING = auto()  # its CancelRequest is on its way to the server
    LOGIN = auto()
    OVER = auto()  # handed over, or refused


LEGAL: dict[Phase, frozenset[Phase]] = {
    Phase.FIRST: frozenset({Phase.SHAKING, Phase.CANCELLING, Phase.LOGIN, Phase.OVER}),
    Phase.SHAKING: frozenset({Phase.FIRST, Phase.OVER}),
    Phase.CANCELLING: frozenset({Phase.OVER}),
    Phase.LOGIN: frozenset({Phase.OVER}),
    Phase.OVER: frozenset(),
}


class Entry(asyncio.Protocol):
    """One client from its connection to its login."""

    def __init__(self, route: "PostgresRoute") -> None:
        self._route = route
        self._phase = Phase.FIRST
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._ssl_done = self._gss_done = False
        self._tls = False
        self._startup: startup.Startup | None = None
        self._login: ClientLogin | None = None
        self._timer: asyncio.TimerHandle | None = None

    def _become(self, phase: Phase) -> None:
        assert phase in LEGAL[self._phase], f"{self._phase} → {phase}"
        self._phase = phase

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        if len(self._route.entries) >= self._route.options.pool.clients + ENTRIES_SPARE:
            self._drop(Reason.TOO_MANY_CLIENTS)
            return
        self._route.entries.add(self)
        seconds = self._route.options.pool.login_timeout_s
        self._timer = asyncio.get_running_loop().call_later(seconds, self._too_late, seconds)

    def data_received(self, data: bytes) -> None:
        if self._phase in (Phase.CANCELLING, Phase.OVER):
            return
        self._buffer += data
        if self._phase is Phase.FIRST:
            self._read_first()
        if self._phase is Phase.LOGIN:
            self._read_login()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    # -- the first packets

    def _read_first(self) -> None:
        assert self._transport is not None
        first = startup.read_first(self._buffer, self._ssl_done, self._gss_done)
        match first:
            case startup.NeedMore():
                return
            case startup.SslRequest():
                self._buffer = b""
                self._ssl_done = True
                self._answer_ssl()
            case startup.GssRequest():
                self._buffer = b""
                self._gss_done = True
                self._transport.write(b"N")
            case startup.DirectTls():
                self._direct_tls()
            case startup.CancelRequest():
                self._cancel(first)
            case startup.Refuse():
                self.refuse(first.wire)
            case startup.Startup():
                self._started(first)

    def _answer_ssl(self) -> None:
        assert self._transport is not None
        if self._route.tls_mode is ServerTlsMode.DISABLE:
            self._transport.write(b"N")
            return
        self._transport.write(b"S")
        self._shake_hands(b"")

    def _direct_tls(self) -> None:
        if self._tls or self._ssl_done or self._route.tls_mode is ServerTlsMode.DISABLE:
            self._drop(Reason.TLS_FAILED)
            return
        received, self._buffer = self._buffer, b""
        self._shake_hands(received)

    def _shake_hands(self, received: bytes) -> None:
        """Put TLS under the protocol. Direct TLS must agree on ALPN (PostgreSQL 17)."""
        assert self._transport is not None and self._route.options.tls is not None
        context = server_context(self._route.options.tls)
        assert context is not None
        direct = bool(received)
        self._become(Phase.SHAKING)

        def ready(error: Exception | None) -> None:
            if self._phase is Phase.OVER:
                return
            if error is not None:
                self._drop(Reason.TLS_FAILED)
                return
            assert isinstance(self._transport, TlsPump)
            self._ssl_done = self._tls = True
            self._become(Phase.FIRST)
            if direct and self._transport.ssl_object.selected_alpn_protocol() != ALPN:
                text = "received direct SSL connection request without ALPN protocol negotiation"
                self.refuse(say.login_violation(text))

        options = PumpOptions(
            context, server_side=True, handshake_timeout_s=HANDSHAKE_S, on_ready=ready
        )
        raw = self._transport
        raw.pause_reading()
        pump = TlsPump.upgrade(raw, self, options, received)
        if self._phase is not Phase.OVER:
            self._transport = as_transport(pump)

    def _cancel(self, request: startup.CancelRequest) -> None:
        """Deliver it, then close: the client may take the end for "the server has been told"."""
        task = self._route.cancel(keys.of_request(request))
        if task is None:
            self._drop(Reason.CANCELLED)
        else:
            self._become(Phase.CANCELLING)
            task.add_done_callback(lambda _: self._drop(Reason.CANCELLED))

    def _started(self, first: startup.Startup) -> None:
        assert self._transport is not None
        route = self._route
        self._startup = first
        self._buffer = self._buffer[first.size :]
        refusal = route.refusal(first, self._tls)
        if refusal is not None:
            self.refuse(refusal)
            return
        local = is_local(self._transport)
        private = self._tls or local
        trusted = private and (local or route.options.auth.trust_anywhere)
        if route.rules.method is Method.TRUST and not trusted:
            self.refuse(say.password_failed(first.user))
            return
        path = ClientPath(tls=self._tls, private=private)
        random = secrets.token_bytes(NONCE_RANDOM_BYTES)
        self._login = ClientLogin(first.user, route.rules, path, random)
        self._become(Phase.LOGIN)
        self._transport.write(first.negotiation() + self._login.start())
        self._look_at_outcome()

    # -- the login

    def _read_login(self) -> None:
        assert self._login is not None and self._transport is not None
        while self._phase is Phase.LOGIN:
            try:
                size = whole_bytes(self._buffer)
            except PeerProtocolError:
                self.refuse(say.login_violation("invalid message length"))
                return
            if size > MESSAGE_BYTES_MAX:
                self.refuse(say.login_violation("invalid message length"))
                return
            if not size or size > len(self._buffer):
                return
            message, self._buffer = self._buffer[:size], self._buffer[size:]
            answer = self._login.feed(message[0], message[5:])
            if answer:
                self._transport.write(answer)
            self._look_at_outcome()

    def _look_at_outcome(self) -> None:
        assert self._login is not None and self._startup is not None
        match self._login.outcome:
            case None:
                return
            case Refused(wire):
                self._route.counters.logins_refused += 1
                self.refuse(wire)
            case Authenticated(credentials):
                console = self._route.console
                at_console = console.is_meant(self._startup)
                if self._route.full and not at_console:
                    self.refuse(say.too_many_clients(self._route.options.pool.clients))
                    return
                rest, transport = self._buffer, self._transport
                self._finish()
                assert transport is not None
                enter = console.enter if at_console else self._route.join
                enter(transport, self._startup, credentials, rest)

    # -- ends

    def refuse(self, wire: say.Said) -> None:
        """Say why not, and close."""
        if self._phase is Phase.OVER:
            return
        assert self._transport is not None
        self._route.count_error(wire)
        self._route.events("refused", level="info", reason=wire.reason, sqlstate=wire.sqlstate)
        self._transport.write(wire)
        close_gently(self._transport)
        self._finish()

    def _drop(self, reason: Reason) -> None:
        if self._phase is Phase.OVER:
            return
        if reason is not Reason.CANCELLED:
            self._route.events("refused", reason=reason)
        self._finish()  # first: the end of a handshake is reported here, too
        if self._transport is not None:
            self._transport.close()

    def _too_late(self, seconds: float) -> None:
        self._route.counters.logins_refused += 1
        if self._phase is Phase.SHAKING:
            self._drop(Reason.LOGIN_TIMEOUT)
        else:
            self.refuse(say.login_timeout(seconds))

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._phase is not Phase.OVER:
            self._become(Phase.OVER)
        self._route.entries.discard(self)
        self._buffer = b""
