"""The settings: every one there is, with meaning, bounds and default. Frozen; unknown keys refused.

What a single field may be stands here and in `fields`; rules between fields stand in `rules`.
Reading files and the environment is `load`'s work: nothing here does I/O.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, ConfigDict, SecretStr, ValidationInfo, field_validator

from proxy.settings.fields import (
    AdminListen,
    File,
    HostName,
    Name,
    Number,
    Pattern,
    PostgresListen,
    PostgresSecret,
    PostgresTarget,
    RedisListen,
    RedisTarget,
    Role,
    Secret,
    Section,
    Size,
    SqlState,
    Switch,
    Whole,
    section,
    setting,
    upstream_or_file,
)
from proxy.settings.urls import PostgresUpstream, RedisUpstream

DAY_S = 86_400
ROUTES_MAX = 64
WORKERS_MAX = 64
USERS_MAX = 10_000
TOKEN_CHARS_MIN = 16


class Tls(Section):
    """TLS towards clients."""

    mode: Literal["disable", "allow", "require", "verify-ca"] = setting(
        "disable",
        "disable: none. allow: for clients that ask. require: clients without TLS are refused. "
        "verify-ca: clients must also show a certificate signed by client_ca.",
    )
    cert: File | None = setting(None, "Certificate chain (PEM). Needed unless mode is disable.")
    key: File | None = setting(None, "The certificate's private key (PEM), without a passphrase.")
    client_ca: File | None = setting(
        None, "Authorities (PEM) that sign clients' certificates. Needed with mode verify-ca."
    )


# ---- PostgreSQL ---------------------------------------------------------------------------------


class PostgresAuth(Section):
    """How clients prove who they are."""

    method: Literal["passthrough", "scram-sha-256", "trust"] | None = setting(
        None,
        "passthrough: the client's password is asked in clear (over TLS, a Unix socket or loopback "
        "only) and the upstream decides. scram-sha-256: the client proves the upstream URL's "
        "password, or that of its entry in users. trust: nothing is asked. Default: scram-sha-256 "
        "when the upstream URL has a password or users are listed, else passthrough.",
    )
    users: dict[str, PostgresSecret] = setting(
        {},
        "User name to password, or to the SCRAM-SHA-256$… verifier of pg_authid. Each logs in "
        "upstream as itself. Only with scram-sha-256.",
        max_length=USERS_MAX,
    )
    users_file: File | None = setting(None, "A YAML file with the mapping of users, instead of it.")
    trust_anywhere: Switch = setting(
        False, "Allow trust on listeners other than loopback and Unix sockets."
    )


def _pool_mode(value: object) -> object:
    if value == "transaction":
        raise ValueError("transaction pooling does not exist yet; expected session")
    if value != "session":
        raise ValueError("expected session")
    return value


class PostgresPool(Section):
    """Links (upstream connections) and who may use them."""

    mode: Annotated[Literal["session"], BeforeValidator(_pool_mode)] = setting(
        "session", "session: a client keeps its link until it leaves. Others do not exist yet."
    )
    size: Whole = setting(20, "Links per user and database.", ge=1, le=10_000)
    warm: Whole = setting(
        1, "Links kept open and logged in per user and database, once known.", ge=0, le=10_000
    )
    idle_s: Number = setting(
        600, "An idle link above `warm` is closed after this, seconds.", ge=1, le=DAY_S
    )
    lifetime_s: Number = setting(
        3600, "A link older than this is closed when idle, seconds, jittered.", ge=1, le=30 * DAY_S
    )
    clients: Whole = setting(1000, "Connected clients, whole route.", ge=1, le=1_000_000)
    connect_parallel: Whole = setting(
        4, "Links being opened at a time, whole route.", ge=1, le=1000
    )
    connects_per_s: Number = setting(
        50,
        "Links opened per second at most, whole route, once `size` (at least 10) were opened at "
        "once: the pace at which an upstream that is back is filled again.",
        ge=0.1,
        le=100_000,
    )
    connect_timeout_s: Number = setting(
        10,
        "Opening one link to one host, login included, seconds. connect_timeout in the upstream "
        "URL goes before it.",
        ge=0.1,
        le=600,
    )
    login_timeout_s: Number = setting(
        60, "A client has this long to log in, seconds.", ge=0.1, le=3600
    )


class PostgresKeepalive(Section):
    """How silent links are kept alive, and dead ones found."""

    idle_s: Whole = setting(
        15, "TCP keepalive: silence before the first probe, seconds.", ge=1, le=32_767
    )
    interval_s: Whole = setting(5, "TCP keepalive: between probes, seconds.", ge=1, le=32_767)
    count: Whole = setting(
        3, "TCP keepalive: unanswered probes before the link is lost.", ge=1, le=127
    )
    ping_s: Number = setting(
        25, "An idle link is asked something this often, seconds; 0: never.", ge=0, le=DAY_S
    )


class Resilience(Section):
    """What happens when a link is lost or the upstream is away."""

    hold_s: Number = setting(
        30, "A session waits this long for an upstream that is away, seconds.", ge=0, le=DAY_S
    )
    hold_clients: Whole = setting(1000, "Sessions that may wait at a time.", ge=0, le=1_000_000)
    replay: Literal["off", "reads", "certified"] = setting(
        "certified",
        "What is sent again after a loss. off: nothing. reads: units certified to be read-only. "
        "certified: also units with any other certificate that the first run did not commit.",
    )
    doubt_sqlstate: SqlState = setting(
        "08007", "SQLSTATE of the error that says the outcome is unknown."
    )
    listen_loss: Literal["close", "notice"] = setting(
        "close",
        "A session that LISTENs lost its link, and notifications may be lost. close: its "
        "connection is closed, so that it looks again. notice: LISTEN is restored, with a NOTICE.",
    )


@dataclass(frozen=True, slots=True)
class LinkKeepalive:
    """TCP keepalive of links, after the upstream URL had its say. `enabled` is SO_KEEPALIVE."""

    enabled: bool
    idle_s: int
    interval_s: int
    count: int


class PostgresRoute(Section):
    """One place where clients connect, and the PostgreSQL behind it."""

    model_config = ConfigDict(json_schema_extra=upstream_or_file)

    name: Name = setting("main", "The route's name in logs and metrics; another is another route.")
    listen: PostgresListen = setting(
        "127.0.0.1:6432",
        "host:port, *:port, [IPv6]:port, or a directory for a Unix socket (its file is "
        ".s.PGSQL.6432; directory:port for another number), or a list of them. Port 0: any free.",
        validate_default=True,
    )
    # Before `upstream`: a validator sees only the fields declared above its own.
    password: Secret | None = setting(
        None, "Password for the upstream URL's user, in place of one in the URL."
    )
    password_file: File | None = setting(None, "A file that holds `password`, instead of it.")
    upstream_file: File | None = setting(None, "A file that holds `upstream`, instead of it.")
    upstream: PostgresTarget = setting(
        ...,
        "Where PostgreSQL is: a libpq URI or key=value DSN (several hosts, sslmode, sslrootcert, "
        "target_session_attrs …), or a JDBC URL.",
    )
    auth: PostgresAuth = section(PostgresAuth, "How clients prove who they are.")
    tls: Tls = section(Tls, "TLS towards clients.")
    pool: PostgresPool = section(PostgresPool, "Links and clients.")
    keepalive: PostgresKeepalive = section(PostgresKeepalive, "Keeping links alive.")
    resilience: Resilience = section(Resilience, "What happens on loss and outage.")

    @field_validator("upstream")
    @classmethod
    def _with_password(cls, upstream: PostgresUpstream, info: ValidationInfo) -> PostgresUpstream:
        password = info.data.get("password")
        return replace(upstream, password=password.get_secret_value()) if password else upstream

    @property
    def auth_method(self) -> Literal["passthrough", "scram-sha-256", "trust"]:
        """The method in force, the default resolved."""
        if self.auth.method is not None:
            return self.auth.method
        return "scram-sha-256" if self.upstream.password or self.auth.users else "passthrough"

    @property
    def connect_timeout_s(self) -> float:
        """Of one link to one host; the URL's goes before the pool's."""
        return self.upstream.connect_timeout_s or self.pool.connect_timeout_s

    @property
    def link_keepalive(self) -> LinkKeepalive:
        """TCP keepalive of links; the URL's keepalives_… go before the settings."""
        url, own = self.upstream, self.keepalive
        return LinkKeepalive(
            enabled=url.keepalives,
            idle_s=url.keepalives_idle_s or own.idle_s,
            interval_s=url.keepalives_interval_s or own.interval_s,
            count=url.keepalives_count or own.count,
        )


