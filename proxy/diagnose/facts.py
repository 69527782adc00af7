"""What was measured at a target: plain data, filled by the collectors, read by the rules.

`None` means "not measured" throughout. Nothing here holds a password, a value or an SQL text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ConnectTimes:
    """Opening one connection, seconds. `login_s` is everything behind TCP and TLS."""

    dns_s: float | None = None
    tcp_s: float | None = None
    tls_s: float | None = None
    login_s: float | None = None

    @property
    def total_s(self) -> float:
        """All of it."""
        return sum(s for s in (self.dns_s, self.tcp_s, self.tls_s, self.login_s) if s is not None)


@dataclass(frozen=True, slots=True)
class Latency:
    """Round trips of the smallest request."""

    samples: int
    p50_s: float
    p99_s: float
    max_s: float

    @staticmethod
    def of(samples_s: Sequence[float]) -> "Latency":
        """The summary of at least one sample."""
        ordered = sorted(samples_s)
        last = len(ordered) - 1
        return Latency(
            len(ordered),
            ordered[last // 2],
            ordered[min(last, len(ordered) * 99 // 100)],
            ordered[-1],
        )


@dataclass(slots=True)
class TlsFacts:
    """TLS as our own handshake saw it, with the machine's or the URL's authorities."""

    offered: bool | None = None
    version: str = ""
    cipher: str = ""
    verified: bool | None = None
    """Whether a client that verifies chain and name would have accepted the certificate."""
    why_not: str = ""
    expires_days: float | None = None


@dataclass(slots=True)
class Failure:
    """Why a target could not be used. `stage`: dns | tcp | tls | login | query."""

    stage: str
    reason: str
    """One of: unknown-host, refused, timeout, closed, certificate, password, full, away, other."""
    text: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Session:
    """One row of pg_stat_activity, without its query. Ages in seconds; None: not to be seen."""

    user: str | None
    application: str
    address: str
    state: str | None
    state_s: float | None
    transaction_s: float | None
    backend_s: float | None


@dataclass(slots=True)
class Pooler:
    """What two connections of the same user showed about who answers."""

    key_pid_differs: bool = False
    """The process id of the login is not the one that answers: something is in between."""
    shared: bool = False
    """Both connections were answered by one server process."""
    moved: bool = False
    """One connection was answered by two server processes."""
    set_failed: str = ""
    """SQLSTATE and words of the error that `SET search_path` got."""
    set_lost: bool = False
    """`search_path`, once set, was another one in a later transaction."""
    set_leaked: bool = False
    """The other connection saw our `search_path`."""
    waited: bool = False
    """A connection had to wait while the other one was in a transaction."""

    @property
    def transaction(self) -> bool:
        """Whether connections to the server are shared between transactions."""
        return self.shared or self.moved or self.set_lost or self.set_leaked or self.waited


@dataclass(slots=True)
class PostgresFacts:
    """All about one PostgreSQL target."""

    connect: ConnectTimes | None = None
    tls: TlsFacts = field(default_factory=TlsFacts)
    tls_used: bool | None = None
    version: str = ""
    user: str = ""
    database: str = ""
    latency: Latency | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """pg_settings, in each setting's own unit: seconds or milliseconds as PostgreSQL has them."""
    in_recovery: bool | None = None
    connections: int | None = None
    """Taken of max_connections, ours included."""
    role_limit: int = -1
    database_limit: int = -1
    sessions: list[Session] | None = None
    hidden: int = 0
    """Sessions whose state this user may not see."""
    pooler: Pooler | None = None

    def number(self, name: str) -> int | None:
        """A setting that is a whole number; None if it is unknown."""
        text = self.settings.get(name, "")
        return int(text) if text.lstrip("-").isdigit() else None

    @property
    def reserved(self) -> int:
        """Of max_connections, what is kept for superusers and the like."""
        names = ("superuser_reserved_connections", "reserved_connections")
        return sum(self.number(name) or 0 for name in names)

    @property
    def usable(self) -> int | None:
        """Connections that applications may have; None if unknown."""
        limit = self.number("max_connections")
        return None if limit is None else max(1, limit - self.reserved)


@dataclass(slots=True)
class RedisFacts:
    """All about one Redis target. `info`: fields of INFO, as Redis spells them."""

    connect: ConnectTimes | None = None
    tls: TlsFacts = field(default_factory=TlsFacts)
    tls_used: bool = False
    latency: Latency | None = None
    info: dict[str, str] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    """CONFIG GET, where it is allowed."""
    tracking: str | None = None
    """"": CLIENT TRACKING works; else the error's first word."""
    slow: list[tuple[str, float]] | None = None
    """Newest entries of the slow log: command and seconds. None: may not be read."""
    slow_count: int = 0


@dataclass(frozen=True, slots=True)
class ProxyFacts:
    """The same target through Backstay."""

    connect: ConnectTimes | None = None
    latency: Latency | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class IdleLink:
    """One link that was left alone. `ended`: "" (it lived), fin, rst, silence, or words."""

    idle_s: float
    """For how long it was left alone, or until it ended."""
    ended: str
    care: str = "none"
    """What was done meanwhile: none, keepalive (TCP, each second), ping (each second)."""
    words: str = ""
    """The server's own last words."""


@dataclass(frozen=True, slots=True)
class IdleFacts:
    """Links left idle for growing times."""

    links: list[IdleLink]
    until_s: float
