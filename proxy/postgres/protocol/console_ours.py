"""Tables PgBouncer has no counterpart for: routes, incidents, caches, keys, counters, latency."""

from collections.abc import Callable, Mapping, Sequence

from proxy.core.histogram import Histogram
from proxy.core.report import CacheReport, Incident, PostgresReport, RedisReport, Report
from proxy.postgres.protocol.console_show import Facts, Row, when
from proxy.postgres.protocol.console_table import Columns, Table, columns

ROUTES = columns(
    "name kind state reason away_s:n listen upstream clients:i clients_max:i waiting:i"
    " waiting_max:i links:i losses:q errors:q"
)
ROUTE_POOLS = columns(
    "route user dbname sessions_active:i sessions_idle:i sessions_waiting:i links_active:i"
    " links_idle:i links_opening:i links_max:i longest_wait_s:n"
)
INCIDENTS = columns(
    "id route kind reason upstream last_words started ended losses:i sessions:i"
    " longest_wait_s:n outage_s:n replayed errors"
)
CACHE = columns(
    "route enabled:b refused entries:q bytes:q max_bytes:q hits:q negative_hits:q misses:q"
    " hit_rate:n coalesced:q stale_served:q saved_repeats:q invalidations:q evictions:q bypassed"
)
KEYS = columns("route list key count:q")
COUNTERS = columns("route kind what name value:q")
LATENCY = columns("route kind what count:q mean_ms:n p50_ms:n p99_ms:n max_ms:n")
WORKERS = columns(
    "number:i pid:i state started cpu_s:n rss_bytes:q open_fds:i tasks:i loop_lag_p99_ms:n bugs:i"
    " log_lines_dropped:q"
)

Route = PostgresReport | RedisReport


def _kind(route: Route) -> str:
    return "postgres" if isinstance(route, PostgresReport) else "redis"


def _each(report: Report) -> list[Route]:
    return [*report.postgres, *report.redis]


def _links(route: Route) -> int:
    if isinstance(route, RedisReport):
        return sum(route.links.values())
    return sum(p.links_active + p.links_idle + p.links_opening for p in route.pools)


def _routes(report: Report) -> list[Row]:
    return [
        [
            *(route.name, _kind(route), route.state, route.reason, route.away_s),
            *(", ".join(route.listen), ", ".join(route.upstream)),
            *(route.clients, route.clients_max, route.waiting, route.waiting_max),
            *(_links(route), sum(route.losses.values()), sum(route.errors.values())),
        ]
        for route in _each(report)
    ]


def _route_pools(report: Report) -> list[Row]:
    return [
        [
            *(route.name, pool.user, pool.database),
            *(pool.sessions_active, pool.sessions_idle, pool.sessions_waiting),
            *(pool.links_active, pool.links_idle, pool.links_opening, pool.links_max),
            pool.longest_wait_s,
        ]
        for route in report.postgres
        for pool in route.pools
    ]


def _pairs(numbers: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={count}" for name, count in sorted(numbers.items()) if count)


def _incidents(report: Report) -> list[Row]:
    return [_incident(one) for one in report.incidents]


def _incident(one: Incident) -> Row:
    return [
        *(one.id, one.route, one.kind, one.reason, one.upstream, one.last_words),
        *(when(one.started_s), when(one.ended_s) if one.ended_s is not None else None),
        *(one.losses, one.sessions, one.longest_wait_s, one.outage_s),
        *(_pairs(one.replayed), _pairs(one.errors)),
    ]


def _caches(report: Report) -> list[Row]:
    return [_cache(route.name, route.cache) for route in report.redis]


def _cache(route: str, cache: CacheReport) -> Row:
    reads = cache.hits + cache.misses
    return [
        *(route, cache.enabled, cache.refused, cache.entries, cache.bytes, cache.max_bytes),
        *(cache.hits, cache.negative_hits, cache.misses, cache.hits / reads if reads else None),
        *(cache.coalesced, cache.stale_served, cache.saved_repeats, cache.invalidations),
        *(cache.evictions, _pairs(cache.bypassed)),
    ]


def _keys(report: Report) -> list[Row]:
    """Shapes of keys, not keys: `user:*:token`."""
    rows: list[Row] = []
    for route in report.redis:
        cache = route.cache
        lists = {
            "top": cache.top_keys,
            "repeated": cache.repeated_keys,
            "missing": cache.missing_keys,
            "refilled": cache.refilled_keys,
        }
        for name, keys in lists.items():
            rows.extend([route.name, name, key.shape, key.count] for key in keys)
    return rows


def _counters(report: Report) -> list[Row]:
    rows: list[Row] = []
    for route in _each(report):
        groups = {"count": route.counts, "loss": route.losses, "error": route.errors}
        for what, numbers in groups.items():
            rows.extend(
                [route.name, _kind(route), what, name, number]
                for name, number in sorted(numbers.items())
            )
    return rows


_HISTOGRAMS = ("wait", "server", "proxy", "outage", "restore", "connect")


def _latency(report: Report) -> list[Row]:
    return [
        [route.name, _kind(route), name, *_of(getattr(route.latency, name))]
        for route in _each(report)
        for name in _HISTOGRAMS
    ]


def _of(histogram: Histogram) -> Sequence[int | float | None]:
    count = histogram.count
    if not count:
        return 0, None, None, None, None
    p50_s, p99_s = histogram.quantile_s(0.5), histogram.quantile_s(0.99)
    seconds = (histogram.sum_s / count, p50_s, p99_s, histogram.max_s)
    return count, *(second * 1000 for second in seconds)


def _workers(report: Report) -> list[Row]:
    return [
        [
            *(worker.number, worker.pid, worker.state, when(worker.started_s), worker.cpu_s),
            *(worker.rss_bytes, worker.open_fds, worker.tasks),
            *(worker.loop_lag.quantile_s(0.99) * 1000, worker.bugs, worker.log_lines_dropped),
        ]
        for worker in sorted(report.workers, key=lambda worker: worker.number)
    ]


MADE: dict[str, tuple[Columns, Callable[[Report], list[Row]]]] = {
    "routes": (ROUTES, _routes),
    "route_pools": (ROUTE_POOLS, _route_pools),
    "incidents": (INCIDENTS, _incidents),
    "cache": (CACHE, _caches),
    "keys": (KEYS, _keys),
    "counters": (COUNTERS, _counters),
    "latency": (LATENCY, _latency),
    "workers": (WORKERS, _workers),
}


def table(name: str, facts: Facts) -> Table:
    """The table of one of MADE."""
    described, make = MADE[name]
    return Table(described, make(facts.report))
