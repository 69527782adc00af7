"""Other options for a running route: what can change in place does, the rest at boundaries.

Clients notice nothing: counters, queues and links stay; only where the upstream itself is another
one is each link left when nothing is in flight on it, as RECONNECT does it.
"""

from typing import TYPE_CHECKING

from proxy.net.keepalive import Keepalive, tune
from proxy.redis.protocol.login import DEFAULT_USER, Credential
from proxy.redis.protocol.partitions import Partitions
from proxy.redis.runtime import control
from proxy.redis.runtime.options import AuthMethod, RouteOptions

if TYPE_CHECKING:
    from proxy.redis.protocol.actions import CacheOptions
    from proxy.redis.runtime.route import RedisRoute

SPARE_S = 1.0  # a command that outlives its timeout has been given up by then


def apply(route: "RedisRoute", options: RouteOptions, elsewhere: bool) -> None:
    """`options` are in force when this returns. `elsewhere`: links of the old ones are no good."""
    old, route.options = route.options, options
    for client in route.clients.values():
        client.limits = options.limits
    for before, now in _new_passwords(old, options):
        route.change_credential(before, now)
    _change_cache(route, options.cache)
    if options.keepalive != old.keepalive:
        _tune_links(route, options.keepalive)
    if elsewhere:
        control.reconnect(route)


def _new_passwords(old: RouteOptions, new: RouteOptions) -> list[tuple[Credential, Credential]]:
    """Credentials of the settings under which clients are served, and their successors."""
    if AuthMethod.PASSTHROUGH in (old.auth, new.auth):
        return []
    pairs: list[tuple[Credential, Credential]] = []
    if old.credential is not None and new.credential is not None:
        same_user = (old.credential.user or DEFAULT_USER) == (new.credential.user or DEFAULT_USER)
        pairs += [(old.credential, new.credential)] if same_user else []
    for name, password in old.users.items():
        if name in new.users:
            pairs.append((Credential(name, password), Credential(name, new.users[name])))
    return [(before, now) for before, now in pairs if before != now]


def _change_cache(route: "RedisRoute", options: "CacheOptions | None") -> None:
    route.guards_simply = options is None or options.stale_max_s <= 0
    if route.caches is None and options is not None:
        _begin_caching(route, options)
        return
    if route.caches is None:
        return
    if options is not None:
        route.caches.change(options, route.loop.time())
    for partition in route.partitions:
        if partition.tracker is not None:
            partition.tracker.switch(options is not None)
            if options is not None and partition.clients:
                partition.tracker.open()


def _begin_caching(route: "RedisRoute", options: "CacheOptions") -> None:
    """Writes that have been sent unguarded must be over before anything is kept (W1)."""
    caches = route.caches = Partitions(options, route.rng.random)
    caches.flushing()
    route.loop.call_later(route.options.command_timeout_s + SPARE_S, caches.flushed)
    for partition in route.partitions:
        partition.begin_caching()
    for client in route.clients.values():
        client.begin_caching()
    for partition in route.partitions:
        if partition.clients and partition.tracker is not None:
            partition.tracker.open()


def _tune_links(route: "RedisRoute", keepalive: Keepalive) -> None:
    for link in route.links:
        sock = link.transport.get_extra_info("socket") if link.transport is not None else None
        if sock is not None and not route.options.address.path:
            tune(sock, keepalive)


__all__ = ["apply"]
