"""Settings of a PostgreSQL route turned into what its runtime is told."""

from proxy.net.contexts import ClientTls, ServerTls, ServerTlsMode, SslMode
from proxy.net.dial import Address
from proxy.net.keepalive import Keepalive
from proxy.postgres.protocol.console_door import ConsoleOptions
from proxy.postgres.protocol.verdict import Replay
from proxy.postgres.runtime.options import (
    AuthOptions,
    Host,
    PoolOptions,
    ResilienceOptions,
    RouteOptions,
    UpstreamOptions,
)
from proxy.settings.model import Admin, LinkKeepalive, PostgresRoute, Tls
from proxy.settings.postgres_url import HostPort, PostgresUpstream

ALPN = ("postgresql",)
NEVER_S = float("inf")


def postgres_options(route: PostgresRoute, log_sql: bool) -> RouteOptions:
    """The runtime's options for one route."""
    pool, resilience = route.pool, route.resilience
    return RouteOptions(
        name=route.name,
        upstream=_upstream(route),
        auth=AuthOptions(
            method=route.auth_method,
            users={
                name.encode(): secret.get_secret_value().encode()
                for name, secret in route.auth.users.items()
            },
            trust_anywhere=route.auth.trust_anywhere,
        ),
        tls=server_tls(route.tls, ALPN),
        pool=PoolOptions(
            size=pool.size,
            warm=pool.warm,
            idle_s=pool.idle_s,
            lifetime_s=pool.lifetime_s,
            clients=pool.clients,
            connect_parallel=pool.connect_parallel,
            connects_per_s=pool.connects_per_s,
            login_timeout_s=pool.login_timeout_s,
        ),
        resilience=ResilienceOptions(
            hold_s=resilience.hold_s,
            hold_clients=resilience.hold_clients,
            replay=Replay(resilience.replay),
            doubt_sqlstate=resilience.doubt_sqlstate,
            listen_loss=resilience.listen_loss,
        ),
        ping_s=route.keepalive.ping_s or NEVER_S,
        client_keepalive=keepalive(route.link_keepalive),
        log_sql=log_sql,
    )


def console_options(admin: Admin) -> ConsoleOptions:
    """What the console of every route is told."""
    return ConsoleOptions(
        databases=frozenset(name.encode() for name in admin.console),
        users=_names(admin.users),
        stats_users=_names(admin.stats_users),
    )


def _names(names: tuple[str, ...] | None) -> frozenset[bytes] | None:
    return frozenset(name.encode() for name in names) if names is not None else None


def _upstream(route: PostgresRoute) -> UpstreamOptions:
    url = route.upstream
    defaults = {
        b"application_name": url.application_name,
        b"client_encoding": url.client_encoding,
        b"options": url.options,
    }
    return UpstreamOptions(
        hosts=tuple(_host(host, url) for host in url.hosts),
        tls=ClientTls(
            mode=SslMode(url.sslmode),
            root_cert=url.sslrootcert,
            cert=url.sslcert,
            key=url.sslkey,
            key_password=url.sslpassword,
            alpn=ALPN,
        ),
        direct_tls=url.sslnegotiation == "direct",
        channel_binding=url.channel_binding,
        session_attrs=url.target_session_attrs,
        shuffle=url.load_balance_hosts,
        connect_timeout_s=route.connect_timeout_s,
        keepalive=keepalive(route.link_keepalive),
        minor=0 if url.max_protocol_version == "3.0" else 2,
        user=url.user.encode() if url.user is not None else None,
        password=url.password.encode() if url.password is not None else None,
        database=url.dbname.encode() if url.dbname is not None else None,
        defaults={name: text.encode() for name, text in defaults.items() if text is not None},
    )


def _host(host: HostPort, url: PostgresUpstream) -> Host:
    if host.is_unix:
        return Host(Address(path=host.socket_path.replace("@", "\0", 1)))
    return Host(Address(host.hostaddr or host.host, host.port), host.host)


def keepalive(link: LinkKeepalive) -> Keepalive | None:
    """TCP keepalive of links, None if the URL switched it off."""
    if not link.enabled:
        return None
    return Keepalive(link.idle_s, link.interval_s, link.count)


def server_tls(tls: Tls, alpn: tuple[str, ...]) -> ServerTls | None:
    """TLS towards clients, None if there is none."""
    if tls.mode == "disable":
        return None
    return ServerTls(
        mode=ServerTlsMode(tls.mode),
        cert=str(tls.cert) if tls.cert is not None else None,
        key=str(tls.key) if tls.key is not None else None,
        client_ca=str(tls.client_ca) if tls.client_ca is not None else None,
        alpn=alpn,
    )
