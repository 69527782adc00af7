"""The metrics: a merged report in Prometheus's terms, made when they are asked for.

Names say `backstay_`, the dialect, what, the unit. Labels are bounded: routes come from the
settings, reasons from `Reason`, users and databases from at most POOLS_MAX pools, the rest of which
are summed as `other`. Nothing is counted here: the data path pays nothing for a scrape.

Source: Prometheus, "Metric and label naming"; OpenMetrics 1.0.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy.core.histogram import BOUNDS_S, Histogram
from proxy.core.reasons import Reason
from proxy.core.report import (
    INCIDENTS_MAX,
    Latency,
    PoolReport,
    PostgresReport,
    RedisReport,
    Report,
    WorkerReport,
)

POOLS_MAX = 50  # of a route that have their own labels: those with the most sessions
OTHER = "other"
LOST_FOR = (
    Reason.UPSTREAM_EOF,
    Reason.UPSTREAM_RESET,
    Reason.UPSTREAM_FATAL,
    Reason.UPSTREAM_SILENT,
    Reason.UPSTREAM_PROTOCOL,
)
ANSWERED_FOR = (
    Reason.OUTCOME_UNKNOWN,
    Reason.ROLLED_BACK,
    Reason.RESULT_INTERRUPTED,
    Reason.RESULT_LOST,
    Reason.STATE_NOT_RESTORABLE,
    Reason.HOLD_TIMEOUT,
    Reason.HOLD_FULL,
    Reason.POOL_TIMEOUT,
    Reason.TOO_MANY_CLIENTS,
    Reason.COMMAND_TIMEOUT,
    Reason.UPSTREAM_UNREACHABLE,
    Reason.UPSTREAM_REFUSED,
    Reason.LOGIN_REFUSED,
    Reason.CLIENT_PROTOCOL,
    Reason.SHUTDOWN,
    Reason.BUG,
)
STATES = ("idle", "up", "paused", "draining", "away")

Route = PostgresReport | RedisReport


def text(report: Report, accept: str = "") -> tuple[bytes, str]:
    """(the metrics, their content type): OpenMetrics or Prometheus's text, as asked for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(report))
    encoder, content_type = choose_encoder(accept)
    return encoder(registry), content_type


def metric_names() -> frozenset[str]:
    """Every name a sample may have, `_bucket`, `_sum`, `_count` and `_total` included."""
    names: set[str] = set()
    for metric in families(_SPECIMEN):
        match metric.type:
            case "histogram":
                names |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
            case "counter":
                names.add(f"{metric.name}_total")
            case "info":
                names.add(f"{metric.name}_info")
            case _:
                names.add(metric.name)
    return frozenset(names)


def families(report: Report) -> Iterator[Metric]:
    """The report as metric families."""
    build = InfoMetricFamily("backstay_build", "The version of Backstay.")
    build.add_metric([], {"version": report.version})
    yield build
    yield from _workers(report.workers)
    yield from _routes("postgres", report.postgres, _POSTGRES_COUNTS)
    yield from _pools(report.postgres)
    yield from _routes("redis", report.redis, _REDIS_COUNTS)
    yield from _redis(report.redis)
    yield _incidents(report)


class _Collector(Collector):
    def __init__(self, report: Report) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        return families(self._report)


# ---- processes ----------------------------------------------------------------------------------


def _workers(workers: Sequence[WorkerReport]) -> Iterator[Metric]:
    for kind, name, about, value in _WORKER:
        family = kind(f"backstay_{name}", about, labels=["worker"])
        for worker in workers:
            family.add_metric([str(worker.number)], value(worker))
        yield family
    lag = HistogramMetricFamily(
        "backstay_loop_lag_seconds", "How late a timer of 100 ms was.", labels=["worker"]
    )
    for worker in workers:
        _add_histogram(lag, [str(worker.number)], worker.loop_lag)
    yield lag


