"""The byte budget of a route's cache, and which entry goes when it is full (SIEVE).

Owns the order of all entries of all partitions and the sum of their costs. Knows nothing about
Redis, keys or links: an entry tells its own `home` when it has to go. SIEVE (Zhang et al.,
NSDI'24): new entries enter at the head, a hand walks from the tail, spares what was hit since it
last came by, and evicts the first that was not. A hit therefore moves nothing, it only counts
(reference/redis.md, exp 60).
"""

from __future__ import annotations

from typing import Protocol

# What an entry costs beyond the bytes of its key, request and reply: the object, two dictionary
# slots (raw request and key index) at their worst load, three bytes headers, the boxed numbers.
# tests/unit/redis/protocol/test_sieve.py holds it against tracemalloc.
ENTRY_OVERHEAD_BYTES = 640
ALIAS_OVERHEAD_BYTES = 200
HAND_STEPS_MAX = 512  # then the entry under the hand goes, hit or not: one insert stays bounded


class Tally:
    """How many replies were served from one kind of entry."""

    __slots__ = ("hits",)

    def __init__(self) -> None:
        self.hits = 0


class Entry:
    """One cached reply for one RESP version. `live` is False from the moment it may not be
    served.
    """

    __slots__ = (
        "aliases",
        "cost_bytes",
        "deadline_s",
        "expires_s",
        "folded",
        "hits",
        "home",
        "key",
        "live",
        "negative",
        "newer",
        "older",
        "raw",
        "read_s",
        "reader",
        "repeats",
        "reply",
        "resp",
        "seen",
        "tally",
    )

    def __init__(self, home: Home, resp: int, key: bytes, raw: bytes, reply: bytes) -> None:
        self.home = home
        self.resp = resp
        self.key = key
        self.raw = raw
        self.reply = reply
        self.aliases: tuple[bytes, ...] = ()
        self.deadline_s = 0.0  # served strictly before it
        self.expires_s = 0.0  # the key's own TTL, infinite without one
        self.negative = False
        self.live = True
        self.tally = _NO_TALLY
        self.hits = 0  # also the visited mark: differs from `seen`
        self.seen = 0
        self.folded = 0  # hits already told to the insight
        self.reader = 0  # the client that read it last, and when
        self.read_s = -1e9
        self.repeats = 0
        self.cost_bytes = ENTRY_OVERHEAD_BYTES + len(key) + len(raw) + len(reply)
        self.newer: Entry | None = None
        self.older: Entry | None = None

    def __repr__(self) -> str:
        return f"<Entry {self.cost_bytes} bytes, live={self.live}>"  # keys and values stay private


class Home(Protocol):
    """Where an entry lives; the budget calls it back."""

    def forget(self, entry: Entry) -> None:
        """Take the entry out of every index. The budget has already let go of it."""

    def fold(self, entry: Entry) -> None:
        """Tell the insight what was read since the last call."""


_NO_TALLY = Tally()


class Budget:
    """At most `bytes_max` of entries, over all partitions of a route."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used_bytes = 0
        self.entries = 0
        self.evicted = 0
        self.expired = 0
        self._newest: Entry | None = None
        self._oldest: Entry | None = None
        self._hand: Entry | None = None
        self._broom: Entry | None = None

    def resize(self, bytes_max: int, now_s: float) -> None:
        """Another bound from now on; what does not fit any more goes."""
        self.bytes_max = bytes_max
        while self.used_bytes > self.bytes_max and self.entries:
            self._evict(now_s)

    def add(self, entry: Entry, now_s: float) -> None:
        """Take the entry in as the newest, and evict others first until the budget holds."""
        assert entry.newer is None
        assert entry.older is None
        self.used_bytes += entry.cost_bytes
        while self.used_bytes > self.bytes_max and self.entries:
            self._evict(now_s)  # before it is in the queue: the hand must not meet it at once
        entry.older = self._newest
        if self._newest is not None:
            self._newest.newer = entry
        else:
            self._oldest = entry
        self._newest = entry
        self.entries += 1
        if self.used_bytes > self.bytes_max:
            self._let_go(entry)  # larger than everything

    def grow(self, entry: Entry, more_bytes: int, now_s: float) -> None:
        """The entry costs more than before (an alias): it may evict others, or the entry itself."""
        entry.cost_bytes += more_bytes
        self.used_bytes += more_bytes
        while self.used_bytes > self.bytes_max:
            self._evict(now_s)

    def remove(self, entry: Entry) -> None:
        """Let go of an entry its home drops. O(1)."""
        newer, older = entry.newer, entry.older
        if self._hand is entry:
            self._hand = newer
        if self._broom is entry:
            self._broom = newer
        if newer is not None:
            newer.older = older
        else:
            assert self._newest is entry
            self._newest = older
        if older is not None:
            older.newer = newer
        else:
            self._oldest = newer
        entry.newer = entry.older = None
        self.entries -= 1
        self.used_bytes -= entry.cost_bytes
        assert self.used_bytes >= 0

    def sweep(self, now_s: float, steps_max: int) -> int:
        """Entries reclaimed because their deadline passed, after a look at the next `steps_max`.

        The broom goes round: every entry is looked at once per entries / steps_max calls.
        """
        reclaimed = 0
        entry = self._broom or self._oldest
        for _ in range(min(steps_max, self.entries)):
            if entry is None:
                entry = self._oldest
                assert entry is not None
            newer = entry.newer
            if entry.expires_s <= now_s or entry.deadline_s <= now_s:
                self._let_go(entry)
                self.expired += 1
                reclaimed += 1
                if self.entries == 0:
                    newer = None
                    break
            else:
                entry.home.fold(entry)
            entry = newer
        self._broom = entry if self.entries else None
        return reclaimed

    def _evict(self, now_s: float) -> None:
        """One entry goes. Expired ones go at once, whether hit or not."""
        entry = self._hand or self._oldest
        assert entry is not None, "a budget above its maximum holds an entry"
        for _ in range(HAND_STEPS_MAX):
            if entry.hits == entry.seen or entry.deadline_s <= now_s:
                break
            entry.seen = entry.hits
            following = entry.newer or self._oldest
            assert following is not None
            entry = following
        self._hand = entry  # remove() moves it on to the next newer one
        self._let_go(entry)
        self.evicted += 1

    def _let_go(self, entry: Entry) -> None:
        self.remove(entry)
        entry.home.forget(entry)
