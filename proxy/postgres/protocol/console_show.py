"""The tables that PgBouncer's console has, filled from our reports: its columns, names and order.

Source: PgBouncer 1.25, usage page. Exporters and people read the columns by name, and some of the
former refuse a column they do not know: only CLIENTS, SERVERS and SOCKETS have more. None of them
takes NULL for a time or a port. What PgBouncer calls a database is a route here, in every table, so
that the names of one table can be used in another and in PAUSE; the database behind is `dbname`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from proxy.core.operator import Detail, LinkRow, SessionRow
from proxy.core.report import PoolReport, PostgresReport, Report
from proxy.postgres.protocol.console_stats import Stats
from proxy.postgres.protocol.console_table import Columns, Lazy, Table, Value, columns

POOL_MODE = "session"
NAMES_MAX = 20  # of databases in one cell

Setting = tuple[str, str, str, bool]


@dataclass(frozen=True, slots=True)
class Facts:
    """What tables are made of, as far as it was asked for."""

    report: Report
    detail: Detail
    settings: Sequence[Setting]
    stats: Stats
    now_s: float  # Unix time


Row = list[Value]

_SOCKET = (
    "type user database replication state addr port:i local_addr local_port:i connect_time"
    " request_time wait:i wait_us:i close_needed:i ptr link remote_pid:i tls application_name"
    " prepared_statements:i id:q"
)
_DEBUG = " recv_pos:i pkt_pos:i pkt_remain:i send_pos:i send_remain:i pkt_avail:i send_avail:i"
_OURS = " dbname worker:i"

CLIENTS = SERVERS = columns(_SOCKET + _OURS)
SOCKETS = columns(_SOCKET + _DEBUG + _OURS)
POOLS = columns(
    "database user cl_active:i cl_waiting:i cl_active_cancel_req:i cl_waiting_cancel_req:i"
    " sv_active:i sv_active_cancel:i sv_being_canceled:i sv_idle:i sv_used:i sv_tested:i"
    " sv_login:i maxwait:i maxwait_us:i pool_mode load_balance_hosts"
)
DATABASES = columns(
    "name host port:i database force_user pool_size:i min_pool_size:i reserve_pool_size:i"
    " server_lifetime:i pool_mode load_balance_hosts max_connections:i current_connections:i"
    " max_client_connections:i current_client_connections:i paused:i disabled:i"
)
LISTS = columns("list items:i")
USERS = columns(
    "name pool_size reserve_pool_size pool_mode max_user_connections:i current_connections:i"
    " max_user_client_connections:i current_client_connections:i"
)
CONFIG = columns("key value default changeable")
MEM = columns("name size:q used:q free:q memtotal:q")
STATE = columns("key value")
VERSION = columns("version")
DNS_HOSTS = columns("hostname ttl:q addrs")
DNS_ZONES = columns("zonename serial:q count:i")
PEERS = columns("peer_id:i host port:i pool_size:i")
PEER_POOLS = columns(
    "peer_id:i cl_active_cancel_req:i cl_waiting_cancel_req:i sv_active_cancel:i sv_login:i"
)


# ---- sockets


def when(unix_s: float) -> str | None:
    """A time of day as PgBouncer writes it; None for never, or for what is no time of day."""
    if not 0.0 < unix_s < 253_402_300_800.0:  # the year 10000
        return None
    return _written(int(unix_s))


@lru_cache(maxsize=1024)
def _written(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _split(seconds: float) -> tuple[int, int]:
    """(whole seconds, microseconds)."""
    micro = max(0, int(seconds * 1_000_000))
    return micro // 1_000_000, micro % 1_000_000


def _client(row: SessionRow, state: str, debug: Row) -> Row:
    wait, wait_us = _split(row.waited_s)
    return [
        *("C", row.user, row.route, "none", state),
        *(row.address, row.port, row.local_address, row.local_port),
        *(when(row.connected_s), when(row.requested_s or row.connected_s), wait, wait_us, 0),
        *(f"C{row.id}", f"S{row.link}" if row.link else "", 0, row.tls, row.application),
        *(row.prepared, row.id, *debug, row.database, row.worker),
    ]


def _server(row: LinkRow, state: str, application: str, debug: Row) -> Row:
    return [
        *("S", row.user, row.route, "none", state),
        *(row.address, row.port, row.local_address, row.local_port),
        *(when(row.opened_s), when(row.used_s), 0, 0, int(row.stale)),
        *(f"S{row.id}", f"C{row.session}" if row.session else "", row.pid, row.tls, application),
        *(row.prepared, row.id, *debug, row.database, row.worker),
    ]


_SERVER_STATES = {"opening": "new", "asking": "tested", "closing": "idle"}
_SOCKET_STATES = {"new": "login"}


def _clients(detail: Detail) -> Lazy:
    return Lazy(lambda row: _client(row, row.state, []), detail.sessions)


def _servers(detail: Detail) -> Lazy:
    names = _applications(detail)
    return Lazy(
        lambda row: _server(row, _state_of(row), names.get((row.worker, row.session), ""), []),
        detail.links,
    )


def _applications(detail: Detail) -> Mapping[tuple[int, int], str]:
    return {(row.worker, row.id): row.application for row in detail.sessions}


def _state_of(row: LinkRow) -> str:
    return _SERVER_STATES.get(row.state, row.state)


def _sockets(detail: Detail, active_only: bool) -> list[Row]:
    """Both kinds. What a buffer holds at this instant is not told: NULL."""
    debug: Row = [None] * 7
    applications = _applications(detail)
    rows = [
        _client(row, f"cl_{row.state}", debug)
        for row in detail.sessions
        if not active_only or row.state != "idle"
    ]
    for row in detail.links:
        state = _state_of(row)
        if not active_only or state != "idle":
            name = f"sv_{_SOCKET_STATES.get(state, state)}"
            application = applications.get((row.worker, row.session), "")
            rows.append(_server(row, name, application, debug))
    return rows


# ---- routes


def _pools(report: Report) -> list[Row]:
    return [
        _pool(route.name, user, of_user)
        for route in report.postgres
        for user, of_user in _by_user(route).items()
    ]


def _by_user(route: PostgresReport) -> dict[str, list[PoolReport]]:
    found: dict[str, list[PoolReport]] = {}
    for pool in route.pools:
        found.setdefault(pool.user, []).append(pool)
    return found


def _pool(route: str, user: str, pools: Sequence[PoolReport]) -> Row:
    def total(name: str) -> int:
        return sum(getattr(pool, name) for pool in pools)

    wait, wait_us = _split(max(pool.longest_wait_s for pool in pools))
    return [
        *(route, user, total("sessions_active") + total("sessions_idle")),
        *(total("sessions_waiting"), 0, 0),
        *(total("links_active"), 0, 0, total("links_idle"), 0, 0, total("links_opening")),
        *(wait, wait_us, POOL_MODE, None),
    ]


def _databases(facts: Facts) -> list[Row]:
    return [_database(route, facts) for route in facts.report.postgres]


def _database(route: PostgresReport, facts: Facts) -> Row:
    host, port = _host_and_port(route.upstream[0] if route.upstream else "")
    several = "round-robin" if len(route.upstream) > 1 else None
    names = sorted({pool.database for pool in route.pools})
    links = sum(p.links_active + p.links_idle + p.links_opening for p in route.pools)
    size = _setting(facts, f"postgres.{route.name}.pool.size")
    if size is None:
        size = max((pool.links_max for pool in route.pools), default=0)
    return [
        *(route.name, host or None, port),
        *(",".join(names[:NAMES_MAX]), None),
        *(size, _setting(facts, f"postgres.{route.name}.pool.warm") or 0, 0),
        _setting(facts, f"postgres.{route.name}.pool.lifetime_s") or 0,
        *(POOL_MODE, several, 0, links, route.clients_max, route.clients),
        *(int(route.state == "paused"), 0),
    ]


def _host_and_port(address: str) -> tuple[str, int]:
    """`db:5432`, `[::1]:5432`, or the path of a Unix socket, as PgBouncer writes them."""
    folder, unix, port = address.rpartition("/.s.PGSQL.")
    if not unix:
        folder, _, port = address.rpartition(":")
    host = folder.removeprefix("[").removesuffix("]")
    return (host, int(port)) if port.isdecimal() and port.isascii() else (address, 0)


def _setting(facts: Facts, path: str) -> int | None:
    for name, value, _, _ in facts.settings:
        if name == path:
            try:
                return int(float(value))
            except ValueError:
                return None
    return None


def _users(report: Report) -> list[Row]:
    links: dict[str, int] = {}
    sessions: dict[str, int] = {}
    for route in report.postgres:
        for pool in route.pools:
            busy = pool.links_active + pool.links_idle + pool.links_opening
            links[pool.user] = links.get(pool.user, 0) + busy
            clients = pool.sessions_active + pool.sessions_idle + pool.sessions_waiting
            sessions[pool.user] = sessions.get(pool.user, 0) + clients
    return [[name, None, None, None, 0, links[name], 0, sessions[name]] for name in sorted(links)]


def _lists(report: Report) -> list[Row]:
    pools = [pool for route in report.postgres for pool in route.pools]
    used = sum(p.links_active + p.links_idle + p.links_opening for p in pools)
    numbers = {
        "databases": len(report.postgres),
        "users": len({pool.user for pool in pools}),
        "peers": 0,
        "pools": len(_pools(report)),
        "peer_pools": 0,
        "free_clients": 0,
        "used_clients": sum(route.clients for route in report.postgres),
        "login_clients": 0,
        "free_servers": 0,
        "used_servers": used,
        "dns_names": 0,
        "dns_zones": 0,
        "dns_queries": 0,
        "dns_pending": 0,
    }
    return [[name, number] for name, number in numbers.items()]


# ---- the process


def _config(facts: Facts) -> list[Row]:
    """Our settings by their paths, and those of PgBouncer's names that exporters look for."""
    clients = sum(route.clients_max for route in facts.report.postgres)
    rows: list[Row] = [
        ["max_client_conn", str(clients), None, "no"],
        ["max_db_connections", "0", "0", "no"],
        ["max_user_connections", "0", "0", "no"],
    ]
    rows.extend(
        [path, value, default, "yes" if reloadable else "no"]
        for path, value, default, reloadable in facts.settings
    )
    return rows


