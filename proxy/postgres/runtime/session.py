"""A client's session: attached to a link while there is one, and alive while there is none.

One mechanism serves connecting, losing a link and leaving one: *attach* (design, section 4.1).
Units of the client go straight to the link while the session is attached and owes the client
nothing of its own; otherwise they wait in a queue, in order, together with the answers the proxy
makes itself (`session_send`).

Owns: attaching and losing. Must not know: how links are opened, what an error
says (`protocol.say`), when a unit may run again (`protocol.verdict`).
"""

import asyncio

from proxy.core.errors import LimitExceeded, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.postgres.protocol import say
from proxy.postgres.protocol.client_login import welcome
from proxy.postgres.protocol.expected import FAILED, IDLE
from proxy.postgres.protocol.lessons import told
from proxy.postgres.protocol.session_state import Need
from proxy.postgres.protocol.whole import whole_unit
from proxy.postgres.runtime import attach, loss, reenter
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.link import Phase as LinkPhase
from proxy.postgres.runtime.sampling import timed_answer, timed_request
from proxy.postgres.runtime.session_base import LEGAL, READY, Entry, Lost, Phase, give
from proxy.postgres.runtime.session_end import EndingSession
from proxy.postgres.runtime.session_send import INFLIGHT_UNITS_MAX

HOLD_BACK_S = 0.02  # how long the start of an answer is held back at most


