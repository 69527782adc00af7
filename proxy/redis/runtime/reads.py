"""A client's reads through its partition's cache.

The rules are the cache's (`protocol/cache.py`, "What the caller must do"): a hit only while nothing
of the client is unanswered; reads that wait on the tracking link keep their order among themselves;
anything for the data link waits for them, and while something is on the data link, reads go there
too and are reported when answered.
"""

from typing import TYPE_CHECKING

from proxy.core.reasons import Reason
from proxy.redis.protocol.actions import Answer, Phase, Wait
from proxy.redis.protocol.insight import Bypassed
from proxy.redis.protocol.reader import Reader
from proxy.redis.protocol.values import split_args
from proxy.redis.runtime.batch import Batch

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.tracking import Tracker


class ReadWait:
    """A read that waits on the tracking link."""

    __slots__ = ("client", "raw", "reads")

    def __init__(self, reads: "CachedReads", raw: bytes) -> None:
        self.reads = reads
        self.client = reads.client
        self.raw = raw

    def answered(self, reply: bytes) -> None:
        """The cache has the reply."""
        self.reads.waiting -= 1
        self.client.deliver(reply)

    def forward(self) -> None:
        """The cache cannot tell: the data link shall."""
        self.reads.waiting -= 1
        self.reads.direct(self.raw, split_args(self.raw, 0, len(self.raw)))


class DirectRead:
    """Takes the reply to a cacheable read on the data link, and shows it to the cache first."""

    __slots__ = ("_args", "_client", "_raw", "_reads")

    def __init__(self, reads: "CachedReads", raw: bytes, args: list[bytes]) -> None:
        self._reads = reads
        self._client = reads.client
        self._raw = raw
        self._args = args

    @property
    def closed(self) -> bool:
        return self._client.closed

    @property
    def whose(self) -> int:
        return self._client.whose

    @property
    def waits_behind_others(self) -> bool:
        return self._client.waits_behind_others

    def deliver(self, data: bytes) -> None:
        reads = self._reads
        if data.startswith(b"-UPSTREAM"):
            data = reads.stale(self._raw, self._args) or data
        elif not reads.closed:
            # Of a reply that streams in parts no part equals what is cached: it is dropped.
            reads.reader.direct(self._raw, self._args, data)
        self._client.deliver(data)

    def finished(self, batch: Batch) -> None:
        self._client.finished(batch)

    def complete(self, batch: Batch, data: bytes) -> None:
        self.deliver(data)
        self._client.finished(batch)

    def flush(self) -> None:
        self._client.flush()

    def close_for(self, reason: Reason) -> None:
        self._client.close_for(reason)

    def replaced(self, batch: Batch, batches: list[Batch]) -> None:
        self._client.replaced(batch, batches)

    def stall(self, batch: Batch) -> bool:
        return self._client.stall(batch)


class CachedReads:
    """One client's reader and what waits on it."""

    def __init__(self, client: "ClientConnection", reader: Reader, tracker: "Tracker") -> None:
        self.client = client
        self.reader = reader
        self.tracker = tracker
        self.waiting = 0  # reads on the tracking link
        self.closed = False
        self.unwritten_bytes = 0  # of replies made here, since the last look
        self._to_direct = False  # the next read has been refused by the cache already

    @property
    def is_usable(self) -> bool:
        """False where nothing is ever cached: reads need no detour then."""
        return self.tracker.cache.phase is not Phase.REFUSED

    def read(self, raw: bytes) -> bool:
        """Answers a cacheable read, or sends it. False: it has to wait for others, or for T."""
        client = self.client
        if client.inflight:
            return self._behind_others(raw)
        now_s = client.route.loop.time()
        if not self.waiting:
            reply = self.reader.hit(raw, now_s)
            if reply is not None:
                self.unwritten_bytes += len(reply)
                client.deliver(reply)
                return True
            if self.tracker.wait_settled(client):
                client.hold_on()
                return False
        args = split_args(raw, 0, len(raw))
        if self._to_direct:
            return self._bypassed(raw, args)
        action = self.reader.read(raw, args, ReadWait(self, raw), now_s)
        if isinstance(action, Answer):
            self.unwritten_bytes += len(action.reply)
            client.deliver(action.reply)
            return True
        if isinstance(action, Wait):
            self.waiting += 1
            self.tracker.write(action.write)
            return True
        if not self.waiting and client.lane_for(bulk=False).link is None:
            stale = self.stale(raw, args)
            if stale is not None:
                client.deliver(stale)
                return True
        return self._bypassed(raw, args)

    def _behind_others(self, raw: bytes) -> bool:
        """Something is unanswered on the data link: reads keep behind it (W6)."""
        if self.tracker.cache.phase is Phase.READY:
            self.tracker.cache.insight.bypass(Bypassed.ORDER)
        return self.direct(raw, split_args(raw, 0, len(raw)))

    def _bypassed(self, raw: bytes, args: list[bytes]) -> bool:
        if self.waiting:
            self._to_direct = True
            return False
        self._to_direct = False
        return self.direct(raw, args)

    def stale(self, raw: bytes, args: list[bytes]) -> bytes | None:
        """What was known when the upstream went away, where the settings allow it."""
        cache = self.tracker.cache
        if not cache.options.stale_max_s or self.tracker.link is not None or self.closed:
            return None
        return self.reader.stale(raw, args, self.client.route.loop.time())

    def direct(self, raw: bytes, args: list[bytes]) -> bool:
        """Sends a read on the lane the client is on."""
        client = self.client
        if client.lane is None or not client.inflight:
            client.lane = client.lane_for(bulk=False)
        client.send(client.lane, Batch(DirectRead(self, raw, args), raw, 1))
        return True

    def close(self) -> None:
        """The client goes, or moves to another user, database or version."""
        if not self.closed:
            self.closed = True
            self.reader.close()
            self.waiting = 0