def _mem(report: Report) -> list[Row]:
    rows: list[Row] = [
        [f"worker_{worker.number}", worker.rss_bytes, 1, 0, worker.rss_bytes]
        for worker in report.workers
    ]
    for route in report.redis:
        cache = route.cache
        size = cache.bytes // cache.entries if cache.entries else 0
        free = max(0, cache.max_bytes - cache.bytes)
        rows.append([f"cache_{route.name}", size, cache.entries, free, cache.bytes])
    return rows


def _state(report: Report) -> list[Row]:
    states = [route.state for route in report.postgres]
    states += [route.state for route in report.redis]
    paused = bool(states) and all(state == "paused" for state in states)
    flags = {"active": not paused, "paused": paused, "suspended": False}
    return [[name, "yes" if flag else "no"] for name, flag in flags.items()]


def version_text(version: str) -> str:
    """What SHOW VERSION says. Tools look for PgBouncer's number to choose their columns by."""
    return f"PgBouncer 1.25.0 console, spoken by Backstay {version}"


def _nothing(_: Facts) -> list[Row]:
    return []


MADE: dict[str, tuple[Columns, Callable[[Facts], Sequence[Row] | Lazy]]] = {
    "clients": (CLIENTS, lambda facts: _clients(facts.detail)),
    "servers": (SERVERS, lambda facts: _servers(facts.detail)),
    "sockets": (SOCKETS, lambda facts: _sockets(facts.detail, False)),
    "active_sockets": (SOCKETS, lambda facts: _sockets(facts.detail, True)),
    "pools": (POOLS, lambda facts: _pools(facts.report)),
    "databases": (DATABASES, _databases),
    "users": (USERS, lambda facts: _users(facts.report)),
    "lists": (LISTS, lambda facts: _lists(facts.report)),
    "config": (CONFIG, _config),
    "mem": (MEM, lambda facts: _mem(facts.report)),
    "state": (STATE, lambda facts: _state(facts.report)),
    "version": (VERSION, lambda facts: [[version_text(facts.report.version)]]),
    "dns_hosts": (DNS_HOSTS, _nothing),  # names are looked up at each dial: nothing is cached
    "dns_zones": (DNS_ZONES, _nothing),
    "peers": (PEERS, _nothing),  # workers find each other's cancel requests by themselves
    "peer_pools": (PEER_POOLS, _nothing),
}


def table(name: str, facts: Facts) -> Table:
    """The table of one of MADE."""
    described, make = MADE[name]
    return Table(described, make(facts))
