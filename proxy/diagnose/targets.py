"""What to diagnose: from the settings, the environment or the command line. Pure.

Each host of an upstream is a target of its own. Credentials come from the upstream's URL, else from
`auth.users`, else (the route is passthrough: each client brings its own) from the application's
URL.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from proxy.diagnose.reach import Place, TlsWish
from proxy.settings.fields import ListenAddress
from proxy.settings.load import VARIABLES
from proxy.settings.model import PostgresRoute, RedisRoute, Settings
from proxy.settings.rules import is_loopback
from proxy.settings.urls import (
    HostPort,
    PostgresUpstream,
    RedisUpstream,
    parse_postgres_url,
    parse_redis_url,
)

URLS = {"postgres": "DATABASE_URL", "redis": "REDIS_URL"}
CONNECT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTarget:
    """One PostgreSQL host as the application, or Backstay for it, reaches it."""

    name: str
    upstream: PostgresUpstream  # exactly one host
    source: str  # where its URL stands
    route: PostgresRoute | None = None
    proxy: PostgresUpstream | None = None  # the way through Backstay; None: no route
    past: bool = False  # the application's own URL leads to this host, not to Backstay
    timeout_s: float = CONNECT_S

    kind = "postgres"

    @property
    def host(self) -> HostPort:
        """The one host."""
        return self.upstream.hosts[0]

    @property
    def place(self) -> Place:
        """Where to dial."""
        return postgres_place(self.host)

    @property
    def tls_wish(self) -> TlsWish:
        """How TLS is looked at."""
        url = self.upstream
        return TlsWish(
            ca=url.sslrootcert or "",
            postgres=url.sslnegotiation != "direct",
            cert=url.sslcert or "",
            key=url.sslkey or "",
            key_password=url.sslpassword or "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisTarget:
    """One Redis as the application, or Backstay for it, reaches it."""

    name: str
    upstream: RedisUpstream
    source: str
    route: RedisRoute | None = None
    proxy: RedisUpstream | None = None
    past: bool = False
    timeout_s: float = 5.0

    kind = "redis"

    @property
    def place(self) -> Place:
        """Where to dial."""
        return redis_place(self.upstream)

    @property
    def tls_wish(self) -> TlsWish:
        """How TLS is looked at."""
        url = self.upstream
        return TlsWish(
            ca=url.ssl_ca_certs or "",
            cert=url.ssl_certfile or "",
            key=url.ssl_keyfile or "",
            key_password=url.ssl_password or "",
        )


Target = PostgresTarget | RedisTarget


def is_local(place: Place) -> bool:
    """Whether nothing that is sent there leaves this machine."""
    return bool(place.path) or is_loopback(place.hostaddr or place.host)


def postgres_place(host: HostPort) -> Place:
    """Where to dial a libpq host."""
    if host.is_unix:
        return Place(path=host.socket_path)
    return Place(host.host, host.port, hostaddr=host.hostaddr or "")


def redis_place(upstream: RedisUpstream) -> Place:
    """Where to dial a Redis URL."""
    return Place(upstream.host or "", upstream.port, upstream.path or "")


# ---- from the settings --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AppUrls:
    """The application's own URLs, where the environment has them and they can be read."""

    postgres: PostgresUpstream | None = None
    redis: RedisUpstream | None = None
    problems: dict[str, str] = field(default_factory=dict)  # variable → what is wrong with it


def app_urls(env: Mapping[str, str]) -> AppUrls:
    """DATABASE_URL and REDIS_URL. One that cannot be read is in `problems`, without its value."""
    found: dict[str, PostgresUpstream | RedisUpstream] = {}
    problems = {}
    for kind, variable in URLS.items():
        text = env.get(variable, "")
        if not text:
            continue
        try:
            found[kind] = parse(text)
        except ValueError as error:
            problems[variable] = str(error)
            continue
        if (kind == "redis") is not isinstance(found[kind], RedisUpstream):
            problems[variable] = "not a URL of that kind of server"
            del found[kind]
    return AppUrls(found.get("postgres"), found.get("redis"), problems)  # type: ignore[arg-type]


_REDIS_SCHEMES = ("redis:", "rediss:", "valkey:", "valkeys:", "unix:")
_CLIENT_ONLY = {
    *("pgbouncer", "connection_limit", "pool_timeout", "schema", "statement_cache_size"),
    *("client_name", "decode_responses", "health_check_interval", "max_connections", "protocol"),
    *("retry_on_error", "retry_on_timeout", "socket_keepalive", "socket_timeout", "timeout"),
}


def parse(text: str) -> PostgresUpstream | RedisUpstream:
    """The upstream of an application's URL. Raises UrlError, never with a value.

    Parameters that only mean something to the application's driver are left out.
    """
    text = text.strip()
    base, question, query = text.partition("?")
    if question:
        kept = [part for part in query.split("&") if part.partition("=")[0] not in _CLIENT_ONLY]
        text = f"{base}?{'&'.join(kept)}"
    if text.lower().startswith(_REDIS_SCHEMES):
        return parse_redis_url(text)
    return parse_postgres_url(text)


