"""What is wrong now, or looks wrong in the application: ranked findings with advice. Pure.

A finding is about a state that lasts or a ratio that says something; single events are incidents.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from proxy.core.reasons import in_words
from proxy.core.report import KeyCount, PostgresReport, RedisReport, Report, WorkerReport

CRITICAL, WARNING, INFO = "critical", "warning", "info"
_RANK = {CRITICAL: 0, WARNING: 1, INFO: 2}

CLIENTS_NEAR_MAX = 0.8  # of clients_max
REPEATS_MIN = 5  # of a key within a second, before it is worth a word
MISSING_MIN = 20  # answers "no such key" for one shape
READS_MIN = 500  # before a hit rate means something
HIT_RATE_POOR = 0.2
LAG_HIGH_S = 0.1  # p99 of the loop's lag
LAG_COUNT_MIN = 100
KEYS_NAMED_MAX = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One of them. `route`: empty for the process. `advice`: what to do."""

    level: str
    route: str
    text: str
    advice: str

    @property
    def sentence(self) -> str:
        """For one line: where, and what."""
        if self.route:
            return f"{self.route}: {self.text}"
        return self.text[:1].upper() + self.text[1:]


def findings(report: Report) -> list[Finding]:
    """All of them, the worst first."""
    found: list[Finding] = []
    for worker in report.workers:
        found += _of_worker(worker)
    for postgres in report.postgres:
        found += _of_route(postgres)
        found += _of_postgres(postgres)
    for redis in report.redis:
        found += _of_route(redis)
        found += _of_redis(redis)
    if report.reload_problems:
        text = f"the last reload was refused: {report.reload_problems[0]}"
        advice = "Correct the settings file (backstay check-config) and reload again."
        found.append(Finding(WARNING, "", text, advice))
    return sorted(found, key=lambda finding: _RANK[finding.level])


def _of_worker(worker: WorkerReport) -> Iterator[Finding]:
    if worker.state in ("paused", "draining"):
        yield Finding(WARNING, "", f"process {worker.pid} is {worker.state}", _LIFE[worker.state])
    if worker.bugs:
        yield Finding(
            WARNING,
            "",
            f"process {worker.pid} met {_many(worker.bugs, 'bug')} of Backstay's own",
            "Look for the events bug and task_crashed in the log, and report them.",
        )
    lag = worker.recent_lag  # not of an hour ago: what is over is no finding
    if lag.count >= LAG_COUNT_MIN and lag.quantile_s(0.99) > LAG_HIGH_S:
        yield Finding(
            WARNING,
            "",
            f"process {worker.pid} is short of CPU: its loop is late by"
            f" {_seconds(lag.quantile_s(0.99))} at p99",
            "Give it more CPU (a cgroup's quota counts, too), or set workers to more than 1.",
        )
    if worker.log_lines_dropped:
        yield Finding(
            INFO,
            "",
            f"{_many(worker.log_lines_dropped, 'log line')} did not fit the queue to stderr",
            "Raise log.level, or read stderr faster.",
        )


_LIFE = {
    "paused": "RESUME lets the sessions go on.",
    "draining": "It ends when the last session has come to its boundary, or after drain_s.",
}


def _of_route(route: PostgresReport | RedisReport) -> Iterator[Finding]:
    if route.state == "away":
        waits = "session" if isinstance(route, PostgresReport) else "command"
        reason = f" ({in_words(route.reason)})" if route.reason else ""
        yield Finding(
            CRITICAL,
            route.name,
            f"the upstream has been away for {_seconds(route.away_s)}{reason};"
            f" {_many(route.waiting, waits) if route.waiting else 'nobody'}"
            f" wait{'' if route.waiting > 1 else 's'}",
            f"Look at {' and '.join(route.upstream)}: is it running, and is the path to it open?",
        )
    elif route.state == "paused":
        yield Finding(WARNING, route.name, "paused", "RESUME lets the sessions go on.")
    if route.clients_max and route.clients >= route.clients_max * CLIENTS_NEAR_MAX:
        full = route.clients >= route.clients_max
        setting = "pool.clients" if isinstance(route, PostgresReport) else "clients"
        yield Finding(
            CRITICAL if full else WARNING,
            route.name,
            f"{route.clients} of at most {route.clients_max} clients are connected",
            f"Raise {setting}, or find out who keeps connections open.",
        )


def _of_postgres(route: PostgresReport) -> Iterator[Finding]:
    for pool in route.pools:
        if route.state == "away" or not pool.sessions_waiting:
            continue
        full = pool.links_active + pool.links_idle + pool.links_opening >= pool.links_max
        name = f"{pool.user}@{pool.database}"
        if full:
            yield Finding(
                WARNING,
                route.name,
                f"{_many(pool.sessions_waiting, 'session')} of {name} wait for one of"
                f" {_many(pool.links_max, 'link')}, the longest for"
                f" {_seconds(pool.longest_wait_s)}",
                "Raise pool.size (and the server's max_connections), or have the application"
                " keep fewer connections open: a session keeps its link.",
            )
    if route.pooler:
        yield Finding(
            INFO,
            route.name,
            "the upstream is a pooler, not PostgreSQL itself",
            "Settings may not stick and sessions cannot be verified after a loss: point the"
            " upstream at PostgreSQL if you can.",
        )
    if route.counts.get("doubts"):
        yield Finding(
            INFO,
            route.name,
            f"{_many(route.counts['doubts'], 'statement')} ended with the outcome unknown",
            "The application must check for the effect before it tries again.",
        )


def _of_redis(route: RedisReport) -> Iterator[Finding]:
    cache = route.cache
    if not cache.enabled:
        return
    if cache.refused:
        yield Finding(
            WARNING,
            route.name,
            f"nothing is cached: {cache.refused}",
            "Redis 7.0 or later with CLIENT TRACKING allowed for the user is needed; or set"
            " cache.enabled to false.",
        )
        return
    reads = cache.hits + cache.misses
    if reads >= READS_MIN and cache.hits < reads * HIT_RATE_POOR:
        yield Finding(
            INFO,
            route.name,
            f"only {100 * cache.hits / reads:.0f} % of {reads} reads were answered from the cache",
            "Look at the keys that are read and at cache.ttl_s, max_bytes, include, exclude.",
        )
    repeated = [key for key in cache.repeated_keys if key.count >= REPEATS_MIN]
    if repeated:
        yield Finding(
            INFO,
            route.name,
            f"clients read the same key again within a second: {_keys(repeated)}",
            "The cache answers them; read the key once per request in the application.",
        )
    missing = [key for key in cache.missing_keys if key.count >= MISSING_MIN]
    if missing:
        yield Finding(
            INFO,
            route.name,
            f"keys that do not exist are read again and again: {_keys(missing)}",
            "Store that there is none, too, where each miss means a query to the database.",
        )


def _keys(keys: list[KeyCount]) -> str:
    named = ", ".join(f"{key.shape} ({key.count} times)" for key in keys[:KEYS_NAMED_MAX])
    more = len(keys) - KEYS_NAMED_MAX
    return f"{named} and {more} more" if more > 0 else named


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