_Family = type[CounterMetricFamily] | type[GaugeMetricFamily]
_WORKER: tuple[tuple[_Family, str, str, Callable[[WorkerReport], float]], ...] = (
    (CounterMetricFamily, "cpu_seconds", "CPU time, user and system.", lambda w: w.cpu_s),
    (GaugeMetricFamily, "resident_memory_bytes", "Memory in use.", lambda w: w.rss_bytes),
    (GaugeMetricFamily, "open_fds", "Open file descriptors.", lambda w: w.open_fds),
    (GaugeMetricFamily, "tasks", "Tasks of the event loop.", lambda w: w.tasks),
    (
        GaugeMetricFamily,
        "start_time_seconds",
        "When the process started, Unix time.",
        lambda w: w.started_s,
    ),
    (
        GaugeMetricFamily,
        "ready",
        "1 while the process takes new clients.",
        lambda w: float(w.state == "ready"),
    ),
    (
        CounterMetricFamily,
        "bugs",
        "Errors of Backstay's own; each ended one session or task and is in the log.",
        lambda w: w.bugs,
    ),
    (
        CounterMetricFamily,
        "log_lines_dropped",
        "Log lines that did not fit the queue to stderr.",
        lambda w: w.log_lines_dropped,
    ),
)


# ---- routes of either dialect -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Count:
    """A counter of a route under a name of its own, with one more label where it has parts."""

    name: str
    about: str
    parts: Mapping[str, str]  # key in the report's counts → value of the label
    label: str = ""


def _routes(dialect: str, routes: Sequence[Route], counts: Sequence[_Count]) -> Iterator[Metric]:
    prefix = f"backstay_{dialect}_"
    for name, about, value in _GAUGES:
        gauge = GaugeMetricFamily(prefix + name, about, labels=["route"])
        for route in routes:
            gauge.add_metric([route.name], value(route))
        yield gauge
    state = GaugeMetricFamily(
        prefix + "state",
        "1 for the state it is in: idle (no link was needed yet), up, paused, draining, away.",
        labels=["route", "state"],
    )
    for route in routes:
        for one in STATES:
            state.add_metric([route.name, one], float(route.state == one))
    yield state
    yield _by_reason(
        prefix + "links_lost", "Links that died, by reason.", routes, ("losses", LOST_FOR)
    )
    yield _by_reason(
        prefix + "errors_answered",
        "Errors that clients were answered by Backstay itself, by reason.",
        routes,
        ("errors", ANSWERED_FOR),
    )
    for count in counts:
        yield _counter(prefix, count, routes)
    yield from _latencies(prefix, routes)


_GAUGES: tuple[tuple[str, str, Callable[[Route], float]], ...] = (
    ("clients", "Clients connected.", lambda r: r.clients),
    ("clients_limit", "Clients that may be connected.", lambda r: r.clients_max),
    ("waiting", "Sessions (Redis: commands) that wait for a link.", lambda r: r.waiting),
    ("waiting_limit", "Sessions (Redis: commands) that may wait.", lambda r: r.waiting_max),
    (
        "upstream_away_seconds",
        "For how long no link could be opened, 0 while one can.",
        lambda r: r.away_s,
    ),
)


def _by_reason(
    name: str, about: str, routes: Sequence[Route], what: tuple[str, Sequence[Reason]]
) -> Metric:
    """`what`: the report's field, and the reasons that are there from the start, with 0: else
    rate() and increase() would not see the first event."""
    attribute, known = what
    family = CounterMetricFamily(name, about, labels=["route", "reason"])
    for route in routes:
        reasons: dict[str, int] = {str(reason): 0 for reason in known} | getattr(route, attribute)
        for reason, count in sorted(reasons.items()):
            family.add_metric([route.name, reason], count)
    return family


def _counter(prefix: str, count: _Count, routes: Sequence[Route]) -> Metric:
    labels = ["route", count.label] if count.label else ["route"]
    family = CounterMetricFamily(prefix + count.name, count.about, labels=labels)
    for route in routes:
        for key, part in count.parts.items():
            values = [route.name, part] if count.label else [route.name]
            family.add_metric(values, route.counts.get(key, 0))
    return family


def _latencies(prefix: str, routes: Sequence[Route]) -> Iterator[Metric]:
    for name, about in _LATENCIES.items():
        family = HistogramMetricFamily(f"{prefix}{name}_seconds", about, labels=["route"])
        for route in routes:
            _add_histogram(family, [route.name], getattr(route.latency, name))
        yield family


_LATENCIES = {
    "wait": "How long sessions (Redis: commands) waited for a link; 0 where one was ready.",
    "server": "From sending a request until its answer's end. A sample: one in 32 (Redis: 16).",
    "proxy": "What Backstay itself takes for a request. A sample: one in 32 (Redis: 64).",
    "outage": "How long the upstream was away, lost link to new one; told once it is over.",
    "restore": "From the need of a new link after a loss until the session had it.",
    "connect": "Opening a link, login included.",
}
assert _LATENCIES.keys() == set(Latency.__slots__), "every histogram of a route is a metric"


