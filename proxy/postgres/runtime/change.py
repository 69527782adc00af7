"""Other options for a running route: what can change in place does, the rest at boundaries.

Sessions notice nothing: counters, queues and links stay; only where the upstream itself is another
one does each link go at its session's next boundary, as RECONNECT does it.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.net.keepalive import tune
from proxy.postgres.protocol.client_login import Credentials, LoginRules, Method, password_key
from proxy.postgres.runtime import control
from proxy.postgres.runtime.options import RouteOptions, UpstreamOptions

if TYPE_CHECKING:
    from proxy.postgres.runtime.route import PostgresRoute


def apply(route: "PostgresRoute", options: RouteOptions, rules: LoginRules) -> None:
    """`options` are in force when this returns. `rules`: what `login_rules` makes of them."""
    old, route.options = route.options, options
    old_rules, route.rules = route.rules, rules
    context = route.context
    context.options = options.pool
    context.resilience = options.resilience
    context.ping_s, context.ping_timeout_s = options.ping_s, options.ping_timeout_s
    context.hold.limit = options.resilience.hold_clients
    route.upstream.change(options.upstream, options.pool)
    _new_passwords(route, old_rules)
    if options.upstream.keepalive != old.upstream.keepalive:
        _tune_links(route)
    if _leads_elsewhere(old.upstream, options.upstream):
        control.reconnect(route)
        route.upstream.hurry()
    for pool in route.pools.values():
        pool.go_on()


def _leads_elsewhere(old: UpstreamOptions, new: UpstreamOptions) -> bool:
    """False if links of the old options are as good as new ones."""
    return _where(old) != _where(new)


def _where(options: UpstreamOptions) -> UpstreamOptions:
    """The options without those that a link that is open has no use for.

    The role (`session_attrs`) is asked at each boundary anyway.
    """
    return replace(
        options,
        shuffle=False,
        connect_timeout_s=1.0,
        keepalive=None,
        session_attrs="any",
        user=None,
        password=None,
        defaults={},
    )


def _new_passwords(route: "PostgresRoute", old: LoginRules) -> None:
    """Sessions that came in with a password of the settings attach with its successor."""
    rules = route.rules
    if rules.method is Method.PASSTHROUGH:
        return
    for pool in route.pools.values():
        before, now = old.users.get(pool.key.user), rules.users.get(pool.key.user)
        if before is None or now is None or now.password is None or before == now:
            continue
        if pool.credentials.password == before.password:
            key = password_key(rules.process_secret, now.password)
            pool.credentials = Credentials(now.password, None, key)


def _tune_links(route: "PostgresRoute") -> None:
    for pool in route.pools.values():
        for link in pool.links:
            sock = link.transport.get_extra_info("socket") if link.transport is not None else None
            if sock is not None and link.host is not None and not link.host.address.path:
                tune(sock, route.options.upstream.keepalive)


__all__ = ["apply"]
