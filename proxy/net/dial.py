"""Upstream connections: resolve, connect, speak before the protocol starts, hand over to the loop.

    sock = await connect(address, options)
    answer = await exchange(sock, SSL_REQUEST, 1)          # PostgreSQL only
    transport, protocol = await adopt(sock, factory, tls)

Every error is an UpstreamUnavailable (waiting may help), except a certificate that does not
verify, which is an UpstreamRefused: holding and dialling again will not change it.

Must not know: protocols, settings, pools. Whoever dials bounds the whole with its own timeout; the
timeouts here bound one step each.
"""

import asyncio
import errno
import ipaddress
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from proxy.core.errors import ProxyError, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.net.keepalive import Keepalive, tune
from proxy.net.owner import disown
from proxy.net.stream import StreamProtocol, as_asyncio, as_transport
from proxy.net.tls import HandshakeTimeout, PumpOptions, TlsPump, TruncatedStream

ADDRESSES_MAX = 8  # tried per dial, of those the name resolves to
_STAGGER_S = 0.25  # head start of an address over the next one: RFC 8305, section 8

ProtocolT = TypeVar("ProtocolT", bound=StreamProtocol)


@dataclass(frozen=True, slots=True)
class Address:
    """An upstream: host (name or literal) and port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        assert bool(self.path) != bool(self.host and self.port), "either host and port, or a path"

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class DialOptions:
    """How to connect. The timeout covers resolving and every address tried."""

    connect_timeout_s: float = 5.0
    keepalive: Keepalive | None = None


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """TLS for one dial: a context of `proxy.net.contexts`; the name for SNI and verification."""

    context: ssl.SSLContext
    server_hostname: str | None = None
    handshake_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class _Target:
    family: socket.AddressFamily
    sockaddr: object


async def connect(address: Address, options: DialOptions) -> socket.socket:
    """A connected, non-blocking socket; `getpeername()` says which address answered.

    Names are resolved at each dial, so a failover that moves a name is followed. Up to
    ADDRESSES_MAX addresses race, 250 ms apart, families alternating (RFC 8305).
    Raises UpstreamUnavailable.
    """
    try:
        async with asyncio.timeout(options.connect_timeout_s):
            targets = await _resolve(address)
            return await _race(address, targets, options)
    except TimeoutError as error:
        raise UpstreamUnavailable(
            f"{address} did not answer within {options.connect_timeout_s:g} s",
            Reason.UPSTREAM_SILENT,
        ) from error


async def exchange(sock: socket.socket, data: bytes, answer_bytes: int) -> bytes:
    """Sends `data` and returns the next `answer_bytes` bytes; reads never more than these.

    So nothing that a man in the middle put behind the answer is ever taken for something that came
    over TLS. Not bounded in time. Raises UpstreamUnavailable; the socket is then of no use.
    """
    loop = asyncio.get_running_loop()
    answer = b""
    try:
        await loop.sock_sendall(sock, data)
        while len(answer) < answer_bytes:
            part = await loop.sock_recv(sock, answer_bytes - len(answer))
            if not part:
                raise UpstreamUnavailable(
                    "the upstream closed the connection before it answered", Reason.UPSTREAM_EOF
                )
            answer += part
    except OSError as error:
        raise _lost(error) from error
    return answer


async def adopt(
    sock: socket.socket, protocol_factory: Callable[[], ProtocolT], tls: TlsOptions | None
) -> tuple[asyncio.Transport, ProtocolT]:
    """The loop's transport over `sock` (with TLS: a TlsPump, after its handshake) and its protocol.

    The socket belongs to the transport from here on, also when this raises. With TLS,
    `connection_made` comes after the handshake. Raises UpstreamUnavailable, UpstreamRefused.
    """
    if tls is None:
        return await _give_to_loop(sock, protocol_factory)
    protocol = protocol_factory()
    options = PumpOptions(
        tls.context,
        server_hostname=tls.server_hostname,
        handshake_timeout_s=tls.handshake_timeout_s,
    )
    pump = TlsPump(protocol, options)
    await _give_to_loop(sock, lambda: as_asyncio(pump))
    try:
        await pump.handshaken()
    except asyncio.CancelledError:
        pump.abort()
        raise
    except (OSError, ssl.SSLError) as error:
        # Its traceback names this frame, with the pump that keeps it: a cycle.
        raise handshake_error(error) from error.with_traceback(None)
    return as_transport(pump), protocol


def handshake_error(error: Exception) -> ProxyError:
    """What to raise for an error of TlsPump during the handshake (also after `TlsPump.upgrade`)."""
    match error:
        case ssl.SSLCertVerificationError():
            return UpstreamRefused(
                f"the upstream's certificate does not verify: {error.verify_message}",
                Reason.TLS_FAILED,
            )
        case HandshakeTimeout():
            return UpstreamUnavailable(str(error), Reason.UPSTREAM_SILENT)
        case TruncatedStream():
            return UpstreamUnavailable(
                "the upstream closed the connection during the TLS handshake", Reason.TLS_FAILED
            )
        case ssl.SSLError():
            why = (error.reason or "protocol error").replace("_", " ").lower()
            return UpstreamUnavailable(f"the TLS handshake failed: {why}", Reason.TLS_FAILED)
        case _:
            return _lost(error)


async def _give_to_loop(
    sock: socket.socket, factory: Callable[[], ProtocolT]
) -> tuple[asyncio.Transport, ProtocolT]:
    loop = asyncio.get_running_loop()
    protocol = factory()
    made = partial(as_asyncio, protocol)
    try:
        if sock.family is socket.AF_UNIX:
            transport, _ = await loop.create_unix_connection(made, sock=sock)
        else:
            transport, _ = await loop.create_connection(made, sock=sock)
        return transport, protocol
    except OSError as error:
        raise _lost(error) from error
    finally:
        disown(sock)


async def _resolve(address: Address) -> list[_Target]:
    """The addresses to try, in order, at most ADDRESSES_MAX."""
    if address.path:
        return [_Target(socket.AF_UNIX, address.path)]
    literal = _literal(address)
    if literal is not None:
        return [literal]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise UpstreamUnavailable(
            f"{address.host}: {error.strerror or error}", Reason.UPSTREAM_UNREACHABLE
        ) from error
    targets = [
        _Target(family, sockaddr)
        for family, _, _, _, sockaddr in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]
    if not targets:
        raise UpstreamUnavailable(f"{address.host} has no address", Reason.UPSTREAM_UNREACHABLE)
    return _alternate(targets)[:ADDRESSES_MAX]


def _literal(address: Address) -> _Target | None:
    """The target of an IP literal, which needs no resolver (and none of its few threads)."""
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        return None
    if version == 4:
        return _Target(socket.AF_INET, (address.host, address.port))
    return None if "%" in address.host else _Target(socket.AF_INET6, (address.host, address.port))


def _alternate(targets: list[_Target]) -> list[_Target]:
    """The resolver's order, families alternating from the first one's: RFC 8305, section 4."""
    first = [target for target in targets if target.family is targets[0].family]
    second = [target for target in targets if target.family is not targets[0].family]
    result: list[_Target] = []
    for index in range(max(len(first), len(second))):
        result += first[index : index + 1] + second[index : index + 1]
    return result


async def _race(address: Address, targets: list[_Target], options: DialOptions) -> socket.socket:
    """The first socket that connects.

    A target is tried 250 ms after the one before, or as soon as that failed. When this returns or
    raises, all attempts have ended and every socket but the winner is closed.
    """
    if len(targets) == 1:
        try:
            return await _attempt(targets[0], options)
        except OSError as error:
            raise _unreachable(address, [error]) from error
    race = _Race(options)
    try:
        winner = await race.run(targets)
    finally:
        await race.end()
    if winner is None:
        raise _unreachable(address, race.errors) from race.errors[0]
    return winner


class _Race:
    """The attempts of one dial, at most ADDRESSES_MAX at a time."""

    def __init__(self, options: DialOptions) -> None:
        self._options = options
        self._attempts: set[asyncio.Task[socket.socket]] = set()
        self._winner: socket.socket | None = None
        self.errors: list[OSError] = []

    async def run(self, targets: list[_Target]) -> socket.socket | None:
        loop = asyncio.get_running_loop()
        waiting = list(reversed(targets))
        while (waiting or self._attempts) and self._winner is None:
            if waiting:
                self._attempts.add(loop.create_task(_attempt(waiting.pop(), self._options)))
            done, self._attempts = await asyncio.wait(
                self._attempts,
                timeout=_STAGGER_S if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            self._collect(done)
        winner, self._winner = self._winner, None
        return winner

    async def end(self) -> None:
        """Ends what still runs; a second winner, and the winner of a cancelled race, are closed."""
        for attempt in self._attempts:
            attempt.cancel()
        if self._attempts:
            done, _ = await asyncio.wait(self._attempts)
            self._collect(done)
        if self._winner is not None:
            self._winner.close()

    def _collect(self, done: set[asyncio.Task[socket.socket]]) -> None:
        for attempt in done:
            if attempt.cancelled():
                continue
            error = attempt.exception()
            if error is None:
                if self._winner is None:
                    self._winner = attempt.result()
                else:
                    attempt.result().close()
            elif isinstance(error, OSError):
                self.errors.append(error)
            else:
                raise error


async def _attempt(target: _Target, options: DialOptions) -> socket.socket:
    """A socket connected to `target`. Raises OSError."""
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if target.family is not socket.AF_UNIX:
            tune(sock, options.keepalive)
        await asyncio.get_running_loop().sock_connect(sock, target.sockaddr)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def _unreachable(address: Address, errors: list[OSError]) -> UpstreamUnavailable:
    """One error for all attempts: each distinct cause once, in order."""
    causes = list(dict.fromkeys(_cause(error) for error in errors))
    silent = all(error.errno == errno.ETIMEDOUT for error in errors)
    reason = Reason.UPSTREAM_SILENT if silent else Reason.UPSTREAM_UNREACHABLE
    return UpstreamUnavailable(f"cannot connect to {address}: {', '.join(causes)}", reason)


def _cause(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def _lost(error: Exception) -> UpstreamUnavailable:
    """The error of a connection that was there and went away."""
    cause = _cause(error) if isinstance(error, OSError) else str(error)
    silent = isinstance(error, OSError) and error.errno == errno.ETIMEDOUT
    reason = Reason.UPSTREAM_SILENT if silent else Reason.UPSTREAM_RESET
    return UpstreamUnavailable(f"the upstream connection was lost: {cause}", reason)