# ---- Redis --------------------------------------------------------------------------------------


class RedisAuth(Section):
    """How clients prove who they are."""

    method: Literal["passthrough", "password", "trust"] | None = setting(
        None,
        "passthrough: the client's own AUTH or HELLO AUTH, decided upstream. password: the client "
        "presents the upstream URL's password, or that of its entry in users. trust: the URL's "
        "credentials serve everyone. Default: password when the upstream URL has one or users are "
        "listed, else passthrough.",
    )
    users: dict[str, Secret] = setting(
        {},
        "User name to password. Each logs in upstream as itself. Only with method password.",
        max_length=USERS_MAX,
    )
    users_file: File | None = setting(None, "A YAML file with the mapping of users, instead of it.")
    trust_anywhere: Switch = setting(
        False, "Allow trust on listeners other than loopback and Unix sockets."
    )


class RedisKeepalive(Section):
    """How silent links are kept alive, and dead ones found."""

    idle_s: Whole = setting(
        10, "TCP keepalive: silence before the first probe, seconds.", ge=1, le=32_767
    )
    interval_s: Whole = setting(5, "TCP keepalive: between probes, seconds.", ge=1, le=32_767)
    count: Whole = setting(
        3, "TCP keepalive: unanswered probes before the link is lost.", ge=1, le=127
    )
    ping_s: Number = setting(
        5, "A silent link is sent PING this often, seconds; 0: never.", ge=0, le=DAY_S
    )


