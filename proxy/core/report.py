"""What a process tells about itself: plain numbers and names, made on demand by the routes.

One structure serves the metrics, the status page, the console and the command line. Reports of
several workers are added up (`merged`); nothing here holds a secret, a bind value or an SQL text.
Every duration is in seconds, every size in bytes; times of day are Unix times.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from proxy.core.histogram import Histogram


def largest(default: Any = 0) -> Any:
    """A field of which the merged report has the largest."""
    return field(default=default, metadata={"merge": max})


def first(default: Any = "") -> Any:
    """A field that is the same in every worker that has it."""
    return field(default=default, metadata={"merge": lambda one, two: one or two})


_STATES = ("idle", "up", "paused", "draining", "away")  # of a route, from quiet to bad
_LIVES = ("ready", "starting", "paused", "draining")  # of a process


def _worst(one: str, two: str) -> str:
    return max(one, two, key=_STATES.index)


def _latest(one: str, two: str) -> str:
    return max(one, two, key=_LIVES.index)


@dataclass(slots=True)
class Latency:
    """The histograms of a route."""

    wait: Histogram = field(default_factory=Histogram)  # of a session or command for a link
    server: Histogram = field(default_factory=Histogram)  # a unit sent, until its answer's end
    proxy: Histogram = field(default_factory=Histogram)  # what the proxy itself took for a unit
    outage: Histogram = field(default_factory=Histogram)  # from the loss of the last link to a new
    restore: Histogram = field(default_factory=Histogram)  # from a session's loss to its new link
    connect: Histogram = field(default_factory=Histogram)  # opening one link, login included


@dataclass(slots=True)
class PoolReport:
    """The links of one user and database of a PostgreSQL route, and who uses them."""

    user: str = first()
    database: str = first()
    sessions_active: int = 0  # owed an answer, or in a transaction
    sessions_idle: int = 0
    sessions_waiting: int = 0  # for a link
    links_active: int = 0
    links_idle: int = 0
    links_opening: int = 0  # or answering something the proxy asked
    links_max: int = 0
    longest_wait_s: float = largest(0.0)  # of those who wait now

    @property
    def key(self) -> tuple[str, str]:
        return self.user, self.database


@dataclass(slots=True)
class PostgresReport:
    """One PostgreSQL route. `counts`: the route's counters, name to number, all only growing."""

    name: str = first()
    listen: list[str] = field(default_factory=list, metadata={"merge": lambda one, _: one})
    upstream: list[str] = field(default_factory=list, metadata={"merge": lambda one, _: one})
    state: str = field(default="idle", metadata={"merge": _worst})  # see _worst
    reason: str = first()  # of the state "away"
    away_s: float = largest(0.0)
    clients: int = 0
    clients_max: int = 0
    waiting: int = 0
    waiting_max: int = 0
    pooler: bool = first(False)  # the upstream is a pooler, not PostgreSQL itself
    pools: list[PoolReport] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)  # Reason → links lost
    errors: dict[str, int] = field(default_factory=dict)  # Reason → errors the proxy answered
    latency: Latency = field(default_factory=Latency)

    @property
    def key(self) -> str:
        return self.name


@dataclass(slots=True)
class KeyCount:
    """A key's shape (`user:*:token`; digits and tokens are masked) and how often it was met."""

    shape: str = first()
    count: int = 0

    @property
    def key(self) -> str:
        return self.shape


@dataclass(slots=True)
class CacheReport:
    """The cache of a Redis route."""

    enabled: bool = first(False)
    refused: str = first()  # why nothing is cached although it is enabled; empty: it is
    entries: int = 0
    bytes: int = 0
    max_bytes: int = 0
    hits: int = 0  # negative ones included
    negative_hits: int = 0
    misses: int = 0
    coalesced: int = 0
    stale_served: int = 0
    saved_repeats: int = 0  # hits of a client that had read the key within the last second
    invalidations: int = 0
    evictions: int = 0
    bypassed: dict[str, int] = field(default_factory=dict)
    top_keys: list[KeyCount] = field(default_factory=list)
    repeated_keys: list[KeyCount] = field(default_factory=list)
    missing_keys: list[KeyCount] = field(default_factory=list)
    refilled_keys: list[KeyCount] = field(default_factory=list)