def _add_histogram(
    family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram
) -> None:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*map(_bound, BOUNDS_S), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family.add_metric(labels, buckets=buckets, sum_value=histogram.sum_s)


def _bound(bound_s: float) -> str:
    return repr(float(bound_s))


# ---- PostgreSQL ---------------------------------------------------------------------------------

_POSTGRES_COUNTS = (
    _Count("sessions", "Clients that logged in.", {"clients": ""}),
    _Count("units", "Requests answered (queries, or batches up to their Sync).", {"units": ""}),
    _Count("links_opened", "Links opened.", {"links_opened": ""}),
    _Count("connects_failed", "Attempts to open a link that failed.", {"connects_failed": ""}),
    _Count("logins_refused", "Clients whose login was refused.", {"logins_refused": ""}),
    _Count("sessions_ended", "Sessions ended by Backstay.", {"sessions_refused": ""}),
    _Count("sessions_restored", "Sessions given a new link after a loss.", {"restores": ""}),
    _Count(
        "drops_absorbed",
        "Of those restored, the sessions whose client was answered no error for the loss.",
        {"absorbed": ""},
    ),
    _Count(
        "state_lost", "Sessions ended because their state cannot be rebuilt.", {"state_lost": ""}
    ),
    _Count("waits_noticed", "Sessions that waited long enough to be told.", {"holds_noticed": ""}),
    _Count("cancels", "Cancel requests of clients.", {"cancels": ""}),
    _Count(
        "replayed",
        "Requests sent again after a loss, by the certificate that allowed it.",
        {
            "replayed_read_only": "read_only",
            "resent_fatal": "fatal",
            "resent_unsent": "unsent",
            "resent_harmless": "harmless",
        },
        "certificate",
    ),
    _Count(
        "lost_answers",
        "Requests whose link was lost and that were answered with an error, by what it says.",
        {
            "doubts": "outcome_unknown",
            "rolled_back": "rolled_back",
            "interrupted": "result_interrupted",
        },
        "outcome",
    ),
)


def _pools(routes: Sequence[PostgresReport]) -> Iterator[Metric]:
    labels = ["route", "user", "database"]
    links = GaugeMetricFamily(
        "backstay_postgres_pool_links", "Links by what they do.", labels=[*labels, "state"]
    )
    sessions = GaugeMetricFamily(
        "backstay_postgres_pool_sessions", "Sessions by what they do.", labels=[*labels, "state"]
    )
    limit = GaugeMetricFamily(
        "backstay_postgres_pool_links_limit", "Links there may be.", labels=labels
    )
    longest = GaugeMetricFamily(
        "backstay_postgres_pool_longest_wait_seconds",
        "How long the session that waits longest has waited, 0 if none does.",
        labels=labels,
    )
    for route in routes:
        for pool in _bounded(route.pools):
            values = [route.name, pool.user, pool.database]
            for state in ("active", "idle", "opening"):
                links.add_metric([*values, state], getattr(pool, f"links_{state}"))
            for state in ("active", "idle", "waiting"):
                sessions.add_metric([*values, state], getattr(pool, f"sessions_{state}"))
            limit.add_metric(values, pool.links_max)
            longest.add_metric(values, pool.longest_wait_s)
    yield from (links, sessions, limit, longest)


def _bounded(pools: Sequence[PoolReport]) -> list[PoolReport]:
    """At most POOLS_MAX of them, those with the most sessions and links, and one for the rest."""
    ranked = sorted(pools, key=_size, reverse=True)
    shown, rest = ranked[:POOLS_MAX], ranked[POOLS_MAX:]
    if rest:
        total = PoolReport(OTHER, OTHER)
        for pool in rest:
            for name in _POOL_NUMBERS:
                setattr(total, name, getattr(total, name) + getattr(pool, name))
            total.longest_wait_s = max(total.longest_wait_s, pool.longest_wait_s)
        shown = [*shown, total]
    return shown


_POOL_NUMBERS = (
    *("sessions_active", "sessions_idle", "sessions_waiting"),
    *("links_active", "links_idle", "links_opening", "links_max"),
)


def _size(pool: PoolReport) -> tuple[int, str, str]:
    busy = pool.sessions_active + pool.sessions_idle + pool.sessions_waiting
    return busy + pool.links_idle, pool.user, pool.database


