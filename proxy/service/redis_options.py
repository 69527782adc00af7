"""Settings of a Redis route turned into what its runtime is told."""

import ssl
from collections.abc import Callable
from dataclasses import replace

from proxy.net.contexts import ServerTls, server_context
from proxy.net.dial import Address, TlsOptions
from proxy.net.keepalive import Keepalive
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.login import DEFAULT_USER, Credential
from proxy.redis.runtime.options import AuthMethod, Limits, Replay, RouteOptions
from proxy.service.postgres_options import NEVER_S, server_tls
from proxy.settings.model import RedisRoute
from proxy.settings.redis_url import RedisUpstream

ContextOf = Callable[[ServerTls], ssl.SSLContext | None]


def redis_options(route: RedisRoute, context_of: ContextOf = server_context) -> RouteOptions:
    """The runtime's options for one route. Raises ConfigError, OSError or ssl.SSLError for a
    certificate that cannot be used. `context_of`: makes the TLS context towards clients."""
    url = route.upstream
    tls = server_tls(route.tls, ())
    own = _own_credential(url)
    users = {
        name.encode(): secret.get_secret_value().encode()
        for name, secret in route.auth.users.items()
    }
    if own is not None:
        users.setdefault(own.user or DEFAULT_USER, own.password)
    link = route.link_keepalive
    return RouteOptions(
        name=route.name,
        address=_address(url),
        tls=_tls(url, route.link_connect_timeout_s),
        client_tls=context_of(tls) if tls is not None else None,
        db=url.db,
        credential=own,
        auth=AuthMethod(route.auth_method),
        users=users,
        trust_anywhere=route.auth.trust_anywhere,
        command_timeout_s=route.command_timeout_s,
        hold_s=route.hold_s,
        connect_timeout_s=route.link_connect_timeout_s,
        replay=Replay(route.replay),
        keepalive=Keepalive(link.idle_s, link.interval_s, link.count),
        ping_s=route.keepalive.ping_s or NEVER_S,
        cache=_cache(route),
        limits=Limits(clients_max=route.clients),
    )


def leads_elsewhere(old: RedisRoute, new: RedisRoute) -> bool:
    """False if links of the old settings are as good as new ones."""
    return _where(old.upstream) != _where(new.upstream)


def _where(url: RedisUpstream) -> RedisUpstream:
    """The URL without what a link that is open has no use for."""
    return replace(url, user=None, password=None, db=0, connect_timeout_s=None)


def _own_credential(url: RedisUpstream) -> Credential | None:
    if url.password is None:
        return None
    user = url.user.encode() if url.user is not None else None
    return Credential(user, url.password.encode())


def _address(url: RedisUpstream) -> Address:
    if url.path is not None:
        return Address(path=url.path)
    assert url.host is not None
    return Address(url.host, url.port)


def _tls(url: RedisUpstream, timeout_s: float) -> TlsOptions | None:
    """TLS towards Redis, as redis-py takes its URL."""
    if not url.tls:
        return None
    context = ssl.create_default_context(cafile=url.ssl_ca_certs)
    context.check_hostname = url.verify == "full"
    if url.verify == "none":
        context.verify_mode = ssl.CERT_NONE
    if url.ssl_certfile is not None:
        context.load_cert_chain(url.ssl_certfile, url.ssl_keyfile, url.ssl_password)
    return TlsOptions(context, url.host, timeout_s)


def _cache(route: RedisRoute) -> CacheOptions | None:
    cache = route.cache
    if not cache.enabled:
        return None
    return CacheOptions(
        max_bytes=cache.max_bytes,
        max_entry_bytes=cache.max_entry_bytes,
        ttl_s=cache.ttl_s,
        negative_ttl_s=cache.negative_ttl_s,
        lease_s=cache.lease_ms / 1000,
        include=tuple(pattern.encode() for pattern in cache.include),
        exclude=tuple(pattern.encode() for pattern in cache.exclude),
        stale_max_s=cache.stale_max_s,
    )
