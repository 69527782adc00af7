"""One client's view of its partition's cache: the hit path, and the order of what it asked.

A reader belongs to one client connection in one partition and RESP version; SELECT, AUTH and HELLO
replace it. It keeps its unanswered reads in order, so that no reply shows an older instant of the
server than the reply before it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proxy.redis.protocol import cacheable
from proxy.redis.protocol.actions import Answer, Bypass, Wait
from proxy.redis.protocol.cacheable import assembled
from proxy.redis.protocol.flights import Ask
from proxy.redis.protocol.insight import REPEAT_WINDOW_S, Bypassed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.redis.protocol.cache import Cache
    from proxy.redis.protocol.sieve import Entry

_NOTHING: dict[bytes, Entry] = {}  # what a fenced reader sees: every read takes the slow path


class Reader:
    """One client. `id` must be unique in the partition, and not 0."""

    __slots__ = ("_cache", "_entries", "_fence", "_lease", "asks", "id", "resp")

    def __init__(self, cache: Cache, number: int, resp: int) -> None:
        assert number > 0
        assert resp in (2, 3)
        self.id = number
        self.resp = resp
        self.asks: deque[Ask] = deque()  # waiting, in the client's order
        self._cache = cache
        self._lease = cache.lease
        self._entries = cache.store.maps[resp]
        self._fence = 0
        if cache.fence_number > cache.traffic.done_number:
            # W4: the client may be the one that fenced, back from another database.
            self._fence, self._entries = cache.fence_number, _NOTHING

    def hit(self, raw: bytes, now_s: float) -> bytes | None:
        """The reply to the request `raw`, when it is cached and proven current; else None.

        Call only while the client has nothing unanswered. About 180 ns on CPython 3.11, of which
        the counting for the insight is a third.
        """
        entry = self._entries.get(raw)
        if entry is None or now_s >= entry.deadline_s or now_s >= self._lease.fresh_until_s:
            return None
        entry.hits += 1
        entry.tally.hits += 1
        if entry.reader != self.id:
            entry.reader = self.id
        elif now_s - entry.read_s < REPEAT_WINDOW_S:
            entry.repeats += 1
        entry.read_s = now_s
        return entry.reply

    def run(self, chunk: bytes, now_s: float, replies: list[bytes], bytes_max: int) -> int:
        """As `hit`, for a pipeline: its replies up to the first request that is no hit, or until
        they are more than `bytes_max`, are added to `replies`. The result is how many bytes of the
        chunk they answer.

        Nothing is parsed: a piece that equals a cached request is one, wherever it was cut, as no
        whole command is the beginning of another. So the cuts may be guesses.
        """
        if now_s >= self._lease.fresh_until_s:
            return 0
        entries, me = self._entries, self.id
        position, size, length = 0, len(chunk), 0
        while position < size and bytes_max >= 0:
            # Requests of a pipeline are often as long as the one before.
            entry = entries.get(chunk[position : position + length]) if length else None
            if entry is None:
                cut = chunk.find(b"\r\n*", position) + 2
                length = (cut if cut > 1 else size) - position
                entry = entries.get(chunk[position : position + length])
            if entry is None or now_s >= entry.deadline_s:
                break
            entry.hits += 1
            entry.tally.hits += 1
            if entry.reader != me:
                entry.reader = me
            elif now_s - entry.read_s < REPEAT_WINDOW_S:
                entry.repeats += 1
            entry.read_s = now_s
            reply = entry.reply
            replies.append(reply)
            bytes_max -= len(reply)
            position += length
        return position

    def read(
        self, raw: bytes, argv: Sequence[bytes], waiter: object, now_s: float
    ) -> Answer | Wait | Bypass:
        """What becomes of a read that did not hit. `waiter` comes back in an `Out` after a
        `Wait`.
        """
        cache = self._cache
        plan = cacheable.plan(argv)
        reason = Bypassed.NOT_CACHEABLE if plan is None else cache.obstacle(plan, now_s)
        if reason is not None or plan is None:
            assert reason is not None
            cache.insight.bypass(reason)
            return Bypass(reason)
        return cache.launch(Ask(self, waiter, raw, plan, now_s), now_s)

    def direct(self, raw: bytes, argv: Sequence[bytes], reply: bytes | None) -> None:
        """W7: the data link answered this cacheable read of ours with `reply` (None: unknown).

        What D says is at least as new as what T has said. Where the cache holds something else it
        is behind, and another client would see the old value after this one saw the new.
        """
        cached, flying = self._cache.store.by_key, self._cache.traffic.by_key
        if len(argv) == 2:  # nearly always: a key that nobody cached, at the cost of two look-ups
            if argv[1] not in cached and argv[1] not in flying:
                return
            keys: Sequence[bytes] = argv[1:]
        else:
            keys = cacheable.read_keys(argv)
        behind = [key for key in keys if key in cached]
        if behind and reply is not None and self._cached_reply(raw, argv) == reply:
            behind = []
        behind += [key for key in keys if key in flying]
        if behind:
            self._cache.seen_elsewhere(behind)

    def fence(self, now_s: float) -> bytes:
        """W4: our write with unknown keys was acknowledged. Bytes for T; our hits wait for their
        reply.
        """
        number, data = self._cache.fence(now_s)
        if number:
            self._fence = number
            self._entries = _NOTHING
        return data

    def stale(self, raw: bytes, argv: Sequence[bytes], now_s: float) -> bytes | None:
        """What was cached when the upstream went away, where the settings allow it.

        Call only while the upstream is away, and never inside MULTI.
        """
        plan = cacheable.plan(argv)
        entries = self._cache.store.maps[self.resp]
        if plan is None:
            return None
        parts = [entries.get(one) for one in plan.pieces or (plan.canonical,)]
        if not all(part and self._cache.may_serve_stale(part, now_s) for part in parts):
            return None
        replies = [part.reply for part in parts if part]
        self._cache.insight.stale_served += 1
        return assembled(plan.name, replies) if plan.pieces else replies[0]

    def close(self) -> None:
        """The client is gone, or moves to another partition: nothing of it waits any more."""
        while self.asks:
            self._cache.withdraw(self.asks.popleft())

    # ---- for Cache ----

    def after(self) -> int:
        """The flight that the next read must not be older than; 0 when there is no such bound."""
        done = self._cache.traffic.done_number
        if self._fence and self._fence <= done:
            self._fence = 0
            self._entries = self._cache.store.maps[self.resp]
        if not self.asks:
            return self._fence
        last = self.asks[-1].flight
        assert last is not None
        return max(last.number, self._fence)

    def answered(self, ask: Ask) -> None:
        """Its first waiting ask has its reply."""
        first = self.asks.popleft()
        assert first is ask, "flights answer a client in its own order"

    def take_from(self, ask: Ask) -> list[Ask]:
        """This ask and all later ones; they do not wait any more."""
        taken: list[Ask] = []
        while not taken or taken[0] is not ask:
            taken.insert(0, self.asks.pop())
        return taken

    def _cached_reply(self, raw: bytes, argv: Sequence[bytes]) -> bytes | None:
        """What the cache would say, without a look at deadlines: only equality matters."""
        entries = self._cache.store.maps[self.resp]
        entry = entries.get(raw)
        if entry is not None:
            return entry.reply
        plan = cacheable.plan(argv)
        if plan is None:
            return None
        parts = [entries.get(one) for one in plan.pieces or (plan.canonical,)]
        replies = [part.reply for part in parts if part]
        if len(replies) < len(parts):
            return None
        return assembled(plan.name, replies) if plan.pieces else replies[0]
