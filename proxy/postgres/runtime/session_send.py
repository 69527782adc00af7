"""A session's way to its link: units that go straight on, and the queue of those that wait.

Answers the proxy makes itself wait in the same queue, so that all reaches the client in order.

Owns: `_queue` and the hot path's gate, `_direct`. Must not know: how links come and go.
"""

from collections import deque
from typing import Final

from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages, say
from proxy.postgres.protocol.expected import FAILED, IDLE
from proxy.postgres.protocol.statement import Copy
from proxy.postgres.protocol.units import Kind, Unit
from proxy.postgres.runtime import attach, read_only, virtual
from proxy.postgres.runtime.link import Phase as LinkPhase
from proxy.postgres.runtime.session_base import NO_QUEUE, Entry, Lost, Phase, SessionBase, give

_SYNCS = messages.sync() + messages.flush()  # as a set of bytes: nothing else is made of these
INFLIGHT_UNITS_MAX: Final = 1024  # of a client that pipelines; beyond it is not read from
QUEUE_BYTES_MAX = 1 << 20  # of a client that waits for a link; then it is not read from


class SendingSession(SessionBase):
    """Everything between the client's pieces and the link's transport."""

    __slots__ = ()

    def _send_new(self, unit: Unit, part: bytes) -> None:
        """The hot path: a whole unit for the link, nothing in its way."""
        link = self.link
        assert link is not None
        expected = self.expected
        if expected.missing:
            part = attach.with_missing(self, unit, part)
        expected.push(unit, self._may_hold())
        unit.begins_at = link.given_bytes
        unit.ends_at = link.given_bytes = link.given_bytes + len(part)
        give(link.transport, part)
        if len(expected.inflight) > INFLIGHT_UNITS_MAX:
            self.pause("pipeline")

    @staticmethod
    def _note_sent(unit: Unit) -> None:
        """What stands in the pieces sent so far, as another piece may follow."""
        unit.sent_parses = len(unit.parses or ())
        unit.sent_uses = len(unit.uses or ())

    def _may_hold(self) -> bool:
        """True if the answer's start may be held back, as the unit could run again."""
        expected = self.expected
        return expected.status == IDLE or expected.prologue is not None

    def _place(self, unit: Unit | None, part: bytes, last: bool) -> None:
        """A piece that cannot go out at once, or is not a whole unit."""
        if unit is None:
            self._copy_rows(part, last)
            return
        if unit.say is not None:  # answered already: swallow its rest, then close it
            if unit.delivered and part.strip(_SYNCS):
                unit.delivered = False  # it goes on behind what was answered by a dead link
                said = say.mid_result(unit.rows, None, self.expected.fatal)
                self.say(self.route.answered(self, said))
            if last:
                self._close_answered(unit)
            return
        if self.owed_ready is not None and unit.kind is Kind.BATCH:
            unit.say = b""
            if last:
                status, self.owed_ready = self.owed_ready, None
                self._say_behind_queue(messages.ready_for_query(status))
            return
        waiting = self._queue[-1] if self._queue else None
        if waiting is not None and waiting.unit is unit:
            waiting.parts.append(part)
            self._count_queued(len(part))
            self._pump()
        elif unit.started:  # the next piece of one that is under way
            assert self.link is not None
            if self.expected.missing:
                part = attach.with_missing(self, unit, part)
            self.expected.count(unit)
            self._note_sent(unit)
            self.link.write(part)
            unit.ends_at = self.link.given_bytes
        else:
            if self._queue is NO_QUEUE:
                self._queue = deque()
            self._queue.append(Entry(unit, [part], False, self.pool.clock_s()))
            self._count_queued(len(part))
            self._pump()

    def _count_queued(self, count: int) -> None:
        self._queued_bytes += count
        if self._queued_bytes > QUEUE_BYTES_MAX:
            self.pause("queue")

    def _say_behind_queue(self, data: bytes) -> None:
        """Answers that still wait go first."""
        if self._queue and self._queue[-1].unit.say is not None:
            self._queue[-1].unit.say += data
        else:
            self.say(data)

    def _copy_rows(self, part: bytes, over: bool) -> None:
        """COPY rows belong to the unit in flight; without one the server would ignore them."""
        if self._queue:  # they follow what was said last, whatever is in flight before it
            last = self._queue[-1]
            unit = last.unit
            if unit.complete:
                if unit.say is not None or not _may_copy(unit):
                    return
                unit.pieces = None  # sent blindly behind a COPY that has not gone out yet
            last.parts.append(part)
            if over:
                unit.rows_end(part)
            self._count_queued(len(part))
            return
        inflight = self.expected.inflight
        if inflight and self.link is not None:
            unit = inflight[-1]
            unit.pieces = None
            if over:
                unit.rows_end(part)
            self.link.write(part)
            unit.ends_at = self.link.given_bytes

    def _close_answered(self, unit: Unit) -> None:
        """The rest of a unit that was answered with an error has come: now it is over."""
        status = FAILED if self.lost is Lost.TOLD else self.expected.status
        ready = messages.ready_for_query(status)
        if unit.say and any(entry.unit is unit for entry in self._queue):
            unit.say += ready  # its error has not gone out yet
        else:
            self.say(ready)

    def _pump(self) -> None:
        """Send what waits, or answer it, in order, as far as that goes now."""
        expected = self.expected
        while self._queue and self.phase is Phase.READY:
            entry = self._queue[0]
            unit = entry.unit
            if self.doomed and unit.say is None:
                self.end_with(
                    say.state_lost(self.doomed, expected.fatal), Reason.STATE_NOT_RESTORABLE
                )
                return
            is_lost = self.lost in (Lost.UNTOLD, Lost.TOLD) and not entry.judged
            if unit.say is None and is_lost and not virtual.answer(self, unit):
                return  # its end has not come yet
            if unit.say is not None:
                if expected.inflight:
                    return  # the answers before it come first
                self.take_first()
                self.say(unit.say)
                continue
            busy = self._attaching is not None  # it is about to ask the link something
            if busy or self.link is None or self.link.phase is not LinkPhase.ATTACHED:
                self._attach()
                return
            if self.lost in (Lost.AGAIN, Lost.FAILED) and not entry.judged:
                if not expected.inflight:
                    self._enter()
                return
            if expected.guarded or (unit.read_only and expected.inflight):
                return
            if unit.read_only:
                read_only.begin(self)
                return
            self._send_entry(self.take_first())
        self._settle()
        self.listen_again()
        if self._alert:
            self._maybe_end()

    def take_first(self) -> Entry:
        """The head of the queue, which is the caller's from now on."""
        entry = self._queue.popleft()
        if not self._queue:
            self._queue = NO_QUEUE
        self._queued_bytes -= sum(map(len, entry.parts))
        if self._queued_bytes <= QUEUE_BYTES_MAX // 2:
            self.resume("queue")
        return entry

    def _send_entry(self, entry: Entry) -> None:
        unit, link = entry.unit, self.link
        assert link is not None
        part = b"".join(entry.parts)
        if self.expected.missing:
            part = attach.with_missing(self, unit, part)
        self.expected.push(unit, self._may_hold())
        self._note_sent(unit)
        unit.begins_at = link.given_bytes
        link.write(part)
        unit.ends_at = link.given_bytes
        if len(self.expected.inflight) > INFLIGHT_UNITS_MAX:
            self.pause("pipeline")

    def _settle(self) -> None:
        """Open the hot path if nothing stands in its way, or close it."""
        link = self.link
        self._direct = (
            self.phase is Phase.READY
            and self._attaching is None
            and link is not None
            and link.phase is LinkPhase.ATTACHED
            and not self._queue
            and self.lost is Lost.NO
            and not self.doomed
            and not self.ending
            and self.owed_ready is None
            and not self.expected.guarded
        )


def _may_copy(unit: Unit) -> bool:
    """True if rows may follow the unit: it is a COPY FROM STDIN, or nobody has read it."""
    return any(
        script is None or any(one.copy is Copy.IN for one in script.statements)
        for script in unit.scripts()
    )
