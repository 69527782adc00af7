"""The way to a host, measured step by step: name, TCP, TLS. Blocking, each step bounded.

Nothing is sent but what begins TLS. The TLS handshake here is our own, and it verifies: it tells
what a client that verifies would find, whatever the application's URL asks for.
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proxy.diagnose.facts import Failure, TlsFacts
from proxy.diagnose.threads import within

SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"


@dataclass(frozen=True, slots=True)
class Place:
    """Where to dial. `path`: a Unix socket. `hostaddr`: the address, if no name is to be asked."""

    host: str = ""
    port: int = 0
    path: str = ""
    hostaddr: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Way:
    """A TCP connection that worked, closed again. `address` is the one that answered."""

    address: str
    dns_s: float | None
    tcp_s: float


class Unreachable(Exception):
    """The place cannot be reached; `failure` says where it ended."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class TlsWish:
    """How the application wants TLS. `ca`: a file, "system", or "" for the machine's own."""

    ca: str = ""
    postgres: bool = False
    """TLS begins after an SSLRequest."""
    cert: str = ""
    key: str = ""
    key_password: str = ""


def reach(place: Place, timeout_s: float) -> Way:
    """Connect by TCP or to the Unix socket, and close. Raises Unreachable."""
    if place.path:
        link, tcp_s = dial_unix(place.path, timeout_s)
        link.close()
        return Way("", None, tcp_s)
    addresses, dns_s = resolve(place, timeout_s)
    failure = None
    for address in addresses:
        try:
            link, tcp_s = dial(address, place.port, timeout_s)
        except Unreachable as error:
            failure = failure or error.failure
            continue
        link.close()
        return Way(address, dns_s, tcp_s)
    assert failure is not None, "a name has at least one address"
    raise Unreachable(failure)


def resolve(place: Place, timeout_s: float) -> tuple[list[str], float | None]:
    """(addresses, seconds that took). Raises Unreachable. An address is not asked for: None."""
    host = place.hostaddr or place.host
    with contextlib.suppress(OSError):
        flags = socket.AI_NUMERICHOST
        return _addresses(
            socket.getaddrinfo(host, place.port, 0, socket.SOCK_STREAM, 0, flags)
        ), None
    began_s = time.perf_counter()
    try:
        found = within(
            lambda: socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM), timeout_s
        )
    except TimeoutError:
        text = f"no answer to the name {host}"
        raise Unreachable(Failure("dns", "timeout", text, timeout_s)) from None
    except (OSError, UnicodeError) as error:
        words = error.strerror if isinstance(error, OSError) else None
        text = f"the name {host} has no address ({words or 'not a host name'})"
        took_s = time.perf_counter() - began_s
        raise Unreachable(Failure("dns", "unknown-host", text, took_s)) from None
    return _addresses(found), time.perf_counter() - began_s


def _addresses(found: Sequence[tuple[Any, ...]]) -> list[str]:
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def dial(address: str, port: int, timeout_s: float) -> tuple[socket.socket, float]:
    """(a connected socket, seconds). Raises Unreachable."""
    began_s = time.perf_counter()
    try:
        link = socket.create_connection((address, port), timeout_s)
    except OSError as error:
        raise Unreachable(_tcp_failure(error, f"{address} port {port}", began_s)) from None
    return link, time.perf_counter() - began_s


def dial_unix(path: str, timeout_s: float) -> tuple[socket.socket, float]:
    """The same for a Unix socket; a leading @ is Linux's abstract namespace."""
    began_s = time.perf_counter()
    link = socket.socket(socket.AF_UNIX)
    link.settimeout(timeout_s)
    try:
        link.connect(path.replace("@", "\0", 1) if path.startswith("@") else path)
    except OSError as error:
        link.close()
        raise Unreachable(_tcp_failure(error, path, began_s)) from None
    return link, time.perf_counter() - began_s


def _tcp_failure(error: OSError, where: str, began_s: float) -> Failure:
    took_s = time.perf_counter() - began_s
    if isinstance(error, TimeoutError):
        return Failure("tcp", "timeout", f"{where} does not answer", took_s)
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return Failure("tcp", "refused", f"nothing listens on {where}", took_s)
    return Failure("tcp", "other", f"{where}: {error.strerror or type(error).__name__}", took_s)


# ---- TLS ----------------------------------------------------------------------------------------


def look_at_tls(place: Place, address: str, wish: TlsWish, timeout_s: float) -> TlsFacts:
    """What TLS is like there. Never raises for what the server does: `why_not` says it."""
    facts = TlsFacts()
    try:
        context = verifying_context(wish)
    except (OSError, ssl.SSLError) as error:
        context = None
        facts.verified = False
        facts.why_not = f"a file of the URL cannot be used: {error.strerror or error.args[-1]}"
    if context is not None:
        _shake(facts, place, address, (context, wish, timeout_s))
    if facts.verified is False and facts.offered is not False:
        blind = ssl.create_default_context()
        blind.check_hostname = False
        blind.verify_mode = ssl.CERT_NONE
        _load_own(blind, wish)
        _shake(facts, place, address, (blind, wish, timeout_s))
    return facts


def verifying_context(wish: TlsWish) -> ssl.SSLContext:
    """A context that checks chain and name. Raises OSError or SSLError for bad files."""
    context = ssl.create_default_context(cafile=wish.ca if wish.ca not in ("", "system") else None)
    _load_own(context, wish)
    return context


def _load_own(context: ssl.SSLContext, wish: TlsWish) -> None:
    if wish.cert:
        with contextlib.suppress(OSError, ssl.SSLError):
            context.load_cert_chain(wish.cert, wish.key or None, wish.key_password or None)


def _shake(
    facts: TlsFacts, place: Place, address: str, how: tuple[ssl.SSLContext, TlsWish, float]
) -> None:
    """One handshake, and what it showed."""
    context, wish, timeout_s = how
    verifies = context.verify_mode is not ssl.CERT_NONE
    try:
        link, _ = dial(address, place.port, timeout_s)
    except Unreachable as error:
        facts.why_not = facts.why_not or str(error)
        return
    with link:
        try:
            if wish.postgres:
                link.sendall(SSL_REQUEST)
                if link.recv(1) != b"S":
                    facts.offered = False
                    return
            with context.wrap_socket(link, server_hostname=place.host) as tls:
                facts.offered = True
                facts.version, facts.cipher = tls.version() or "", (tls.cipher() or ("",))[0]
                if verifies:
                    facts.verified = True
                    facts.expires_days = _days_left(tls.getpeercert() or {})
        except ssl.SSLCertVerificationError as error:
            facts.verified = False
            facts.why_not = error.verify_message
        except (OSError, ValueError) as error:
            if verifies:
                facts.verified = False
            facts.why_not = facts.why_not or _words(error)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "the handshake failed").replace("_", " ").lower()
    return "the connection was closed" if isinstance(error, ConnectionError) else str(error)


def _days_left(certificate: Mapping[str, object]) -> float | None:
    ends = certificate.get("notAfter")
    if not isinstance(ends, str):
        return None
    left_s = ssl.cert_time_to_seconds(ends) - datetime.now(UTC).timestamp()
    return round(left_s / 86_400, 1)
