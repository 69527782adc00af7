"""The entries of one partition: by raw request (the hit path) and by Redis key (invalidation).

Owns the maps and the index; the budget owns the order and the sum. Knows nothing of links, leases
or flights: `cache` decides what may be stored and when it has to go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from proxy.redis.protocol.cacheable import Plan, piece_name
from proxy.redis.protocol.downgrade import to_resp2
from proxy.redis.protocol.insight import REPEAT_WINDOW_S, Insight
from proxy.redis.protocol.sieve import ALIAS_OVERHEAD_BYTES, Budget, Entry, Tally

if TYPE_CHECKING:
    from proxy.redis.protocol.flights import Flight

ALIASES_MAX = 4  # other spellings of one request that hit by themselves


class Value(NamedTuple):
    """What a fill brought: a RESP3 reply and until when it may be served."""

    key: bytes
    canonical: bytes
    reply: bytes
    deadline_s: float
    expires_s: float
    negative: bool


class Store:
    """Cached replies of one partition, one entry per request and RESP version."""

    def __init__(self, budget: Budget, insight: Insight) -> None:
        self.maps: dict[int, dict[bytes, Entry]] = {2: {}, 3: {}}
        self.insight = insight
        self.positive = Tally()
        self.negative = Tally()
        self._budget = budget
        self.by_key: dict[bytes, Entry | set[Entry]] = {}  # read-only elsewhere

    def __len__(self) -> int:
        """Spellings that hit, over both RESP versions."""
        return len(self.maps[2]) + len(self.maps[3])

    def find(self, resp: int, name: bytes, canonical: bytes, now_s: float) -> Entry | None:
        """The live entry for a request, or None. An expired one is reclaimed.

        A RESP2 reader may be served what a RESP3 reader filled, not the other way round: the
        conversion loses types.
        """
        entry = self.maps[resp].get(canonical)
        if entry is not None and now_s >= entry.deadline_s:
            self.drop(entry)
            return None
        if entry is None and resp == 2:
            other = self.maps[3].get(canonical)
            if other is not None and now_s < other.deadline_s:
                return self._twin(other, name, now_s)
        return entry

    def parts(self, resp: int, plan: Plan, now_s: float) -> list[Entry | None]:
        """`find` for each key of a read."""
        if not plan.pieces:
            return [self.find(resp, plan.name, plan.canonical, now_s)]
        piece = piece_name(plan.name)
        return [self.find(resp, piece, canonical, now_s) for canonical in plan.pieces]

    def put_as_asked(self, flight: Flight, value: Value, now_s: float) -> None:
        """Store what a flight brought, for each RESP version and spelling that waited for it."""
        name = piece_name(flight.name)
        entries: dict[int, Entry] = {}
        for resp, raw, reader, asked_s in flight.spellings:
            entry = entries.get(resp)
            if entry is None:
                entry = entries[resp] = self.put(resp, name, value, now_s)
            entry.reader, entry.read_s = reader, asked_s
            if raw and raw != value.canonical:
                self.alias(entry, raw, now_s)

    def put(self, resp: int, name: bytes, value: Value, now_s: float) -> Entry:
        """Store one reply for readers of `resp`, replacing what was there. It may be evicted at
        once.
        """
        old = self.maps[resp].get(value.canonical)
        if old is not None:
            self.drop(old)
        reply = value.reply if resp == 3 else to_resp2(name, value.canonical, value.reply)
        entry = Entry(self, resp, value.key, value.canonical, reply)
        entry.deadline_s = value.deadline_s
        entry.expires_s = value.expires_s
        entry.negative = value.negative
        entry.tally = self.negative if value.negative else self.positive
        self.maps[resp][value.canonical] = entry
        self._index(entry)
        self._budget.add(entry, now_s)
        return entry

    def alias(self, entry: Entry, raw: bytes, now_s: float) -> None:
        """Let another spelling of the request (lower case, say) hit by itself, a few per entry."""
        if raw == entry.raw or len(entry.aliases) >= ALIASES_MAX or not entry.live:
            return
        entries = self.maps[entry.resp]
        if raw in entries:
            return
        entries[raw] = entry
        entry.aliases += (raw,)
        self._budget.grow(entry, len(raw) + ALIAS_OVERHEAD_BYTES, now_s)

    def touch(self, entry: Entry, reader: int, now_s: float) -> None:
        """Count a local answer that did not come through the hit path."""
        entry.hits += 1
        entry.tally.hits += 1
        if entry.reader == reader and now_s - entry.read_s < REPEAT_WINDOW_S:
            entry.repeats += 1
        entry.reader = reader
        entry.read_s = now_s

    def drop(self, entry: Entry) -> None:
        """The entry may not be served any more."""
        self._budget.remove(entry)
        self.forget(entry)

    def drop_key(self, key: bytes) -> None:
        """Everything that depends on one Redis key."""
        found = self.by_key.get(key)
        if found is None:
            return
        for entry in (found,) if isinstance(found, Entry) else tuple(found):
            self.drop(entry)

    def drop_all(self) -> None:
        """Everything."""
        for key in tuple(self.by_key):
            self.drop_key(key)
        assert not self.by_key
        assert not len(self)

    def forget(self, entry: Entry) -> None:
        """Take the entry out of the maps and the index (Home)."""
        assert entry.live, "an entry is forgotten once"
        entry.live = False
        self.fold(entry)
        entries = self.maps[entry.resp]
        del entries[entry.raw]
        for raw in entry.aliases:
            del entries[raw]
        found = self.by_key[entry.key]
        if found is entry:
            del self.by_key[entry.key]
            return
        assert isinstance(found, set)
        found.discard(entry)
        if not found:
            del self.by_key[entry.key]

    def fold(self, entry: Entry) -> None:
        """Tell the insight about the hits since last time (Home)."""
        hits = entry.hits - entry.folded
        if hits:
            entry.folded = entry.hits
            self.insight.hit_many(entry.key, hits, entry.negative)
        if entry.repeats:
            self.insight.repeat_many(entry.key, entry.repeats)
            entry.repeats = 0

    def fold_all(self, entries_max: int) -> None:
        """Bring the insight up to date for a report; beyond `entries_max` the broom will follow."""
        for entries in self.maps.values():
            for _, entry in zip(range(entries_max), entries.values(), strict=False):
                self.fold(entry)

    def _twin(self, other: Entry, name: bytes, now_s: float) -> Entry | None:
        value = Value(
            other.key, other.raw, other.reply, other.deadline_s, other.expires_s, other.negative
        )
        entry = self.put(2, name, value, now_s)
        return entry if entry.live else None

    def _index(self, entry: Entry) -> None:
        found = self.by_key.get(entry.key)
        if found is None:
            self.by_key[entry.key] = entry
        elif isinstance(found, Entry):
            self.by_key[entry.key] = {found, entry}
        else:
            found.add(entry)


def remember(kept: dict[bytes, float], key: bytes, until_s: float, kept_max: int) -> None:
    """A small memory that forgets the oldest."""
    kept.pop(key, None)
    kept[key] = until_s
    if len(kept) > kept_max:
        del kept[next(iter(kept))]