def from_settings(settings: Settings, file: Path | None, app: AppUrls) -> list[Target]:
    """A target for each route and host. `file`: of the settings, for advice; None: variables."""
    targets: list[Target] = []
    for route in settings.postgres:
        targets += _postgres_targets(route, _source(file, "postgres"), app.postgres)
    for redis in settings.redis:
        upstream = _redis_login(redis, app.redis)
        targets.append(
            RedisTarget(
                name=redis.name,
                upstream=upstream,
                source=_source(file, "redis"),
                route=redis,
                proxy=_redis_proxy(redis, upstream),
                past=app.redis is not None and app.redis.target == upstream.target,
                timeout_s=redis.link_connect_timeout_s,
            )
        )
    return targets


def from_urls(urls: Mapping[str, str]) -> list[Target]:
    """A target for each URL and host; the keys say where each URL stands. Raises UrlError."""
    targets: list[Target] = []
    for source, text in urls.items():
        upstream = parse(text)
        name = source.lstrip("$")
        if isinstance(upstream, RedisUpstream):
            targets.append(RedisTarget(name=name, upstream=upstream, source=source))
            continue
        for host, one in _hosts(upstream):
            names = f"{name} {host}" if len(upstream.hosts) > 1 else name
            targets.append(PostgresTarget(name=names, upstream=one, source=source))
    return targets


def _hosts(upstream: PostgresUpstream) -> Iterator[tuple[HostPort, PostgresUpstream]]:
    for host in upstream.hosts:
        yield host, replace(upstream, hosts=(host,))


def _postgres_targets(
    route: PostgresRoute, source: str, app: PostgresUpstream | None
) -> Iterator[PostgresTarget]:
    upstream = _postgres_login(route, app)
    for host, one in _hosts(upstream):
        yield PostgresTarget(
            name=f"{route.name} {host}" if len(upstream.hosts) > 1 else route.name,
            upstream=one,
            source=source,
            route=route,
            proxy=_postgres_proxy(route, one),
            past=app is not None and host in app.hosts,
            timeout_s=route.connect_timeout_s,
        )


def _postgres_login(route: PostgresRoute, app: PostgresUpstream | None) -> PostgresUpstream:
    upstream = route.upstream
    if upstream.user is None or (upstream.password is None and route.auth.users):
        for user, secret in route.auth.users.items():
            password = secret.get_secret_value()
            if not password.startswith("SCRAM-SHA-256$"):
                return replace(upstream, user=user, password=password)
    if upstream.user is None and app is not None:
        dbname = upstream.dbname or app.dbname
        return replace(upstream, user=app.user, password=app.password, dbname=dbname)
    return upstream


def _postgres_proxy(route: PostgresRoute, upstream: PostgresUpstream) -> PostgresUpstream | None:
    address = route.listen[0]
    if not address.is_unix and not address.port:
        return None  # any free port: which, only the running process knows
    if address.is_unix:
        directory, _, name = address.path.rpartition("/")
        host = HostPort(directory or "/", int(name.rpartition(".")[2]))
    else:
        host = HostPort(_dialable(address), address.port)
    tls = route.tls.mode in ("require", "verify-ca")
    return PostgresUpstream(
        hosts=(host,),
        user=upstream.user,
        password=upstream.password,
        dbname=upstream.dbname,
        sslmode="require" if tls else "disable",
    )


def _redis_login(route: RedisRoute, app: RedisUpstream | None) -> RedisUpstream:
    upstream = route.upstream
    if upstream.password is None and route.auth.users:
        user, secret = next(iter(route.auth.users.items()))
        return replace(upstream, user=user, password=secret.get_secret_value())
    if upstream.password is None and app is not None:
        return replace(upstream, user=app.user, password=app.password)
    return upstream


def _redis_proxy(route: RedisRoute, upstream: RedisUpstream) -> RedisUpstream | None:
    address = route.listen[0]
    if not address.is_unix and not address.port:
        return None
    tls = route.tls.mode in ("require", "verify-ca")
    trust = route.auth_method == "trust"  # whoever connects is let in, and has nothing to prove
    return RedisUpstream(
        host=None if address.is_unix else _dialable(address),
        port=address.port,
        path=address.path or None,
        user=None if trust else upstream.user,
        password=None if trust else upstream.password,
        db=upstream.db,
        tls=tls,
        ssl_cert_reqs="none" if tls else "required",
        ssl_check_hostname=not tls,
    )


def _dialable(address: ListenAddress) -> str:
    """Where to reach a listener from this machine."""
    return {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)


def _source(file: Path | None, kind: str) -> str:
    """Where a route's settings stand: the file, or the variable."""
    return str(file) if file is not None else f"${VARIABLES[kind]}"