# ---- Redis --------------------------------------------------------------------------------------

_REDIS_COUNTS = (
    _Count("connections", "Clients that connected.", {"clients_total": ""}),
    _Count(
        "clients_refused", "Clients refused because there were too many.", {"clients_refused": ""}
    ),
    _Count("logins_refused", "Logins refused.", {"logins_refused": ""}),
    _Count("links_opened", "Links opened.", {"links_opened": ""}),
    _Count("connects_failed", "Attempts to open a link that failed.", {"dials_failed": ""}),
    _Count(
        "drops_absorbed",
        "Clients whose link was lost and replaced, and who were answered no error for it.",
        {"absorbed": ""},
    ),
    _Count("resent", "Commands sent again after a loss.", {"resent": ""}),
    _Count("retried", "Commands tried again after LOADING and the like.", {"retried": ""}),
    _Count("outcome_unknown", "Commands answered UPSTREAMLOST.", {"unknown": ""}),
    _Count(
        "not_executed",
        "Commands answered UPSTREAMDOWN, because their time was over or the queue was full.",
        {"not_executed": "hold_timeout", "hold_refused": "hold_full"},
        "reason",
    ),
    _Count(
        "exclusive_links_taken", "Times a client took a link of its own.", {"exclusive_taken": ""}
    ),
    _Count("resubscribed", "Subscribers moved to another link after a loss.", {"resubscribed": ""}),
)
_CACHE_COUNTS = {
    "hits": "Reads answered from the cache, absent keys included.",
    "negative_hits": "Of those, the answers that there is no such key.",
    "misses": "Reads that fetched their answer for the cache.",
    "coalesced": "Reads that waited for another one's answer.",
    "stale_served": "Reads answered from before the upstream went away.",
    "saved_repeats": "Hits of a client that had read the same key within the last second.",
    "invalidations": "Keys the server said have changed.",
    "evictions": "Entries that had to make room.",
}
_CACHE_GAUGES = {
    "entries": ("entries", "Entries."),
    "bytes": ("size_bytes", "Bytes of keys and replies."),
    "max_bytes": ("limit_bytes", "Bytes there may be."),
}


def _redis(routes: Sequence[RedisReport]) -> Iterator[Metric]:
    links = GaugeMetricFamily(
        "backstay_redis_links", "Links by what they are for.", labels=["route", "kind"]
    )
    commands = CounterMetricFamily(
        "backstay_redis_commands", "Commands read from clients.", labels=["route"]
    )
    for route in routes:
        commands.add_metric([route.name], route.commands)
        for kind, count in sorted(route.links.items()):
            links.add_metric([route.name, kind], count)
    yield from (links, commands)
    cached = [route for route in routes if route.cache.enabled]
    for name, about in _CACHE_COUNTS.items():
        family = CounterMetricFamily(f"backstay_redis_cache_{name}", about, labels=["route"])
        for route in cached:
            family.add_metric([route.name], getattr(route.cache, name))
        yield family
    for field, (name, about) in _CACHE_GAUGES.items():
        gauge = GaugeMetricFamily(f"backstay_redis_cache_{name}", about, labels=["route"])
        for route in cached:
            gauge.add_metric([route.name], getattr(route.cache, field))
        yield gauge
    refused = GaugeMetricFamily(
        "backstay_redis_cache_refused",
        "1 if nothing can be cached although the cache is on.",
        labels=["route"],
    )
    bypassed = CounterMetricFamily(
        "backstay_redis_cache_bypassed",
        "Reads that went to the server uncached, by reason.",
        labels=["route", "reason"],
    )
    for route in cached:
        refused.add_metric([route.name], float(bool(route.cache.refused)))
        for reason, count in sorted(route.cache.bypassed.items()):
            bypassed.add_metric([route.name, reason], count)
    yield from (refused, bypassed)


# ---- incidents ----------------------------------------------------------------------------------


def _incidents(report: Report) -> Metric:
    family = GaugeMetricFamily(
        "backstay_incidents_open",
        f"Incidents that go on (of the last {INCIDENTS_MAX}).",
        labels=["route"],
    )
    routes: list[Route] = [*report.postgres, *report.redis]
    for route in routes:
        going_on = (one for one in report.incidents if one.ended_s is None)
        family.add_metric([route.name], sum(one.route == route.name for one in going_on))
    return family


_SPECIMEN = Report()
