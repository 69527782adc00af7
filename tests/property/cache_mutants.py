"""The cache with one law taken away at a time. Each must make its named check fail (the mutation
gate).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from proxy.redis.protocol.actions import Route
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.flights import Ask, Flight
from proxy.redis.protocol.lease import Lease
from tests.property.cache_world import Weather

CALM = Weather(
    stalls=0,
    cuts=0,
    data_cuts=0,
    seconds=3.0,
    external_writes=15.0,
    read_share=0.9,
    spread=1.2,
    clients=6,
)
SLOW = replace(CALM, slow_tracking=6.0, lease_s=0.3, delay_s=0.003, clients=8, script_share=0.3)
ELSEWHERE = replace(CALM, external_writes=50.0, read_share=0.97, clients=8, ttl_share=0.0)
READERS = replace(
    ELSEWHERE, batch_max=1, read_share=0.995, external_writes=12.0, clients=10, think_s=0.004
)


class NoW1(Cache):
    """Entries stay while a write is on its way."""

    def writing(self, keys: Iterable[bytes], no_stale: bool = False) -> None:
        pass


class NoW2(Cache):
    """Reads of a key that is being written use the cache and T."""

    def _barred(self, keys: tuple[bytes, ...]) -> bool:
        return False


class NoW3(Cache):
    """Nothing holds until the write's answer, and the answer drops nothing."""

    def _barred(self, keys: tuple[bytes, ...]) -> bool:
        return False

    def written(self, keys: Iterable[bytes]) -> None:
        pass


class NoDetach(Cache):
    """Reads on their way are joined and stored across a write."""

    def _detach(self, flight: Flight, key: bytes) -> None:
        pass


class NoRecheck(Cache):
    """Cached parts of a multi-key read are not checked when the rest arrives."""

    def _still_current(self, ask: Ask, now_s: float) -> bool:
        return True


class EndlessLease(Lease):
    """Fresh for ever after the first proof."""

    def proved(self, sent_s: float, number: int) -> None:
        super().proved(sent_s, number)
        self.fresh_until_s = float("inf")


class NoLease(Cache):
    """Hits need no recent proof."""

    def __init__(self, route: Route) -> None:
        super().__init__(route)
        self.lease = EndlessLease(route.options.lease_s)


class NoFlush(Cache):
    """Entries survive the loss of their link."""

    def _flush_lost(self) -> None:
        pass


class NoTtl(Cache):
    """The key's own TTL is ignored."""

    def _deadline_s(self, flight: Flight, ttl_ms: int) -> tuple[float, float]:
        return super()._deadline_s(flight, ttl_ms if ttl_ms < 0 else -1)


class NoFence(Cache):
    """A write of undeclared keys fences nothing."""

    def fence_all(self, now_s: float) -> bytes:
        return b""


class NoW7(Cache):
    """What the data link says does not correct the cache."""

    def seen_elsewhere(self, keys: Iterable[bytes]) -> None:
        pass


class NoOrder(Cache):
    """A pipelined read may be answered as of an earlier instant than the one before it."""

    def _after(self, ask: Ask) -> int:
        return super()._after(ask) if None in ask.parts else 0


class NoEnd(Cache):
    """A read may join a flight and get a value that ended before the read was asked."""

    def _ended(self, ask: Ask, flight: Flight) -> bool:
        return False


class NoDirty(Cache):
    """An invalidation between the read's reply and its PTTL does not keep the value out."""

    def _dirty_head(self, key: bytes) -> None:
        pass


@dataclass(frozen=True)
class Mutant:
    """A rule, the cache without it, the check that must fail, and the weather that shows it."""

    rule: str
    cache: type[Cache]
    check: str
    weather: Weather


MUTANTS = (
    Mutant("W1", NoW1, "barrier", CALM),
    Mutant("W2", NoW2, "barrier", CALM),
    Mutant("W3", NoW3, "C2 acknowledged", SLOW),
    Mutant("detach", NoDetach, "C2 acknowledged", SLOW),
    Mutant("re-check", NoRecheck, "C6 torn", CALM),
    Mutant("lease", NoLease, "C3 lease", replace(READERS, stalls=2.0, stall_s=0.5)),
    Mutant("flush on loss", NoFlush, "C3 lease", replace(READERS, cuts=6.0)),
    Mutant("TTL", NoTtl, "C7 expired", CALM),
    Mutant("W4 fence", NoFence, "C2 acknowledged", SLOW),
    Mutant("W7 direct", NoW7, "C4 inversion", SLOW),
    Mutant("order on T", NoOrder, "C8 order", CALM),
    Mutant("ended flights", NoEnd, "C7 expired", SLOW),
    Mutant("dirty fills", NoDirty, "C3 lease", replace(ELSEWHERE, batch_max=1)),
)
