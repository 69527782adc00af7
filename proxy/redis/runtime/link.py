"""The shared data link: commands of many clients in one pipeline, replies handed out in order.

One entry of `inflight` per batch, in the order written. A chunk from the upstream is cut at reply
boundaries only where the next batch begins, and what belongs to one client goes to it as one slice.
A reply in progress is held back up to a bound, so that it can be asked again if the link dies;
beyond the bound it streams, and can not.
"""

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from proxy.redis.protocol.login import LinkIdentity
from proxy.redis.runtime.batch import Batch, ReplyTaker
from proxy.redis.runtime.upstream import UpstreamLink

if TYPE_CHECKING:
    from proxy.redis.runtime.lane import Lane


SAMPLE_EVERY = 16  # of a link's writes one is measured, until the last reply to it


class DataLink(UpstreamLink):
    """One pipelined link of a lane."""

    def __init__(self, identity: LinkIdentity, lane: "Lane", reply_hold_bytes: int) -> None:
        super().__init__(identity)
        self.lane = lane
        self.inflight: deque[Batch] = deque()
        self.inflight_commands = 0
        self.inflight_bytes = 0
        self.streaming = False  # the reply in progress has been passed on in part
        self._reply_hold_bytes = reply_hold_bytes
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self._canned = 0
        self._touched: list[ReplyTaker] = []
        self._put: list[Batch] = []  # in flight, and not yet written
        self._until_sample = SAMPLE_EVERY
        self._sampled: Batch | None = None  # on its way, and being measured
        self._sampled_s = 0.0

    @property
    def reply_in_progress(self) -> bool:
        """Part of a reply has arrived."""
        return self._partial_bytes > 0 or self.streaming

    @property
    def has_unwritten(self) -> bool:
        """Something was `put` since the last write."""
        return bool(self._put)

    def put(self, batch: Batch) -> None:
        """Takes a batch that is no canned one; `write_put` follows in the same turn of the loop."""
        self.inflight.append(batch)
        self._put.append(batch)
        self.inflight_commands += batch.left
        self.inflight_bytes += len(batch.data)

    def write_put(self, now_s: float) -> None:
        """Writes what was put, as one."""
        put, self._put = self._put, []
        for batch in put:
            batch.attempts += 1
            batch.sent_s = now_s
        self._until_sample -= 1
        if self._until_sample < 0 and self._sampled is None:
            self._until_sample = SAMPLE_EVERY
            self._sampled, self._sampled_s = put[-1], perf_counter()
        if len(put) == 1:
            self.write(put[0].data)
        else:
            self.write(b"".join([batch.data for batch in put]))

    def send(self, batches: list[Batch], now_s: float) -> None:
        """Writes the batches as one; canned ones take their turn."""
        for batch in batches:
            if batch.canned is None:
                self.put(batch)
            else:
                self.inflight.append(batch)
                self._canned += 1
        if self._put:
            self.write_put(now_s)
        if self._canned:
            self._emit_canned()
            self._flush_touched()

    def frames_received(self, chunk: bytes, ends: list[int]) -> None:
        scanner = self.scanner
        if self._partial and ends:
            shift = self._partial_bytes
            self._partial.append(chunk)
            chunk = b"".join(self._partial)
            self._partial, self._partial_bytes = [], 0
            ends = [end + shift for end in ends]
        if scanner.errors or scanner.pushes:
            consumed = self._one_by_one(chunk, ends)
        else:
            consumed = self._hand_out(chunk, ends)
        rest = len(chunk) - len(scanner.carry)
        if rest > consumed:
            self._keep(chunk[consumed:rest])
        self._flush_touched()
        if self.lane.queue.commands:
            self.lane.wake()

    def _hand_out(self, chunk: bytes, ends: list[int]) -> int:
        """Gives each batch its share of the whole replies. Offset of the first byte not given."""
        inflight = self.inflight
        touched = self._touched
        position = index = 0
        count = len(ends)
        while index < count:
            if not inflight:
                self._unasked()
                return len(chunk)
            batch = inflight[0]
            taken = batch.left
            taker = batch.taker
            if taken > count - index:
                batch.left -= count - index
                self.inflight_commands -= count - index
                end = ends[-1]
                index = count
                taker.deliver(chunk[position:end])
            else:
                index += taken
                batch.left = 0
                self.inflight_commands -= taken
                end = ends[index - 1]
                inflight.popleft()
                self.inflight_bytes -= len(batch.data)
                if batch.release is not None:
                    batch.let_go()
                if batch is self._sampled:
                    self._sampled = None
                    self.lane.route.latency.server.observe(perf_counter() - self._sampled_s)
                taker.complete(batch, chunk[position:end])
            touched.append(taker)
            position = end
            self.streaming = False
            if self._canned:
                self._emit_canned()
        return position

    def _one_by_one(self, chunk: bytes, ends: list[int]) -> int:
        """As `_hand_out`, looking at errors (some are not for the client) and dropping pushes."""
        errors, pushes = set(self.scanner.errors), set(self.scanner.pushes)
        start = 0
        for index, end in enumerate(ends):
            frame = chunk[start:end]
            start = end
            if index in pushes and not self.streaming:
                continue  # nothing on this link subscribes: a push is nobody's
            if index in errors and self.inflight and not self.streaming:
                batch = self.inflight[0]
                if self.lane.intercepts(batch, frame):
                    self.inflight.popleft()
                    self._sampled = None if self._sampled is batch else self._sampled
                    self.inflight_commands -= batch.left
                    self.inflight_bytes -= len(batch.data)
                    if self._canned:
                        self._emit_canned()
                    continue
            self._hand_out(frame, [len(frame)])
        return start

    def _keep(self, part: bytes) -> None:
        """Holds part of a reply back, or passes it on when it has become too much."""
        if not self.inflight:
            self._unasked()
            return
        if self.streaming:
            self.inflight[0].taker.deliver(part)
            self._touched.append(self.inflight[0].taker)
            return
        self._partial.append(part)
        self._partial_bytes += len(part)
        if self._partial_bytes > self._reply_hold_bytes:
            self.streaming = True
            taker = self.inflight[0].taker
            taker.deliver(b"".join(self._partial))
            self._touched.append(taker)
            self._partial, self._partial_bytes = [], 0

    def _emit_canned(self) -> None:
        """Replies of our own whose turn has come."""
        while self.inflight and self.inflight[0].canned is not None:
            batch = self.inflight.popleft()
            self._canned -= 1
            assert batch.canned is not None
            batch.let_go()
            batch.taker.deliver(batch.canned)
            batch.taker.finished(batch)
            self._touched.append(batch.taker)

    def _flush_touched(self) -> None:
        # Flushing may make clients go on, which may touch takers again: hence the exchange.
        touched, self._touched = self._touched, []
        for taker in touched:
            taker.flush()

    def _unasked(self) -> None:
        """A reply to nothing: an error the server sends before it hangs up, or nonsense."""
        self.lane.unasked(self)

    def take_back(self) -> list[Batch]:
        """What was put and not written is in flight no more."""
        put, self._put = self._put, []
        for batch in reversed(put):
            last = self.inflight.pop()
            assert last is batch
            self.inflight_commands -= batch.left
            self.inflight_bytes -= len(batch.data)
        return put

    def link_lost(self, unsent_bytes: int) -> None:
        self.lane.link_lost(self, unsent_bytes)

    def drained(self) -> None:
        self.lane.wake()
