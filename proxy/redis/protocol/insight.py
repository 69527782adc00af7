"""What the reads tell about the application: hot keys, keys read twice in a second, keys never
there.

Cheap by construction: a hit adds to numbers inside its entry (part of the ~0.2 µs of a hit); they
are folded in here when the entry goes or the broom comes by, a few hundred entries per tick. A miss
costs one dictionary update per sketch. Bounded: each sketch holds at most 2 * capacity keys.

Keys belong to the application's users: reports hold them as bytes for the admin API; logs use
`masked`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

CAPACITY = 256
REPEAT_WINDOW_S = 1.0

_RUNS = re.compile(
    rb"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    rb"|[^\s:;/|]+@[^\s:;/|]+"  # an e-mail address
    rb"|(?<![0-9a-zA-Z])[0-9a-fA-F]{16,}(?![0-9a-zA-Z])"
    rb"|[A-Za-z0-9_\-]{32,}"  # tokens
    rb"|[0-9]+"
)
_PARTS = re.compile(rb"([^0-9A-Za-z_\-*\x80-\xff]+)")  # `user:42`, `{user:42}/cart`, `app.user.42`
_NAME = re.compile(rb"[A-Za-z_\-*]{1,40}")


class Bypassed(StrEnum):
    """Why a read was forwarded instead of answered or filled. Metric labels: stable."""

    NOT_CACHEABLE = "not_cacheable"  # not on the list of commands that may be cached
    ORDER = "order"  # the client has something unanswered upstream (counted by the caller)
    EXCLUDED = "excluded"  # include / exclude patterns
    BARRIER = "barrier"  # a write to the key is on its way
    NO_LINK = "no_link"  # no tracking link yet, or it was lost
    REFUSED = "refused"  # server too old, or tracking refused
    STALLED = "stalled"  # the tracking link is silent for longer than the lease
    TOO_LATE = "too_late"  # a flight did not answer by its deadline
    TOO_BIG = "too_big"  # the reply was larger than max_entry_bytes a moment ago
    TOO_MANY_KEYS = "too_many_keys"
    FULL = "full"  # the bound on reads in flight
    TRANSIENT = "transient"  # LOADING, MASTERDOWN …: the data path knows how to retry


class Sketch:
    """The most frequent keys of a stream, in bounded memory.

    A key's count is at most `error` too low and never too high; every key read more often than
    `error` is listed. (Misra-Gries with batched pruning, equivalent to Space-Saving: Agarwal et
    al., "Mergeable summaries", 2012.) `error` <= total weight / capacity.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        assert capacity > 0
        self.capacity = capacity
        self.error = 0
        self._counts: dict[bytes, int] = {}

    def add(self, key: bytes, weight: int = 1) -> None:
        """Count `key`. Amortised: one sort of 2 * capacity numbers per capacity new keys."""
        counts = self._counts
        counts[key] = counts.get(key, 0) + weight
        if len(counts) > 2 * self.capacity:
            self._prune()

    def top(self, n: int) -> list[tuple[bytes, int]]:
        """The `n` largest as (key, count), largest first; equal counts in the order of the keys."""
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:n]

    def __len__(self) -> int:
        return len(self._counts)

    def _prune(self) -> None:
        ranked = sorted(self._counts.values(), reverse=True)
        cut = ranked[self.capacity]
        self.error += cut
        self._counts = {key: n - cut for key, n in self._counts.items() if n > cut}


@dataclass(frozen=True, slots=True)
class Report:
    """A picture for the status page. Lists are (key, count), largest first."""

    hits: int
    misses: int
    negative_hits: int
    coalesced: int
    saved_repeats: int
    bypassed: dict[str, int]
    top_keys: list[tuple[bytes, int]]
    repeated_keys: list[tuple[bytes, int]]
    missing_keys: list[tuple[bytes, int]]
    refilled_keys: list[tuple[bytes, int]]


@dataclass(slots=True)
class Insight:
    """Counters and sketches of one partition or route."""

    misses: int = 0  # reads that started a fill
    coalesced: int = 0  # reads that joined one, or rode on one
    saved_repeats: int = (
        0  # local answers to a client that read the key REPEAT_WINDOW_S ago or less
    )
    stale_served: int = 0
    invalidations: int = 0  # keys the server said have changed
    torn_refetches: int = 0  # multi-key reads fetched again because a part changed meanwhile
    bypassed: dict[Bypassed, int] = field(default_factory=dict)
    local: Sketch = field(default_factory=Sketch)
    repeated: Sketch = field(default_factory=Sketch)
    missing: Sketch = field(default_factory=Sketch)
    refilled: Sketch = field(default_factory=Sketch)

    def bypass(self, reason: Bypassed) -> None:
        """One read went upstream by itself."""
        self.bypassed[reason] = self.bypassed.get(reason, 0) + 1

    def hit_many(self, key: bytes, hits: int, negative: bool) -> None:
        """`hits` local answers for `key` since the last call."""
        self.local.add(key, hits)
        if negative:
            self.missing.add(key, hits)

    def repeat_many(self, key: bytes, repeats: int) -> None:
        """`repeats` of them went to a client that had read the key within the window."""
        self.saved_repeats += repeats
        self.repeated.add(key, repeats)

    def filled(self, key: bytes, negative: bool) -> None:
        """A fill for `key` was answered."""
        self.refilled.add(key)
        if negative:
            self.missing.add(key)

    def report(self, hits: int, negative_hits: int, n: int = 20) -> Report:
        """Everything so far. `hits` includes `negative_hits`; both are counted on the hit path."""
        return Report(
            hits=hits,
            misses=self.misses,
            negative_hits=negative_hits,
            coalesced=self.coalesced,
            saved_repeats=self.saved_repeats,
            bypassed={str(reason): count for reason, count in sorted(self.bypassed.items())},
            top_keys=_summed(self.local, self.refilled, n),
            repeated_keys=self.repeated.top(n),
            missing_keys=self.missing.top(n),
            # once is how every key starts; again and again is what deserves a look
            refilled_keys=[item for item in self.refilled.top(n) if item[1] > 1],
        )


def _summed(one: Sketch, other: Sketch, n: int) -> list[tuple[bytes, int]]:
    """The `n` most frequent keys of two streams together."""
    both = Sketch(4 * CAPACITY)
    for sketch in (one, other):
        for key, count in sketch.top(len(sketch)):
            both.add(key, count)
    return both.top(n)


def masked(key: bytes) -> str:
    """The shape of a key without what identifies a person: `user:42:token` gives `user:*:token`.

    A part is shown only if it is a plain word where keys have names: the first of several parts,
    or right behind a number or token. Any other may name somebody: `user:ann:token` gives
    `user:*:*`, and a key of one word `*`. What stands where names stand is taken for one: nobody
    can tell `ann:cart` from `user:cart`.
    """
    pieces = _PARTS.split(_RUNS.sub(b"*", key[:256]))
    places = [at for at in range(0, len(pieces), 2) if pieces[at]]
    is_name, alone = True, len(places) == 1
    for at in places:
        part = pieces[at]
        identifies = b"*" in part
        if not (is_name and _NAME.fullmatch(part)) or (alone and not identifies):
            pieces[at] = b"*"
        is_name = identifies
    return b"".join(pieces).decode("ascii", "backslashreplace")


def shapes(keys: Iterable[tuple[bytes, int]]) -> list[tuple[str, int]]:
    """The masked keys, those of one shape summed up, largest first."""
    counts: Counter[str] = Counter()
    for key, count in keys:
        counts[masked(key)] += count
    return counts.most_common()
