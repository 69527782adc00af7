"""What a Redis route needs to know, frozen. `service` makes it from the settings; tests by hand."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from proxy.core.backoff import Backoff
from proxy.net.dial import Address, TlsOptions
from proxy.net.keepalive import Keepalive
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.login import DEFAULT_USER, Credential


class AuthMethod(Enum):
    """Who checks a client's password (design 3.4)."""

    PASSTHROUGH = "passthrough"  # the upstream: the client's own AUTH decides
    PASSWORD = "password"  # we do, against `users`; links log in as that user
    TRUST = "trust"  # nobody: local clients get the upstream's own credential


class Replay(Enum):
    """Whether a read whose reply was lost is asked again."""

    OFF = "off"
    READS = "reads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of queues and buffers, per route unless the name says otherwise."""

    clients_max: int = 1000
    link_inflight_commands_max: int = 4096
    link_inflight_bytes_max: int = 8 * 1024 * 1024
    client_inflight_bytes_max: int = 1024 * 1024
    client_output_bytes_max: int = 64 * 1024 * 1024  # unread by a slow client; then it is closed
    command_bytes_max: int = 768 * 1024 * 1024  # one command; Redis itself stops at 1 GiB
    bulk_command_bytes: int = 256 * 1024  # from this size on a command takes the bulk link
    reply_hold_bytes: int = 1024 * 1024  # of one reply, held back so that it can be asked again
    hold_commands_max: int = 100_000  # waiting for an absent upstream, per link
    hold_bytes_max: int = 64 * 1024 * 1024
    exclusive_links_max: int = 1000
    exclusive_idle_max: int = 8  # per user, database and RESP version
    partitions_max: int = 4096
    dials_per_s: float = 50.0
    dials_burst: int = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """One Redis route. `users`: name to password, for AuthMethod.PASSWORD. Times in seconds."""

    name: str
    address: Address
    tls: TlsOptions | None = None
    client_tls: ssl.SSLContext | None = None
    db: int = 0
    credential: Credential | None = None
    auth: AuthMethod = AuthMethod.PASSTHROUGH
    users: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    trust_anywhere: bool = False
    command_timeout_s: float = 5.0
    hold_s: float = 2.0
    connect_timeout_s: float = 5.0
    link_idle_s: float = 60.0  # an unused link is closed after this
    replay: Replay = Replay.READS
    keepalive: Keepalive = field(default_factory=lambda: Keepalive(10, 5, 3))
    ping_s: float = 5.0
    backoff_shortest_s: float = 0.02
    backoff_longest_s: float = 2.0
    cache: CacheOptions | None = None  # None: nothing is cached
    limits: Limits = field(default_factory=Limits)

    def backoff(self) -> Backoff:
        """Delays between dials: short enough that whoever is held hears of an upstream's return."""
        shortest_s = self.backoff_shortest_s
        longest_s = min(self.backoff_longest_s, self.hold_s / 4)
        return Backoff(shortest_s, max(shortest_s, longest_s))

    def upstream_credential(self, given: Credential) -> Credential:
        """Whom a client with a password of ours acts as upstream: the user it named.

        The URL's own user and password are among `users`; a client that names no user is the
        URL's.
        """
        own = self.credential
        if own is not None and (given.user or DEFAULT_USER) == (own.user or DEFAULT_USER):
            return own
        return Credential(given.user, given.password)