class Cache(Section):
    """The coherent read-through cache."""

    enabled: Switch = setting(True, "Answer repeated reads locally.")
    max_bytes: Size = setting(
        "64MiB", "Bytes of keys and replies, whole route.", ge=0, le=1 << 40, validate_default=True
    )
    max_entry_bytes: Size = setting(
        "64KiB", "A bigger entry is not kept, bytes.", ge=0, le=1 << 30, validate_default=True
    )
    ttl_s: Number = setting(
        60,
        "An entry is kept at most this long, seconds; the key's own TTL is always obeyed.",
        gt=0,
        le=DAY_S,
    )
    negative_ttl_s: Number = setting(
        60,
        "The answer `no such key` is kept at most this long, seconds; 0: not kept.",
        ge=0,
        le=DAY_S,
    )
    lease_ms: Whole = setting(
        500,
        "Bound on staleness: nothing is served unless Redis was heard this recently, milliseconds.",
        ge=10,
        le=60_000,
    )
    include: tuple[Pattern, ...] = setting(
        ("*",),
        "Only keys that match one of these patterns (as KEYS takes them) are cached.",
        max_length=1000,
    )
    exclude: tuple[Pattern, ...] = setting(
        (), "Keys that match one of these are not cached, whatever include says.", max_length=1000
    )
    stale_max_s: Number = setting(
        0,
        "While Redis is away, entries up to this old are served, and counted, seconds; 0: never.",
        ge=0,
        le=DAY_S,
    )


class RedisRoute(Section):
    """One place where clients connect, and the Redis behind it."""

    model_config = ConfigDict(json_schema_extra=upstream_or_file)

    name: Name = setting("cache", "The route's name in logs and metrics; another is another route.")
    listen: RedisListen = setting(
        "127.0.0.1:6380",
        "host:port, *:port, [IPv6]:port, the path of a Unix socket, or a list of them. "
        "Port 0: any free.",
        validate_default=True,
    )
    # Before `upstream`: a validator sees only the fields declared above its own.
    password: Secret | None = setting(
        None, "Password for the upstream, in place of one in the URL."
    )
    password_file: File | None = setting(None, "A file that holds `password`, instead of it.")
    upstream_file: File | None = setting(None, "A file that holds `upstream`, instead of it.")
    upstream: RedisTarget = setting(
        ..., "Where Redis or Valkey is: redis://, rediss://, valkey://, valkeys:// or unix://."
    )
    auth: RedisAuth = section(RedisAuth, "How clients prove who they are.")
    tls: Tls = section(Tls, "TLS towards clients.")
    clients: Whole = setting(1000, "Connected clients, whole route.", ge=1, le=1_000_000)
    connect_timeout_s: Number = setting(
        5,
        "Opening one link, login included, seconds. socket_connect_timeout in the upstream URL "
        "goes before it.",
        ge=0.1,
        le=600,
    )
    command_timeout_s: Number = setting(
        5,
        "A command that is not meant to block is given up after this, seconds.",
        ge=0.01,
        le=DAY_S,
    )
    hold_s: Number = setting(
        2, "Commands wait this long for an upstream that is away, seconds.", ge=0, le=DAY_S
    )
    replay: Literal["off", "reads"] = setting(
        "reads", "Commands sent again after a loss. off: none. reads: those that change nothing."
    )
    keepalive: RedisKeepalive = section(RedisKeepalive, "Keeping links alive.")
    cache: Cache = section(Cache, "The coherent read-through cache.")

    @field_validator("upstream")
    @classmethod
    def _with_password(cls, upstream: RedisUpstream, info: ValidationInfo) -> RedisUpstream:
        password = info.data.get("password")
        return replace(upstream, password=password.get_secret_value()) if password else upstream

    @property
    def auth_method(self) -> Literal["passthrough", "password", "trust"]:
        """The method in force, the default resolved."""
        if self.auth.method is not None:
            return self.auth.method
        return "password" if self.upstream.password or self.auth.users else "passthrough"

    @property
    def link_connect_timeout_s(self) -> float:
        """Of one link; the URL's goes before the route's."""
        return self.upstream.connect_timeout_s or self.connect_timeout_s

    @property
    def link_keepalive(self) -> LinkKeepalive:
        """TCP keepalive of links."""
        own = self.keepalive
        return LinkKeepalive(True, own.idle_s, own.interval_s, own.count)


