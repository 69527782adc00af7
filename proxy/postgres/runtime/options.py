"""What a PostgreSQL route is told to do. Made by the service from the settings; frozen.

The runtime does not know the settings model; bounds and defaults are checked there.
"""

from dataclasses import dataclass, field

from proxy.net.contexts import ClientTls, ServerTls
from proxy.net.dial import Address
from proxy.net.keepalive import Keepalive
from proxy.postgres.protocol.verdict import Replay


@dataclass(frozen=True, slots=True)
class Host:
    """One place to dial, and the name its certificate must show."""

    address: Address
    tls_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """Where the links go and how they log in."""

    hosts: tuple[Host, ...]
    tls: ClientTls
    direct_tls: bool = False
    channel_binding: str = "prefer"
    session_attrs: str = "any"
    shuffle: bool = False
    connect_timeout_s: float = 10.0
    keepalive: Keepalive | None = None
    minor: int = 0
    user: bytes | None = None
    password: bytes | None = field(default=None, repr=False)
    database: bytes | None = None  # where the console has a password proven
    defaults: dict[bytes, bytes] = field(default_factory=dict)  # start-up settings of the URL


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Links per user and database, and clients per route."""

    size: int = 20
    warm: int = 1
    idle_s: float = 600.0
    lifetime_s: float = 3600.0
    clients: int = 1000
    connect_parallel: int = 4
    connects_per_s: float = 50.0
    login_timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResilienceOptions:
    """How long to wait, and what may run again."""

    hold_s: float = 30.0
    hold_clients: int = 1000
    notice_s: float = 5.0
    replay: Replay = Replay.CERTIFIED
    doubt_sqlstate: str = "08007"
    listen_loss: str = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """How clients prove who they are. `users`: name → password or SCRAM verifier."""

    method: str = "passthrough"
    users: dict[bytes, bytes] = field(default_factory=dict, repr=False)
    trust_anywhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOptions:
    """One route: the listeners of one name and their upstream."""

    name: str
    upstream: UpstreamOptions
    auth: AuthOptions = AuthOptions()
    tls: ServerTls | None = None
    pool: PoolOptions = PoolOptions()
    resilience: ResilienceOptions = ResilienceOptions()
    ping_s: float = 25.0
    ping_timeout_s: float = 5.0
    client_keepalive: Keepalive | None = None
    log_sql: bool = False
