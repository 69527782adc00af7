"""Who may come to the console, and as what.

As with PgBouncer two lists of users decide: `admin.users` may do everything, `admin.stats_users`
may SHOW. The login itself is proven like any other of the route. Without lists the user of the
upstream URL, whose secret the proxy holds anyway, may do everything, and whoever has logged in from
this machine may look: as much as the admin port shows there.

Nothing is told to somebody who has not proven who it is.
"""

from dataclasses import dataclass, field

from proxy.postgres.protocol.console import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOptions:
    """`databases`: the names that lead to the console instead of the upstream; none: no console.

    `users` and `stats_users` are None where the settings have no such list.
    """

    databases: frozenset[bytes] = frozenset((b"backstay", b"pgbouncer"))
    users: frozenset[bytes] | None = None
    stats_users: frozenset[bytes] | None = None


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client that has logged in. `unproven`: by `trust`, which proves nothing."""

    user: bytes
    local: bool  # over a Unix socket or loopback
    unproven: bool = field(default=False)


def role_of(options: ConsoleOptions, visitor: Visitor, upstream_user: bytes | None) -> Role | None:
    """What the visitor may do; None: it may not come in."""
    if visitor.unproven and not visitor.local:
        return None  # anybody could come with any name, whatever `trust_anywhere` allows sessions
    if options.users is None and options.stats_users is None:
        if upstream_user is not None and visitor.user == upstream_user:
            return Role.ADMIN
        return Role.STATS if visitor.local else None
    if visitor.user in (options.users or ()):
        return Role.ADMIN
    return Role.STATS if visitor.user in (options.stats_users or ()) else None
