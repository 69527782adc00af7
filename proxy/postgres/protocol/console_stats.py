"""SHOW STATS and its like: totals of the routes since the start, and averages of the last minute.

The averages need no clock of their own: each SHOW leaves its totals behind, and the next one
compares itself with the oldest of the last minute. Who asks once gets the average since the start.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from proxy.core.report import PostgresReport, Report
from proxy.postgres.protocol.console_table import Column, Columns, Kind, Table, Value

PERIOD_S = 60.0
"""What averages reach back to, at most: PgBouncer's default stats_period."""

SPACING_S = 5.0
"""Totals are kept no closer to each other than this."""

KEPT_MAX = int(PERIOD_S / SPACING_S) + 2

_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Totals:
    """One route since the start of the process; times in µs. All only grow.

    A request is what the client ended with a Query or a Sync: it stands for the transaction and
    for the query of PgBouncer's columns.
    """

    server_assignment_count: int = 0
    xact_count: int = 0
    query_count: int = 0
    received: int = 0
    sent: int = 0
    xact_time: int = 0
    query_time: int = 0
    wait_time: int = 0
    client_parse_count: int = 0
    server_parse_count: int = 0
    bind_count: int = 0


def totals(report: PostgresReport, sample_every: int) -> Totals:
    """The route's totals. `sample_every`: one request in so many is measured."""
    counts, latency = report.counts, report.latency
    units = counts.get("units", 0)
    busy_us = int(latency.server.sum_s * sample_every * _US)
    return Totals(
        server_assignment_count=counts.get("clients", 0) + counts.get("restores", 0),
        xact_count=units,
        query_count=units,
        # What clients send goes to the server, and what it sends to clients.
        received=counts.get("bytes_sent", 0),
        sent=counts.get("bytes_received", 0),
        xact_time=busy_us,
        query_time=busy_us,
        wait_time=int(latency.wait.sum_s * _US),
    )


def _names(cls: type) -> list[str]:
    return [field.name for field in fields(cls)]


_NAMES = _names(Totals)
_PLAIN = {"received": "bytes_received", "sent": "bytes_sent"}  # without their prefix
_AVERAGE = {"received": "recv"}
_IN_TOTALS = {"received": "client_bytes", "sent": "server_bytes"}

_TOTAL_COLUMNS = tuple(Column(f"total_{name}", Kind.NUMERIC) for name in _NAMES)
_AVERAGE_COLUMNS = tuple(Column(f"avg_{_AVERAGE.get(name, name)}", Kind.NUMERIC) for name in _NAMES)
_PLAIN_COLUMNS = tuple(Column(_PLAIN.get(name, name), Kind.NUMERIC) for name in _NAMES)
_DATABASE = (Column("database"),)

STATS: Columns = _DATABASE + _TOTAL_COLUMNS + _AVERAGE_COLUMNS
STATS_TOTALS: Columns = _DATABASE + _PLAIN_COLUMNS
STATS_AVERAGES: Columns = _DATABASE + _PLAIN_COLUMNS
TOTALS: Columns = (Column("name"), Column("value", Kind.NUMERIC))


def average(now: Totals, before: Totals, seconds: float) -> Totals:
    """Per second; times per request, and waiting per link taken; whole numbers."""
    gained = {name: getattr(now, name) - getattr(before, name) for name in _NAMES}
    per = {"xact_time": "xact_count", "query_time": "query_count"}
    per["wait_time"] = "server_assignment_count"
    values = {}
    for name in _NAMES:
        divisor = gained[per[name]] if name in per else seconds
        values[name] = max(0, int(gained[name] / divisor)) if divisor > 0 else 0
    return Totals(**values)


class Averages:
    """Totals of the last minute, as far as somebody asked for them."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, Mapping[str, Totals]]] = deque(maxlen=KEPT_MAX)

    def rate(self, now_s: float, started_s: float, now: Mapping[str, Totals]) -> dict[str, Totals]:
        """The averages of each route. `now_s` and `started_s` of the process are Unix times."""
        kept = self._kept
        while kept and now_s - kept[0][0] > PERIOD_S:
            kept.popleft()
        since_s, before = kept[0] if kept else (started_s, {})
        if now_s - since_s < 1.0:
            since_s, before = started_s, {}
        if not kept or now_s - kept[-1][0] >= SPACING_S:
            kept.append((now_s, dict(now)))
        seconds = max(now_s - since_s, 1.0)
        return {
            name: average(one, before.get(name, Totals()), seconds) for name, one in now.items()
        }


@dataclass(frozen=True, slots=True)
class Stats:
    """Totals and averages of each route, by its name."""

    now: Mapping[str, Totals]
    average: Mapping[str, Totals]


def collected(report: Report, averages: Averages, now_s: float, sample_every: int) -> Stats:
    """The numbers of all PostgreSQL routes, now."""
    now = {one.name: totals(one, sample_every) for one in report.postgres}
    started_s = min((worker.started_s for worker in report.workers), default=now_s)
    return Stats(now, averages.rate(now_s, started_s, now))


def _values(one: Totals) -> list[Value]:
    return [getattr(one, name) for name in _NAMES]


def table(name: str, stats: Stats) -> Table:
    """SHOW STATS, STATS_TOTALS, STATS_AVERAGES or TOTALS."""
    match name:
        case "stats":
            rows = [[k, *_values(v), *_values(stats.average[k])] for k, v in stats.now.items()]
            return Table(STATS, rows)
        case "stats_totals":
            return Table(STATS_TOTALS, [[k, *_values(v)] for k, v in stats.now.items()])
        case "stats_averages":
            return Table(STATS_AVERAGES, [[k, *_values(v)] for k, v in stats.average.items()])
        case _:
            assert name == "totals", name
            return Table(TOTALS, _summed("total", stats.now) + _summed("avg", stats.average))


def _summed(prefix: str, each: Mapping[str, Totals]) -> list[Sequence[Value]]:
    rows: list[Sequence[Value]] = []
    for name in _NAMES:
        numbers = [getattr(one, name) for one in each.values()]
        total = sum(numbers)
        if prefix == "avg" and name.endswith("_time"):
            total = total // len(numbers) if numbers else 0  # a mean of means: a duration
        rows.append([f"{prefix}_{_IN_TOTALS.get(name, name)}", total])
    return rows
