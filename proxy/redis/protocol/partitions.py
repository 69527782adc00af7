"""The caches of one route: one per (user, database), one byte budget, and the writes of all
clients.

A write by one user changes what another user reads, so W1, W3, W4 and W5 go to every partition that
could hold the key: all users of the written database, or all of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.redis.protocol.actions import Route
from proxy.redis.protocol.barriers import Barriers
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.cacheable import KeyFilter
from proxy.redis.protocol.insight import Insight, Report
from proxy.redis.protocol.reader import Reader
from proxy.redis.protocol.sieve import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from proxy.redis.protocol.actions import CacheOptions

FOLD_ENTRIES_MAX = 20_000  # a report stays under ~10 ms


def _strict(options: CacheOptions) -> tuple[object, ...]:
    """What decides whether an entry may be there."""
    sizes = options.max_entry_bytes, options.ttl_s, options.negative_ttl_s
    return *sizes, options.include, options.exclude, options.stale_max_s


class Partitions:
    """Every cache of one route. `chance` gives numbers in [0, 1), for the jitter of deadlines."""

    def __init__(self, options: CacheOptions, chance: Callable[[], float]) -> None:
        self.options = options
        self.make_cache: Callable[[Route], Cache] = Cache  # tests: without one of the rules
        self.budget = Budget(options.max_bytes)
        self.insight = Insight()
        self.barriers = Barriers()
        self._route = Route(options, self.budget, self.insight, self.barriers, chance)
        self._readers = 0
        self._hits_gone = self._negative_hits_gone = 0  # of partitions that are no more
        self._past_hits = self._past_negative_hits = 0  # of partitions that are gone
        self._caches: dict[tuple[Hashable, int], Cache] = {}
        self._by_database: dict[int, list[Cache]] = {}

    def partition(self, user: Hashable, database: int) -> Cache:
        """The cache of this user (any identity of theirs) and database, made at first use."""
        cache = self._caches.get((user, database))
        if cache is None:
            cache = self.make_cache(self._route)
            self._caches[user, database] = cache
            self._by_database.setdefault(database, []).append(cache)
        return cache

    def change(self, options: CacheOptions, now_s: float) -> None:
        """Other options from now on. What they would not have let in, or for so long, goes."""
        old, self.options = self.options, options
        self._route = replace(self._route, options=options)
        self.budget.resize(options.max_bytes, now_s)
        for cache in self.caches():
            cache.options = options
            cache.key_filter = KeyFilter(options.include, options.exclude)
            cache.lease.change(options.lease_s)
            if _strict(old) != _strict(options):
                cache.flush()

    def rename(self, user: Hashable, database: int, other: Hashable) -> None:
        """The partition belongs to another identity of the same user: a password was changed."""
        self._caches[other, database] = self._caches.pop((user, database))

    def discard(self, user: Hashable, database: int) -> None:
        """Forget a partition whose last client is gone. Its tracking link must be closed."""
        cache = self._caches.pop((user, database))
        assert not len(cache.traffic), "link_lost comes first"
        cache.store.drop_all()
        self._past_hits += cache.hits
        self._past_negative_hits += cache.store.negative.hits
        self._by_database[database].remove(cache)

    def reader(self, cache: Cache, resp: int) -> Reader:
        """A new client's view of a partition."""
        self._readers += 1
        return Reader(cache, self._readers, resp)

    def caches(self, database: int | None = None) -> Sequence[Cache]:
        """The partitions of a database, or all of them."""
        if database is None:
            return tuple(self._caches.values())
        return self._by_database.get(database, ())

    def writing(self, database: int | None, keys: Sequence[bytes], no_stale: bool = False) -> None:
        """W1, before the write's bytes reach a link. None: in every database (MOVE, COPY … DB)."""
        self.barriers.up(keys)
        for cache in self.caches(database):
            cache.writing(keys, no_stale)

    def written(self, database: int | None, keys: Sequence[bytes]) -> None:
        """W3, before its reply reaches the client; also when its link is lost."""
        for cache in self.caches(database):
            cache.written(keys)
        self.barriers.down(keys)

    def flushing(self) -> None:
        """W5: FLUSHDB, FLUSHALL, SWAPDB, RESTORE, DEBUG … before its bytes reach a link."""
        self.barriers.up_all()
        for cache in self.caches():
            cache.flush()

    def flushed(self) -> None:
        """W5: answered, or its link is lost."""
        for cache in self.caches():
            cache.flush()
        self.barriers.down_all()

    def fence_all(self, now_s: float) -> list[tuple[Cache, bytes]]:
        """W4 for a write whose keys nobody declared (EVAL without keys, MIGRATE, a module's
        command).

        After its acknowledgement, before that reaches the client: no reader of the route hits until
        its tracking link has answered the PING. Result: what to write to which partition's T.
        """
        return [(cache, data) for cache in self.caches() if (data := cache.fence_all(now_s))]

    def report(self) -> Report:
        """Hits, misses, bypasses and the keys that stand out, over all partitions."""
        stores = [cache.store for cache in self.caches()]
        for store in stores:
            store.fold_all(FOLD_ENTRIES_MAX)
        negative = self._past_negative_hits + sum(store.negative.hits for store in stores)
        hits = self._past_hits + sum(cache.hits for cache in self.caches())
        return self.insight.report(hits, negative)