# ---- the whole ----------------------------------------------------------------------------------


class Admin(Section):
    """The admin port (health, metrics, status, dashboard) and the admin console."""

    listen: AdminListen = setting(
        "127.0.0.1:9127",
        "host:port, *:port, [IPv6]:port, the path of a Unix socket, or a list of them. "
        "[]: no admin port.",
        reloadable=False,
        validate_default=True,
    )
    token: Secret | None = setting(
        None,
        "What `Authorization: Bearer …` must hold to change something (pause, reload, kill) or to "
        "see Redis keys in full, 16 characters at least. Without it the admin port only reads.",
        reloadable=False,
    )
    token_file: File | None = setting(
        None, "A file that holds `token`, instead of it.", reloadable=False
    )
    hosts: tuple[HostName, ...] = setting(
        (),
        "Names in the Host header that are answered, besides localhost, IP addresses and the names "
        "in `listen`: such as that of a Kubernetes service. Others are refused, so that no web "
        "page can reach the port by a name it controls.",
        reloadable=False,
        max_length=100,
    )

    @field_validator("token")
    @classmethod
    def _long_token(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < TOKEN_CHARS_MIN:
            raise ValueError(f"expected at least {TOKEN_CHARS_MIN} characters")
        return token

    console: tuple[Role, ...] = setting(
        ("backstay", "pgbouncer"),
        "Database names that lead to the admin console, on the ports of every PostgreSQL route, "
        "instead of to a database. []: no console.",
        max_length=16,
    )
    users: tuple[Role, ...] | None = setting(
        None,
        "PostgreSQL users who may do everything at the console: PAUSE, KILL, RELOAD … They log in "
        "as to the route. Default, if stats_users is not given either: the user of the route's "
        "upstream URL.",
        max_length=USERS_MAX,
    )
    stats_users: tuple[Role, ...] | None = setting(
        None,
        "PostgreSQL users who may SHOW at the console. Default, if users is not given either: "
        "whoever logs in over loopback or a Unix socket.",
        max_length=USERS_MAX,
    )


class Log(Section):
    """The log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = setting(
        "info", "Events below are dropped."
    )
    format: Literal["auto", "json", "console"] = setting(
        "auto", "auto: console on a terminal, else JSON, one object per line."
    )
    sql: Switch = setting(
        False, "Put the text of statements into events about them. It may hold personal data."
    )


def _workers(value: object) -> object:
    if value == "auto":
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= WORKERS_MAX:
        raise ValueError(f"expected a number of processes, 1 to {WORKERS_MAX}, or auto")
    return value


class Settings(Section):
    """All settings of one Backstay process."""

    postgres: tuple[PostgresRoute, ...] = setting(
        (), "Routes to PostgreSQL.", max_length=ROUTES_MAX
    )
    redis: tuple[RedisRoute, ...] = setting((), "Routes to Redis.", max_length=ROUTES_MAX)
    admin: Admin = section(Admin, "The admin port.")
    log: Log = section(Log, "The log.")
    workers: Annotated[int | Literal["auto"], BeforeValidator(_workers)] = setting(
        1,
        "Processes sharing the ports, at most as many as the smallest pool has links; limits are "
        "shared out to them. auto: one for each core. More than one is for more than one core's "
        "worth of work.",
        reloadable=False,
    )
    drain_s: Number = setting(
        30, "After SIGTERM, sessions have this long to end, seconds.", ge=0, le=DAY_S
    )
