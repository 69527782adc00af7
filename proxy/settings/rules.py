"""Rules between settings: what each field may be alone, yet not together. Pure.

All problems at once, each with the path of the setting to change.
"""

import ipaddress
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from proxy.settings.fields import ListenAddress
from proxy.settings.model import PostgresRoute, RedisRoute, Settings, Tls

Path = tuple[str | int, ...]
Route = PostgresRoute | RedisRoute


@dataclass(frozen=True, slots=True)
class Problem:
    """A mistake: the path of the setting and what was expected. Holds no secret."""

    path: Path
    message: str


def problems(settings: Settings) -> list[Problem]:
    """Every broken rule between settings; empty when they can be used."""
    routes: list[tuple[Path, Route]] = [
        *((("postgres", i), route) for i, route in enumerate(settings.postgres)),
        *((("redis", i), route) for i, route in enumerate(settings.redis)),
    ]
    found: list[Problem] = []
    if not routes:
        found.append(Problem((), "expected at least one route under postgres or redis"))
    for path, route in routes:
        found += _of_route(path, route)
    found += _duplicate_names(routes)
    found += _overlaps(routes, settings.admin.listen)
    found += _loops(routes)
    found += _workers(settings)
    return found


def _workers(settings: Settings) -> Iterator[Problem]:
    """Each worker needs a link of its own in every pool, and a place for a client."""
    for postgres in settings.postgres:
        least = min(postgres.pool.size, postgres.pool.clients)
        if settings.workers != "auto" and settings.workers > least:
            where = f"pool.size and pool.clients of {postgres.name} are shared out to them"
            yield Problem(("workers",), f"expected at most {least}: {where}")
            return


# ---- one route ----------------------------------------------------------------------------------


def _of_route(path: Path, route: Route) -> Iterator[Problem]:
    yield from _tls((*path, "tls"), route.tls)
    yield from _credentials(path, route)
    yield from _exposure(path, route)
    if isinstance(route, PostgresRoute):
        if route.pool.warm > route.pool.size:
            yield Problem((*path, "pool", "warm"), f"expected at most pool.size, {route.pool.size}")
    elif route.cache.max_entry_bytes > route.cache.max_bytes:
        yield Problem((*path, "cache", "max_entry_bytes"), "expected at most cache.max_bytes")


def _tls(path: Path, tls: Tls) -> Iterator[Problem]:
    if tls.mode != "disable":
        for name in ("cert", "key"):
            if getattr(tls, name) is None:
                yield Problem((*path, name), f"required with tls.mode {tls.mode}")
    if tls.mode == "verify-ca" and tls.client_ca is None:
        yield Problem((*path, "client_ca"), "required with tls.mode verify-ca")
    if tls.mode != "verify-ca" and tls.client_ca is not None:
        yield Problem((*path, "client_ca"), "has no effect: it needs tls.mode verify-ca")


def _credentials(path: Path, route: Route) -> Iterator[Problem]:
    upstream, method = route.upstream, route.auth_method
    proves = "scram-sha-256" if isinstance(route, PostgresRoute) else "password"
    if isinstance(route, PostgresRoute) and upstream.password and not upstream.user:
        yield Problem((*path, "upstream"), "a password is given, but no user")
    if isinstance(route, RedisRoute) and upstream.user and not upstream.password:
        yield Problem((*path, "upstream"), "a user is given, but no password")
    if method == proves and not upstream.password and not route.auth.users:
        message = f"{proves} needs a password in the upstream URL, or users"
        yield Problem((*path, "auth", "method"), message)
    if method != proves and route.auth.users:
        yield Problem((*path, "auth", "users"), f"has no effect: it needs auth.method {proves}")
    if method != "trust" and route.auth.trust_anywhere:
        message = "has no effect: it needs auth.method trust"
        yield Problem((*path, "auth", "trust_anywhere"), message)


def _exposure(path: Path, route: Route) -> Iterator[Problem]:
    """Listeners others can reach need a secret, and PostgreSQL's passthrough needs TLS on them.

    Redis clients send their password in clear always, to Redis itself too: TLS stays a choice.
    """
    exposed = [a for a in route.listen if not a.is_unix and not is_loopback(a.host)]
    if not exposed:
        return
    where = f"{exposed[0]} can be reached from other machines"
    if route.auth_method == "trust" and not route.auth.trust_anywhere:
        yield Problem(
            (*path, "auth", "method"),
            f"trust is for loopback and Unix sockets, but {where}: "
            "choose another method, or say auth.trust_anywhere: true",
        )
    clear = route.tls.mode in ("disable", "allow")
    if isinstance(route, PostgresRoute) and route.auth_method == "passthrough" and clear:
        yield Problem(
            (*path, "tls", "mode"),
            f"passthrough asks for passwords in clear, but {where}: expected require or "
            "verify-ca, or auth.method scram-sha-256",
        )