class Session(EndingSession):
    """See the module. Made after the login; `start()` begins the first attach."""

    __slots__ = ()

    def start(self, transport: asyncio.Transport, rest: bytes) -> None:
        """Take over from the login: attach, then say welcome. `rest`: bytes that came early."""
        self.transport = transport
        if rest:
            self.data_received(rest)
        self._attach()

    def data_received(self, data: bytes) -> None:
        self.until_sample -= 1
        if self.until_sample < 0:
            timed_request(self, data)
            return
        gatherer = self.gatherer
        if self._direct:
            unit = whole_unit(gatherer, data)
            if unit is not None:
                self._send_new(unit, data)
                return
        if self.phase is Phase.CLOSED:
            return
        if self.ending and self._leave_timer is not None:
            self._end_now()
            return
        for unit, part, last in gatherer.feed(data):
            if self._direct and unit is not None and last and not unit.started:
                self._send_new(unit, part)
            else:
                self._place(unit, part, last)
        if gatherer.terminated or gatherer.fault is not None:
            self._alert = True
            self.pause("end")
            self._maybe_end()

    def _maybe_end(self) -> bool:
        """End the session if the client has asked for that (or has asked for nonsense).

        What it sent before is answered first, as the server does it.
        """
        gatherer = self.gatherer
        if self._queue or self.phase is not Phase.READY:
            return False
        if any(unit.complete for unit in self.expected.inflight):
            return False  # one that lacks its Sync will never be answered, nor committed
        if gatherer.fault is not None:
            self.end_with(say.protocol_violation(str(gatherer.fault)), gatherer.fault.reason)
            return True
        if gatherer.terminated:
            self._client_gone(Reason.CLIENT_CLOSED)
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._client_gone(Reason.CLIENT_LOST if exc else Reason.CLIENT_CLOSED)

    # -- the link's side

    def from_link(self, data: bytes) -> None:
        """The next bytes of the server."""
        if self.sample is not None:
            timed_answer(self, data)
            return
        expected = self.expected
        if expected.whole_answer(data):
            if self.phase is READY:
                give(self.transport, data)
            if self._queue or self._alert or expected.learned:
                self._at_boundary()
            return
        out = expected.feed(data)
        if self._paused and len(expected.inflight) <= INFLIGHT_UNITS_MAX // 2:
            self.resume("pipeline")
        if out and self.phase is Phase.READY:
            self.say(out[0] if len(out) == 1 else b"".join(out))
        if expected.fatal is not None:
            assert self.link is not None
            self.link.fatal = expected.fatal
            self.link.lose(Reason.UPSTREAM_FATAL)
        elif expected.fault is not None:
            assert self.link is not None
            self.link.lose(expected.fault.reason)
        elif expected.inflight:
            if expected.inflight[0].held and self._hold_timer is None:
                loop = asyncio.get_running_loop()
                self._hold_timer = loop.call_later(HOLD_BACK_S, self._release_held)
            if self._alert:
                self._maybe_end()
        elif self._queue or expected.learned or self._alert:
            self._at_boundary()

    def _release_held(self) -> None:
        self._hold_timer = None
        if self.expected.holding:
            self.say(b"".join(self.expected.release()))

    def _at_boundary(self) -> None:
        """Nothing is in flight: time for what had to wait for that."""
        self.expected.learned = False
        link = self.link
        if self.phase is Phase.LEAVING:
            self._give_back()
            return
        if self._maybe_end() or link is None:
            return
        if self.expected.status == IDLE:
            if self.ending:
                self._end_soon()
                return
            if link.stale is not None or not self.route.suits(link, self.state):
                attach.leave(self, link.stale or Reason.UPSTREAM_READ_ONLY)
                ending = self.gatherer.terminated or self.gatherer.fault is not None
                self._alert = ending or (self.link is not None and link.stale is not None)
                self._settle()
            elif link.pooler:
                self.state.need = Need.NONE  # its answer would be another session's
            elif self.state.need is Need.NOW:
                self._direct = False
                self._attaching = self.route.tasks.start(attach.look(self), "fingerprint")
                return
            elif self.state.need is Need.SOON:
                self.route.look_soon(self)
        if self._queue:
            self._pump()
        elif not self._direct:
            self._settle()

    # -- attaching

    def _attach(self) -> None:
        """Get a link, unless that is under way."""
        self._direct = False
        if self._attaching is not None or self.phase in (Phase.CLOSED, Phase.LEAVING):
            return
        now_s = asyncio.get_running_loop().time()
        if self.phase is Phase.JOINING:
            link = attach.attach_new(self)
            if link is not None:
                self._attached(link, now_s)
                return
        if not self.lost_at_s:
            self.lost_at_s = now_s
        try:
            self._attaching = self.route.tasks.start(self._attach_until(), "attach")
        except LimitExceeded:
            self.end_with(say.shutting_down(), Reason.SHUTDOWN)

    async def _attach_until(self) -> None:
        """Attach, or tell the client why not; then send what waits."""
        started_s = asyncio.get_running_loop().time()
        if self.phase is not Phase.JOINING or not self.route.upstream.available:
            self.route.events("attaching", level="debug", session=self.number)
        try:
            link = await attach.attach(self)
        except UpstreamRefused as refused:
            self._attach_over()
            self.end_with(attach.refused(refused), refused.reason)
        except (UpstreamUnavailable, LimitExceeded) as error:
            self._attach_over()
            if self.phase is Phase.JOINING or self._queue:
                self.end_with(attach.refusal(self, error), error.reason)
            else:  # what waited was cancelled, and an idle session needs no link
                self.route.events("attach_given_up", level="debug", session=self.number)
        except attach.NotRestorable as failed:
            self._attach_over()
            self.end_with(say.state_lost(failed.what, self.expected.fatal), Reason.RESTORE_FAILED)
        except asyncio.CancelledError:
            self._attach_over()
            raise
        except Exception:  # our bug: it ends this session only, and the task set reports it
            self._attach_over()
            self.end_with(say.internal_error(), Reason.BUG)
            raise
        else:
            self._attach_over()
            self._attached(link, started_s)

    def _attach_over(self) -> None:
        self._attaching = None

    def look_over(self) -> None:
        """A look at the link's state (fingerprint, ping) has ended."""
        self._attaching = None
        if self.link is not None and self.link.phase is LinkPhase.IDLE:
            self._tell_changes(self.link)
            self._hold_on(self.link)
        link, idle = self.link, self.expected.status == IDLE
        if link is not None and idle and not self.route.suits(link, self.state):
            attach.leave(self, Reason.UPSTREAM_READ_ONLY)  # before it is sent what has come since
        self._settle()
        self._pump()
        self._leave_if_stale()

    def ask_later(self) -> bool:
        """True if the session can spare its link for a question of the proxy right now."""
        return (
            self.phase is Phase.READY
            and self._attaching is None
            and self.link is not None
            and self.link.phase is LinkPhase.ATTACHED
            and not self.expected.inflight
            and not self._queue
            and self.expected.status == IDLE
        )

    def look(self) -> None:
        """Ask the link how it is (fingerprint or ping). Only after ask_later() said yes."""
        self._direct = False
        self._attaching = self.route.tasks.start(attach.look(self), "ping")

    def _enter(self) -> None:
        self._direct = False
        self._attaching = self.route.tasks.start(reenter.enter(self), "enter")

    def _hold_on(self, link: Link) -> None:
        """This link's bytes are the session's from now on."""
        link.become(LinkPhase.ATTACHED)
        link.receive = self.from_link
        link.on_lost = self._link_lost
        link.on_writable = self._link_writable
        rest = link.take_rest()
        self.expected.link_params = link.params
        if self._client_full and link.transport is not None:
            link.transport.pause_reading()
        if rest:
            self.from_link(rest)

    def _attached(self, link: Link, started_s: float) -> None:
        if self.phase is Phase.CLOSED:
            self._release(link)
            return
        self.link = link
        first = self.phase is Phase.JOINING
        if first:
            self.become(Phase.READY)
            self.key = self.route.new_key(self, link.pid)
            for name, value in link.params.items():
                told(self.expected, name, value)
            self.say(welcome(link.params, self.key.message()))
        else:
            self._tell_changes(link)
        attach.report(self, link, first, started_s)
        self.lost_at_s = 0.0
        self.expected.fatal = self.expected.warning = None
        reenter.entered(self)
        if self.gap:
            self.gap = False
            self.say(say.notifications_missed())
        self._hold_on(link)
        self._settle()
        self._pump()
        self._leave_if_stale()

    # -- losing the link

    def _link_lost(self, link: Link) -> None:
        """The link is dead: the one place where its units are judged."""
        self.link = None
        self._direct = False
        self.sample = None
        self._stop_holding()
        self.resume("link")
        self.resume("pipeline")
        self.pool.lost(link)
        if self.phase is not Phase.READY:
            self._finish(Reason.CLIENT_CLOSED)
            return
        self.lost_at_s = asyncio.get_running_loop().time()
        loss.lost(self, link)
        if self.phase is Phase.READY:
            self._pump()

    def _finish(self, reason: Reason) -> None:
        if self.phase is not Phase.CLOSED:
            self.become(Phase.CLOSED)
            self._queue.clear()
            self._direct = False
            self.route.left(self, reason)

    def doom(self, what: str, at_once: bool) -> None:
        """It holds what cannot be rebuilt: it ends now, or behind the errors it is owed."""
        judged = any(entry.unit.say is not None for entry in self._queue)
        self.doomed = what
        if at_once and not judged:
            self.end_with(say.state_lost(what, self.expected.fatal), Reason.STATE_NOT_RESTORABLE)

    # -- cancel

    def cancel(self) -> Link | None:
        """The client wants its query cancelled: the link to tell, or None if that was all."""
        expected = self.expected
        if any(not unit.skip for unit in expected.inflight):
            return self.link
        for entry in self._queue:
            if entry.unit.say is None:
                in_transaction = expected.status != IDLE
                if in_transaction:
                    self.give_up_transaction(Lost.TOLD)
                status = FAILED if in_transaction else IDLE
                expected.status = status
                said = loss.cancelled(self, entry.unit, status if entry.unit.complete else None)
                entry.unit.say = self.route.answered(self, said)
                self.route.events("cancelled_in_queue", session=self.number)
                self._pump()
                break
        return None

    # -- leaving the link

    def part(self, reason: Reason) -> None:
        """Leave the link at the next boundary, which may be now, and take another when needed."""
        self._alert = True
        if self.link is not None:
            self.link.stale = reason
            self._leave_if_stale()

    def _leave_if_stale(self) -> None:
        """Where no unit's end will come by to look: the session has just got its link, or idles."""
        if self.ending and self.rests:
            self._end_soon()
            return
        if self.link is not None and self.link.stale is not None:
            self._alert = True
            if self.ask_later():
                self._at_boundary()


__all__ = ["LEGAL", "Entry", "Lost", "Phase", "Session"]
