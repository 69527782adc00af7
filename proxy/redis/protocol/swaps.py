"""Whether somebody swapped databases: the one change of data that sends no invalidation.

SWAPDB is silent towards tracking clients, in default mode and in BCAST (Redis 7.0.15, 8.2.3,
Valkey 9.1.2). But the server counts how often it ran, and INFO tells the count in some 20 µs. So
the checks that keep the lease fresh ask for it: what is served is no older than the last answer
that showed no swap (`lease`). A user without INFO cannot see swaps: then `ttl_s` is the bound.
"""

from __future__ import annotations

from proxy.redis.protocol.cacheable import request

INFO = request([b"INFO", b"commandstats"])
_COUNT = b"cmdstat_swapdb:calls="
_PASSING = (b"-LOADING", b"-MASTERDOWN", b"-BUSY")


def swaps_of(reply: bytes) -> int | None:
    """How often the server has run SWAPDB, from its reply to INFO; None if it does not tell."""
    if reply[:1] not in (b"$", b"=") or b"cmdstat_" not in reply:
        return None
    start = reply.find(_COUNT) + len(_COUNT)
    if start < len(_COUNT):
        return 0
    digits = reply[start : reply.find(b",", start)]
    return int(digits) if digits.isdigit() else None


class Swaps:
    """The count of one server as last seen. `seen` None: it does not tell, nothing is checked."""

    __slots__ = ("asked", "seen")

    def __init__(self) -> None:
        self.seen: int | None = None
        self.asked = 0  # number of the last flight that asks

    def take(self, reply: bytes) -> bool | None:
        """Does the reply show a swap since the last one? None: it proves nothing.

        Any other count is a swap: CONFIG RESETSTAT sets it to 0 and may hide one.
        """
        if reply.startswith(_PASSING):
            return None
        before, self.seen = self.seen, swaps_of(reply)
        return self.seen is not None and self.seen != before