# ---- between routes -----------------------------------------------------------------------------


def _duplicate_names(routes: Sequence[tuple[Path, Route]]) -> Iterator[Problem]:
    seen: set[str] = set()
    for path, route in routes:
        if route.name in seen:
            yield Problem((*path, "name"), "expected a name that no other route has")
        seen.add(route.name)


def _overlaps(
    routes: Sequence[tuple[Path, Route]], admin: Iterable[ListenAddress]
) -> Iterator[Problem]:
    addresses = [
        *((path, i, a) for path, route in routes for i, a in enumerate(route.listen)),
        *((("admin",), i, a) for i, a in enumerate(admin)),
    ]
    for n, (path, i, address) in enumerate(addresses):
        if any(_same_place(address, other) for _, _, other in addresses[:n]):
            message = f"{address} is already listened on by a setting above"
            yield Problem((*path, "listen", i), message)


def _loops(routes: Sequence[tuple[Path, Route]]) -> Iterator[Problem]:
    """A route whose upstream leads, at once or through other routes, back to its own listener."""
    leads = [
        {
            index
            for index, (_, target) in enumerate(routes)
            if any(_reaches(dial, own) for dial in _dials(route) for own in target.listen)
        }
        for _, route in routes
    ]
    for start, (path, _) in enumerate(routes):
        reached: set[int] = set()
        waiting = set(leads[start])
        while waiting:
            index = waiting.pop()
            reached.add(index)
            waiting |= leads[index] - reached
        if start in reached:
            message = "leads back to this route's own listener; expected the server's address"
            yield Problem((*path, "upstream"), message)


def _dials(route: Route) -> Iterator[ListenAddress]:
    """The places a route dials, in the terms of listeners."""
    if isinstance(route, RedisRoute):
        upstream = route.upstream
        yield ListenAddress(upstream.host or "", upstream.port, upstream.path or "")
        return
    for host in route.upstream.hosts:
        if host.is_unix:
            yield ListenAddress(path=host.socket_path)
        else:
            yield ListenAddress(host.hostaddr or host.host, host.port)


def _same_place(one: ListenAddress, other: ListenAddress) -> bool:
    """Whether two listeners cannot both be opened. Port 0 takes any free one: never a conflict."""
    if one.is_unix or other.is_unix:
        return _same_path(one, other)
    if one.port != other.port or one.port == 0:
        return False
    return any(_meet(a, b) for a in _hosts(one.host) for b in _hosts(other.host))


def _reaches(dial: ListenAddress, own: ListenAddress) -> bool:
    """Whether a dial ends at our own listener.

    Names other than localhost are compared as text, and a listener on all interfaces counts as
    loopback only: which other addresses are this machine's is not for a pure function to know.
    """
    if dial.is_unix or own.is_unix:
        return _same_path(dial, own)
    if dial.port != own.port:
        return False
    # To dial 0.0.0.0 or :: is to dial this machine.
    dialed = {_loopback_of(a) for a in _hosts(dial.host)}
    for host in _hosts(own.host):
        if isinstance(host, str) or not host.is_unspecified:
            if host in dialed:
                return True
        elif any(
            not isinstance(a, str) and a.version == host.version and a.is_loopback for a in dialed
        ):
            return True
    return False


def _same_path(one: ListenAddress, other: ListenAddress) -> bool:
    if not (one.is_unix and other.is_unix):
        return False
    return posixpath.normpath(one.path) == posixpath.normpath(other.path)


_Host = str | ipaddress.IPv4Address | ipaddress.IPv6Address


def _hosts(host: str) -> tuple[_Host, ...]:
    if host == "*":
        return ipaddress.ip_address("0.0.0.0"), ipaddress.ip_address("::")
    if host in ("localhost", "localhost."):
        return ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return (host.rstrip("."),)
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address,)


def _loopback_of(host: _Host) -> _Host:
    if isinstance(host, str) or not host.is_unspecified:
        return host
    return ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")


def _meet(one: _Host, other: _Host) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    # 0.0.0.0 and :: are everything of their family, and of no other (IPV6_V6ONLY is set).
    same_family = one.version == other.version
    return one == other or (same_family and (one.is_unspecified or other.is_unspecified))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host. Names other than localhost: no."""
    return all(not isinstance(a, str) and a.is_loopback for a in _hosts(host))
