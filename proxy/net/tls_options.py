"""What a TLS pump is told, and the errors of its own that it ends with (`proxy.net.tls`)."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass


class TruncatedStream(ConnectionError):
    """The peer closed TCP without close_notify: what was read may not be all it wrote."""


class HandshakeTimeout(ConnectionError):
    """The TLS handshake was not finished in time."""


@dataclass(frozen=True, slots=True)
class PumpOptions:
    """How to do TLS on one connection.

    `on_ready` is called once, in the loop: with None when the handshake is done (after
    connection_made on a fresh connection), or with the error that ended it.
    """

    context: ssl.SSLContext
    server_side: bool = False
    server_hostname: str | None = None
    handshake_timeout_s: float = 10.0
    on_ready: Callable[[Exception | None], None] | None = None