@dataclass(slots=True)
class RedisReport:
    """One Redis route."""

    name: str = first()
    listen: list[str] = field(default_factory=list, metadata={"merge": lambda one, _: one})
    upstream: list[str] = field(default_factory=list, metadata={"merge": lambda one, _: one})
    state: str = field(default="idle", metadata={"merge": _worst})
    reason: str = first()
    away_s: float = largest(0.0)
    clients: int = 0
    clients_max: int = 0
    waiting: int = 0  # commands held because the upstream is away
    waiting_max: int = 0
    links: dict[str, int] = field(default_factory=dict)  # data | bulk | tracking | exclusive …
    partitions: int = largest(0)
    commands: int = 0  # read from clients
    counts: dict[str, int] = field(default_factory=dict)
    losses: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    cache: CacheReport = field(default_factory=CacheReport)
    latency: Latency = field(default_factory=Latency)

    @property
    def key(self) -> str:
        return self.name


@dataclass(slots=True)
class WorkerReport:
    """One process that serves clients."""

    number: int = first(0)
    pid: int = first(0)
    state: str = first("ready")  # starting | ready | paused | draining
    started_s: float = first(0.0)
    loop_lag: Histogram = field(default_factory=Histogram)  # how late a timer of 100 ms was
    cpu_s: float = 0.0
    rss_bytes: int = 0
    open_fds: int = 0
    tasks: int = 0
    bugs: int = 0
    log_lines_dropped: int = 0
    recent_lag: Histogram = field(default_factory=Histogram)  # loop_lag of the last minute or two

    @property
    def key(self) -> int:
        return self.number


@dataclass(slots=True)
class Incident:
    """One time of trouble on a route: from the first loss until everybody was served again."""

    id: str
    route: str
    kind: str  # postgres | redis
    reason: str  # of the first loss
    upstream: str  # what died
    last_words: str  # the server's own FATAL, if it said something
    started_s: float
    ended_s: float | None = None  # None: it goes on
    losses: int = 0  # links
    sessions: int = 0  # that lost their link or had to wait
    longest_wait_s: float = 0.0
    replayed: dict[str, int] = field(default_factory=dict)  # certificate → units sent again
    errors: dict[str, int] = field(default_factory=dict)  # SQLSTATE or Redis error → answers
    outage_s: float = 0.0  # how long no link could be opened


@dataclass(slots=True)
class Report:
    """One process, or several merged."""

    version: str = first()
    state: str = field(default="ready", metadata={"merge": _latest})
    reloaded_s: float = first(0.0)  # of the last reload that was taken, 0: none
    reload_problems: list[str] = field(default_factory=list, metadata={"merge": lambda a, _: a})
    workers: list[WorkerReport] = field(default_factory=list)
    postgres: list[PostgresReport] = field(default_factory=list)
    redis: list[RedisReport] = field(default_factory=list)
    incidents: list[Incident] = field(
        default_factory=list, metadata={"merge": lambda one, two: _by_time(one + two)}
    )


INCIDENTS_MAX = 200


def _by_time(incidents: list[Incident]) -> list[Incident]:
    return sorted(incidents, key=lambda incident: -incident.started_s)[:INCIDENTS_MAX]


T = TypeVar("T")


class _Keyed(Protocol):
    @property
    def key(self) -> Any: ...


def merged(reports: Sequence[T]) -> T:
    """One report that stands for all: numbers add up, parts with the same key are merged.

    Takes any of this module's dataclasses; `reports` is not empty and not changed.
    """
    if len(reports) == 1:
        return deepcopy(reports[0])
    one = reports[0]
    values: dict[str, Any] = {}
    for item in fields(one):  # type: ignore[arg-type]
        how: Callable[[Any, Any], Any] = item.metadata.get("merge", _add)
        value = getattr(one, item.name)
        for other in reports[1:]:
            value = how(value, getattr(other, item.name))
        values[item.name] = value
    return type(one)(**values)


def _add(one: Any, two: Any) -> Any:
    match one:
        case Histogram():
            total = Histogram(one.counts, one.sum_s, one.max_s)
            total.add(two)
            return total
        case dict():
            return {name: one.get(name, 0) + two.get(name, 0) for name in {**one, **two}}
        case list():
            return _merge_lists(one, two)
        case int() | float():
            return one + two
        case _:
            return merged([one, two])


def _merge_lists(one: list[_Keyed], two: list[_Keyed]) -> list[_Keyed]:
    known = {item.key: item for item in one}
    for item in two:
        known[item.key] = merged([known[item.key], item]) if item.key in known else item
    return list(known.values())
