"""The model server's data: keys, expiry, tracking, and the history of each key, for the judges.

Owns: what is stored, what was stored when, and which write ran how often. A run has one history,
whatever servers come and go. Must not know: connections beyond `invalidate`, RESP.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

DATABASES = 3
NEVER_S = math.inf
Value = bytes | tuple[bytes, ...] | None
Where = tuple[int, bytes]  # database, key


class Tracker(Protocol):
    """A connection that wants to hear of changes."""

    def invalidate(self, keys: list[bytes] | None) -> None: ...


@dataclass(slots=True)
class Version:
    """What a key held from command `seq` on, which ran at `start_s`."""

    seq: int
    start_s: float
    value: Value
    expires_s: float


@dataclass(slots=True)
class Span:
    """A version, and where it ended."""

    seq: int
    end_seq: int
    value: Value


class History:
    """All versions of a key, in order; before the first it was missing."""

    def __init__(self) -> None:
        self.versions = [Version(0, 0.0, None, NEVER_S)]

    def spans(self, floor: int, since_s: float, asked_s: float, until_s: float) -> list[Span]:
        """Versions that a read may show: current behind command `floor` and at or after `since_s`,
        written before `until_s`; one that has expired must have lived when it was asked for."""
        found = []
        end_seq, end_s = 1 << 60, NEVER_S
        for version in reversed(self.versions):
            if end_s < since_s or end_seq <= floor:
                break
            expired = version.expires_s < end_s and version.expires_s < asked_s
            if version.start_s <= until_s and not expired:
                found.append(Span(version.seq, end_seq, version.value))
            end_seq, end_s = version.seq, version.start_s
        return found

    def changes(self, since_s: float, until_s: float) -> Iterator[Version]:
        """Versions that began then, the oldest first."""
        return (one for one in self.versions if since_s <= one.start_s <= until_s)


class Record:
    """What a run's judges know of the servers."""

    def __init__(self) -> None:
        self.seq = 0
        self.keys: dict[Where, History] = {}
        self.ran: dict[bytes, list[int]] = {}  # mark to the numbers of the commands that wrote it
        self.counted: dict[Where, int] = {}  # INCRs that ran
        self.popped: dict[bytes, int] = {}  # elements taken from lists, and how often
        self.wholes: list[tuple[int, float, tuple[int, ...]]] = []  # (command, time, databases)
        self.published: list[tuple[float, bytes, bytes]] = []  # (time, channel, text)

    def history(self, where: Where) -> History:
        return self.keys.setdefault(where, History())


class Keyspace:
    """One server's data, and its tracking table."""

    def __init__(self, record: Record, clock: Any, rng: random.Random) -> None:
        self.record, self.clock, self.rng = record, clock, rng
        self.dbs: list[dict[bytes, tuple[Any, float]]] = [{} for _ in range(DATABASES)]
        self.tracked: dict[bytes, dict[Tracker, None]] = {}
        self.trackers: dict[Tracker, None] = {}
        self.watched: dict[Where, dict[Any, None]] = {}
        self.pushed: list[Where] = []  # lists that have got an element, for who is blocked

    # -- reading

    def get(self, db: int, key: bytes) -> Any:
        """The value, or None. A key whose time is over goes now."""
        self.expire(db, key)
        found = self.dbs[db].get(key)
        return None if found is None else found[0]

    def ttl_ms(self, db: int, key: bytes) -> int:
        if self.get(db, key) is None:
            return -2
        expires_s = self.dbs[db][key][1]
        return -1 if expires_s == NEVER_S else int((expires_s - self.clock()) * 1000)

    def expire(self, db: int, key: bytes) -> None:
        found = self.dbs[db].get(key)
        if found is not None and found[1] <= self.clock():
            self.put(db, key, None)

    def expire_some(self) -> None:
        """What the server does by itself, now and then, and never for all."""
        for db, keys in enumerate(self.dbs):
            for key in list(keys):
                if self.rng.random() < 0.3:
                    self.record.seq += 1
                    self.expire(db, key)

    # -- writing

    def put(self, db: int, key: bytes, value: Any, expires_s: float = NEVER_S) -> None:
        """The key's new value; None or an empty list: it is gone."""
        gone = value is None or value == []
        if gone:
            if self.dbs[db].pop(key, None) is None:
                return
        else:
            self.dbs[db][key] = (value, expires_s)
        self._note(db, key)
        for tracker in self.tracked.pop(key, ()):
            tracker.invalidate([key])
        for watcher in self.watched.pop((db, key), ()):
            watcher.dirty = True

    def _note(self, db: int, key: bytes) -> None:
        value, expires_s = self.dbs[db].get(key, (None, NEVER_S))
        kept = tuple(value) if isinstance(value, list) else value
        version = Version(self.record.seq, self.clock(), kept, expires_s)
        self.record.history((db, key)).versions.append(version)

    def ran(self, mark: bytes) -> None:
        """A write that is recognised by its mark."""
        self.record.ran.setdefault(mark, []).append(self.record.seq)

    def flush(self, db: int | None) -> None:
        """FLUSHDB, FLUSHALL: everybody who tracks anything hears of it."""
        self._whole(*range(DATABASES) if db is None else (db,))
        for number in range(DATABASES) if db is None else (db,):
            for key in list(self.dbs[number]):
                del self.dbs[number][key]
                self._note(number, key)
                self._dirty(number, key)
        self.tracked.clear()
        for tracker in self.trackers:
            tracker.invalidate(None)

    def swap(self, first: int, second: int) -> None:
        """SWAPDB: nobody who tracks hears of it."""
        self._whole(first, second)
        keys = list({**self.dbs[first], **self.dbs[second]})
        self.dbs[first], self.dbs[second] = self.dbs[second], self.dbs[first]
        for db in (first, second):
            for key in keys:
                self._note(db, key)
                self._dirty(db, key)
                if isinstance(self.dbs[db].get(key, (None,))[0], list):
                    self.pushed.append((db, key))

    def _whole(self, *dbs: int) -> None:
        self.record.wholes.append((self.record.seq, self.clock(), dbs))

    def _dirty(self, db: int, key: bytes) -> None:
        for watcher in self.watched.pop((db, key), ()):
            watcher.dirty = True

    # -- tracking

    def track(self, tracker: Tracker, keys: list[bytes]) -> None:
        for key in keys:
            self.tracked.setdefault(key, {})[tracker] = None

    def untrack(self, tracker: Any) -> None:
        """The connection is gone: nothing will be told any more."""
        self.trackers.pop(tracker, None)
        for watchers in (*self.tracked.values(), *self.watched.values()):
            watchers.pop(tracker, None)

    # -- other servers

    def copy(self) -> list[dict[bytes, tuple[Any, float]]]:
        """What a replica has by now."""
        copied = []
        for db in self.dbs:
            pairs = db.items()
            copied.append(
                {k: (list(v) if isinstance(v, list) else v, end) for k, (v, end) in pairs}
            )
        return copied

    def become(self, dbs: list[dict[bytes, tuple[Any, float]]]) -> None:
        """Another server's data, or none: from now on this is what is read."""
        self.record.seq += 1
        old, self.dbs = self.dbs, dbs
        self.tracked.clear()
        for number in range(DATABASES):
            for key in {**old[number], **dbs[number]}:
                if old[number].get(key) != dbs[number].get(key):
                    self._note(number, key)
