"""CancelRequest towards the upstream: on a connection of its own, over TLS if the link is.

The link is not handed to another session before the server has closed that connection, which it
does once the signal is sent (PostgreSQL documentation, "Canceling Requests in Progress").
"""

import asyncio

from proxy.core.errors import ProxyError
from proxy.core.events import Events
from proxy.net.contexts import client_context
from proxy.net.dial import DialOptions, TlsOptions, adopt, connect, exchange
from proxy.postgres.protocol import messages
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.options import UpstreamOptions

CANCEL_S = 5.0


class _UntilClosed(asyncio.Protocol):
    """Waits for the end of a connection."""

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)


async def cancel(link: Link, events: Events) -> None:
    """Ask the server to cancel what `link` runs. Never raises: a cancel is a wish."""
    link.cancel_begins()
    try:
        async with asyncio.timeout(CANCEL_S):
            await _deliver(link, link.options)
    except (TimeoutError, ProxyError, OSError) as error:
        events("cancel_failed", level="warning", pid=link.pid, error=type(error).__name__)
    finally:
        link.cancel_ends()


async def _deliver(link: Link, options: UpstreamOptions | None) -> None:
    if options is None or link.host is None or not link.secret:
        return  # a pooler that gives no key cannot be asked
    dial = DialOptions(CANCEL_S, options.keepalive)
    sock = await connect(link.peer or link.host.address, dial)
    wrap = None
    try:
        context = client_context(options.tls) if link.over_tls else None
        if context is not None:
            if not options.direct_tls and await exchange(sock, messages.ssl_request(), 1) != b"S":
                sock.close()
                return
            wrap = TlsOptions(context, link.host.tls_name, CANCEL_S)
    except BaseException:
        sock.close()
        raise
    transport, waiter = await adopt(sock, _UntilClosed, wrap)
    try:
        transport.write(messages.cancel_request(link.pid, link.secret))
        await waiter.closed
    finally:
        transport.abort()
