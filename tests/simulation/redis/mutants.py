"""The product with one deliberate mistake each: a simulation that does not see them is blind."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from proxy.redis.protocol import aftermath, expected
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.flights import FOREVER_S, Flight
from proxy.redis.protocol.lease import Lease
from proxy.redis.protocol.reader import Reader
from proxy.redis.protocol.session_state import SessionState
from proxy.redis.protocol.verdict import Action, verdict
from proxy.redis.runtime import exclusive
from proxy.redis.runtime.exclusive import ExclusiveSession
from proxy.redis.runtime.guard import Guard
from proxy.redis.runtime.pool import ExclusivePool
from proxy.redis.runtime.route import RedisRoute

Patches = tuple[tuple[Any, str, Any], ...]


def _nothing(*_: Any) -> None:
    """Does not do it."""


def _endless_lease() -> Patches:
    def renew(self: Any) -> None:
        self.fresh_until_s = FOREVER_S

    return ((Lease, "_renew", renew),)


def _no_ttl() -> Patches:
    def lifetime(self: Any, ttl_ms: int, options: Any, jitter: float) -> tuple[float, float]:
        return self.sent_s + options.ttl_s, FOREVER_S

    return ((Flight, "lifetime", lifetime),)


def _kept_entries() -> Patches:
    return ((Cache, "_flush_lost", _nothing), *_endless_lease())


def _no_fence() -> Patches:
    return ((RedisRoute, "fence_all", _nothing), (Reader, "fence", lambda *_: b""))


def _resend(kind: Any, phase: Any, given: Any) -> Any:
    decided = verdict(kind, phase, given)
    return Action.SEND if decided is Action.SAY_LOST else decided


def _all_sent_again() -> Patches:
    return ((aftermath, "verdict", _resend), (expected, "verdict", _resend))


def _lost_is_down() -> Patches:
    def lost(why: str) -> bytes:
        return b"-UPSTREAMDOWN not executed: so it is said\r\n"

    return ((aftermath.say, "upstream_lost", lost),)


def _no_queue_guard() -> Patches:
    return ((ExclusiveSession, "_guard", _nothing),)


def _unclean() -> Patches:
    def give_back(self: Any, link: Any) -> None:
        link.owner = None
        self.park(link)

    return ((ExclusivePool, "give_back", give_back),)


def _restore_nothing() -> Patches:
    return ((exclusive, "restore", lambda *_: b""),)


# Of W1, W2 and W3 none alone is seen from outside: what W1 and W2 let in W3 drops and detaches
# before it can be told, and while they hold no flight is launched that W3 would have to drop. W2
# and W3 together want a flight read beside a write, and a hit between its landing and the
# invalidation right behind it: 400 seeds have not drawn that.
MUTANTS: dict[str, Callable[[], Patches]] = {
    "W1 and W3: a write drops nothing": lambda: (
        (Cache, "writing", _nothing),
        (Cache, "written", _nothing),
    ),
    "W4: no fence behind unknown keys": _no_fence,
    "W5: a flush drops nothing": lambda: ((Cache, "flush", _nothing),),
    "W8: swapped databases go unseen": lambda: ((Cache, "_swaps_told", _nothing),),
    "invalidations are ignored": lambda: ((Cache, "_invalidated", _nothing),),
    "the lease never ends": _endless_lease,
    "entries outlive their link": _kept_entries,
    "a key's own end is ignored": _no_ttl,
    "torn pictures are served": lambda: ((Cache, "_still_current", lambda *_: True),),
    "writes are guarded, and not let go": lambda: ((Guard, "end", _nothing),),
    "what may have run is sent again": _all_sent_again,
    "what may have run is called not executed": _lost_is_down,
    "exclusive links write unguarded": _no_queue_guard,
    "a link is handed on uncleaned": _unclean,
    "subscriptions are not restored": _restore_nothing,
    "a lost transaction is not told": lambda: (
        (SessionState, "lost_transaction", lambda self, **_: None),
    ),
}

FOUND_AT = {  # the seed that finds it, from which on it is looked for
    "W1 and W3: a write drops nothing": 83,
    "W4: no fence behind unknown keys": 99,
    "W5: a flush drops nothing": 300,
    "W8: swapped databases go unseen": 113,
    "invalidations are ignored": 22,
    "the lease never ends": 558,
    "entries outlive their link": 155,
    "a key's own end is ignored": 78,
    "torn pictures are served": 99,
    "writes are guarded, and not let go": 1,
    "what may have run is sent again": 5,
    "what may have run is called not executed": 5,
    "exclusive links write unguarded": 89,
    "a link is handed on uncleaned": 56,
    "subscriptions are not restored": 66,
    "a lost transaction is not told": 23,
}


@contextlib.contextmanager
def mutated(name: str) -> Iterator[None]:
    """The product with this mistake."""
    with contextlib.ExitStack() as stack:
        for owner, attribute, wrong in MUTANTS[name]():
            stack.enter_context(mock.patch.object(owner, attribute, wrong))
        yield
