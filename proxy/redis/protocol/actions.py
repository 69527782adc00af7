"""The words between the cache and its caller: settings, what to do with a read, what an event
causes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.redis.protocol.barriers import Barriers
    from proxy.redis.protocol.insight import Bypassed, Insight
    from proxy.redis.protocol.sieve import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """The settings of redis.cache (design, 3.2), and bounds that have no setting."""

    max_bytes: int = 64 << 20
    max_entry_bytes: int = 64 << 10
    ttl_s: float = 60.0
    negative_ttl_s: float = 60.0
    lease_s: float = 0.5
    include: tuple[bytes, ...] = (b"*",)
    exclude: tuple[bytes, ...] = ()
    stale_max_s: float = 0.0
    hash_ttl_s: float = 1.0  # whole-hash reads where fields may have TTLs that are not known
    flight_s: float = 0.5  # how long a read waits on T before it goes to D
    silent_s: float = 5.0  # T owes a reply for so long: it is dead
    asks_max: int = 4096  # reads that wait on one T
    keys_max: int = 256  # keys of one MGET or EXISTS


@dataclass(frozen=True, slots=True)
class Server:
    """What the link's set-up learnt. `hash_field_ttls`: HPTTL exists (Redis 7.4, Valkey 9).

    `swaps`: how often the server had run SWAPDB when asked at `asked_s`; None: it does not tell.
    """

    version: tuple[int, int, int]
    hash_field_ttls: bool
    swaps: int | None = None
    asked_s: float = 0.0


class Phase(Enum):
    """Whether reads may be cached, and why not."""

    NO_LINK = auto()
    READY = auto()
    REFUSED = auto()


class Answer(NamedTuple):
    """Answered here and now."""

    reply: bytes


class Wait(NamedTuple):
    """The waiter will be named by an `Out`. `write` goes to T, and is empty when a flight was
    joined.
    """

    write: bytes


class Bypass(NamedTuple):
    """Forward the request on the client's data link."""

    reason: Bypassed


class Fault(Enum):
    """Why the tracking link must be closed."""

    PROTOCOL = "it says what no correct server says, or an unknown push"
    SILENT = "it owes a reply for too long"
    REFUSED = "the server refuses CLIENT CACHING or PTTL to this user"


class Out:
    """What follows from an event, for the caller to do.

    `answers`: (waiter, reply in the client's RESP version). `direct`: waiters to forward on D now.
    Both in order. `write`: bytes for T. `fault`: close T and call `link_lost`.
    """

    __slots__ = ("answers", "direct", "fault", "write")

    def __init__(self) -> None:
        self.answers: list[tuple[object, bytes]] = []
        self.direct: list[object] = []
        self.write = b""
        self.fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """What the partitions of one route share. `chance` gives numbers in [0, 1)."""

    options: CacheOptions
    budget: Budget
    insight: Insight
    barriers: Barriers
    chance: Callable[[], float]
