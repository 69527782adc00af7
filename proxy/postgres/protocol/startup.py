"""The first packets of a client: TLS or GSSAPI asked for, a cancel, or a start-up.

Owns their shapes, their bounds and the refusals the server has for them. Does not know what the
route allows: TLS, replication and the database are decided by the runtime.
Source: PostgreSQL documentation, "Message Flow" (Start-up, SSL session encryption, GSSAPI session
encryption, Cancelling) and backend_startup.c, ProcessStartupPacket.
"""

from dataclasses import dataclass, field
from struct import Struct

from proxy.core.errors import PeerProtocolError
from proxy.postgres.protocol import messages, say
from proxy.postgres.protocol.messages import (
    CANCEL_REQUEST_CODE,
    GSS_REQUEST_CODE,
    PROTOCOL_MAJOR,
    SSL_REQUEST_CODE,
)
from proxy.postgres.protocol.say import Said

STARTUP_BYTES_MAX = 10_000
"""MAX_STARTUP_PACKET_LENGTH of the server."""

MINOR_NEWEST = 2
"""The newest 3.x spoken here: 3.2, PostgreSQL 18. 3.1 was never released; served as 3.0."""

TLS_HANDSHAKE = 0x16
"""First byte of a TLS ClientHello: sslnegotiation=direct."""

_HEAD = Struct(">II")
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True)
class NeedMore:
    """The packet is not whole yet: read on, within the login's time limit."""


@dataclass(frozen=True, slots=True)
class DirectTls:
    """A TLS handshake without SSLRequest. All bytes belong to TLS; ALPN must be `postgresql`."""


@dataclass(frozen=True, slots=True)
class SslRequest:
    """Answer b"S" and start TLS, or b"N". It was the only thing in the buffer."""


@dataclass(frozen=True, slots=True)
class GssRequest:
    """Answer b"N". It was the only thing in the buffer."""


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Cancel what the session with this key runs, and close without an answer."""

    pid: int
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Send `wire`, a FATAL, and close."""

    wire: Said


@dataclass(frozen=True, slots=True)
class Startup:
    """A start-up that follows the protocol.

    `params`: all parameters as sent, without `_pq_.` options; `size`: bytes taken from the buffer.
    """

    minor: int
    requested_minor: int
    user: bytes
    database: bytes
    replication: bool
    params: dict[bytes, bytes] = field(repr=False)
    unknown_options: tuple[bytes, ...]
    size: int

    def settings(self) -> dict[bytes, bytes]:
        """What decides how a link starts, besides user and database: `options` and settings."""
        ours = (b"user", b"database", b"replication")
        return {name: value for name, value in self.params.items() if name not in ours}

    def negotiation(self) -> bytes:
        """NegotiateProtocolVersion if the client asked for more than we speak, else b"".

        To be sent before any authentication request.
        """
        if self.requested_minor <= MINOR_NEWEST and not self.unknown_options:
            return b""
        return messages.negotiate_protocol_version(self.minor, self.unknown_options)


First = NeedMore | DirectTls | SslRequest | GssRequest | CancelRequest | Startup | Refuse


def read_first(buf: bytes, ssl_done: bool = False, gss_done: bool = False) -> First:
    """What the client opens with. Never raises.

    `ssl_done`, `gss_done`: that request was answered already, with yes or no; as at the server a
    second one is refused, which bounds the exchange. Call again with the bytes that follow.
    """
    if buf[:1] == b"\x16" and not ssl_done and not gss_done:
        return DirectTls()
    if len(buf) < 4:
        return NeedMore()
    size = int.from_bytes(buf[:4])
    if not 8 <= size <= STARTUP_BYTES_MAX:
        return Refuse(say.login_violation("invalid length of startup packet"))
    if len(buf) < size:
        return NeedMore()
    code = _HEAD.unpack_from(buf)[1]
    if code == CANCEL_REQUEST_CODE:
        return _cancel(buf, size)
    if code == SSL_REQUEST_CODE and not ssl_done:
        return _encryption_request(SslRequest(), "SSL", size, len(buf))
    if code == GSS_REQUEST_CODE and not gss_done:
        return _encryption_request(GssRequest(), "GSSAPI encryption", size, len(buf))
    if code >> 16 != PROTOCOL_MAJOR:
        return Refuse(say.unsupported_protocol(code >> 16, code & 0xFFFF))
    return _startup(buf, size, code & 0xFFFF)


def _encryption_request(asked: First, name: str, size: int, received: int) -> First:
    if size != 8:
        return Refuse(say.login_violation("invalid length of startup packet"))
    if received == size:
        return asked
    # Bytes sent in clear before the handshake would be read as if they had come through TLS
    # (CVE-2021-23214 at the server).
    return Refuse(
        say.login_violation(
            f"received unencrypted data after {name} request",
            "This could be either a client-software bug or evidence of an attempted"
            " man-in-the-middle attack.",
        )
    )


def _cancel(buf: bytes, size: int) -> First:
    # 4 bytes of secret in protocol 3.0, up to 256 in 3.2.
    if not 16 <= size <= 12 + 256:
        return Refuse(say.login_violation("invalid length of query cancel packet"))
    return CancelRequest(int.from_bytes(buf[8:12]), buf[12:size])


def _startup(buf: bytes, size: int, requested_minor: int) -> First:
    try:
        pairs, end = _pairs(buf, size)
    except PeerProtocolError:
        end, pairs = -1, {}
    if end != size:
        return Refuse(
            say.login_violation("invalid startup packet layout: expected terminator as last byte")
        )
    # Names of protocol extensions have this prefix; none exists that we know.
    unknown = tuple(name for name in pairs if name.startswith(b"_pq_."))
    params = {name: value for name, value in pairs.items() if not name.startswith(b"_pq_.")}
    user = params.get(b"user", b"")
    if not user:
        return Refuse(say.no_user())
    replication = _replication(params.get(b"replication", b"off"))
    if replication is None:
        return Refuse(say.login_violation('invalid value for parameter "replication"', "", "22023"))
    return Startup(
        minor=MINOR_NEWEST if requested_minor >= MINOR_NEWEST else 0,
        requested_minor=requested_minor,
        user=user,
        database=params.get(b"database") or user,
        replication=replication,
        params=params,
        unknown_options=unknown,
        size=size,
    )


def _pairs(buf: bytes, size: int) -> tuple[dict[bytes, bytes], int]:
    """(parameters, offset after the terminator); of a repeated name the last value counts."""
    pairs: dict[bytes, bytes] = {}
    pos = 8
    while True:
        name, pos = messages.cstring(buf, pos, size)
        if not name:
            return pairs, pos
        pairs[name], pos = messages.cstring(buf, pos, size)


def _replication(value: bytes) -> bool | None:
    """Whether a replication connection is asked for; None: the server would refuse the value.

    The server takes any unambiguous beginning of a boolean's name, and `database`.
    """
    word = value.decode("ascii", "replace").strip().lower()
    if word == "database":
        return True
    if not word or word == "o":
        return None
    if any(name.startswith(word) for name in _TRUE):
        return True
    if any(name.startswith(word) for name in _FALSE):
        return False
    return None
