"""A session's ends: told to leave, its client gone, or nothing left that it could be told.

Owns: the last words, and what becomes of the link. Must not know: how links are opened.
"""

import asyncio

from proxy.core.reasons import Reason
from proxy.net.listen import close_gently
from proxy.postgres.protocol import say
from proxy.postgres.protocol.restore import cleaning
from proxy.postgres.runtime.link import Link
from proxy.postgres.runtime.link import Phase as LinkPhase
from proxy.postgres.runtime.session_base import Phase
from proxy.postgres.runtime.session_send import SendingSession

LAST_WORDS_S = 0.25  # from a last answer to the FATAL behind it, unless the client speaks first
DRAIN_S = 5.0  # for the unit in flight of a client that left
EOF_HOLD_S = 1.0  # for one that has closed its half to get a link: it may be gone
EOF_TURNS_MAX = 12  # ... and so often DRAIN_S for its answer


class EndingSession(SendingSession):
    """Everything from the first sign of an end to the link's return."""

    __slots__ = ()

    def eof_received(self) -> bool:
        """The client says no more. True: it is answered first, as the server does it.

        Whether it still listens cannot be seen: what waits for a link has but a short time.
        """
        inflight = self.expected.inflight
        lasting = any(unit.complete for unit in inflight) or bool(self._queue)
        rows_missing = any(unit.copying and not unit.copied for unit in inflight)
        if not lasting or rows_missing or self.phase not in (Phase.JOINING, Phase.READY):
            return False
        self.gatherer.terminated = self._alert = True
        loop = asyncio.get_running_loop()
        self._leave_timer = loop.call_later(EOF_HOLD_S, self._waited_enough)
        return True

    def _waited_enough(self, more: int = EOF_TURNS_MAX) -> None:
        """A client that has closed its half waits on, unless others need its link."""
        self._leave_timer = None
        if self.expected.inflight and more and not self.pool.waited_for:
            loop = asyncio.get_running_loop()
            self._leave_timer = loop.call_later(DRAIN_S, self._waited_enough, more - 1)
        else:
            self._client_gone(Reason.CLIENT_CLOSED)

    def drain(self) -> None:
        """End at the next boundary, which may be now."""
        self.ending = self._alert = True
        if self.rests:
            self._end_soon()

    def _end_soon(self) -> None:
        """At a boundary: nothing more is sent, what has been is answered, then it ends.

        Not at once: libpq drops a FATAL that it reads in one go with an answer, as a notice, and
        calls its next statement lost ("server closed the connection unexpectedly"). So the client
        is told 57P01 when it says something again, as it has read its answer by then, and is not
        obeyed; one that stays idle is told when it surely has.
        """
        self._direct = False
        if self._queue:
            self.pause("drain")
            self._pump()
            return
        self.resume("drain")
        if self._leave_timer is None:
            loop = asyncio.get_running_loop()
            self._leave_timer = loop.call_later(LAST_WORDS_S, self._end_now)

    def _end_now(self) -> None:
        if self._leave_timer is not None:
            self._leave_timer.cancel()
            self._leave_timer = None
        if self.phase is Phase.READY:
            self.end_with(say.shutting_down(), Reason.DRAIN)

    def kill(self, words: say.Said | None = None) -> None:
        """End now, whatever runs; a query that runs is cancelled, as nobody waits for it."""
        if self.phase is Phase.CLOSED:
            return
        running = bool(self.expected.inflight)
        link = self.link if running else None
        words = words or say.shutting_down(running or self.waits_in_doubt())
        self.end_with(words, words.reason)
        if link is not None:
            self.route.cancel_on(link)

    def end_with(self, last_words: bytes, reason: Reason) -> None:
        """Tell the client why and end the session."""
        if self.phase is Phase.CLOSED:
            return
        if self.transport is not None:
            if not self.expected.mid_message and not self.transport.is_closing():
                self.transport.write(last_words)
            close_gently(self.transport)
        self.route.refused(self, reason, last_words)
        self._end(reason)

    def abort(self, reason: Reason) -> None:
        """The client has half a message: nothing more can be said to it."""
        if self.transport is not None:
            self.transport.abort()
        self._end(reason)

    def _client_gone(self, reason: Reason) -> None:
        """The client left. What it has in flight runs to its end, as on the server itself."""
        if self.phase in (Phase.CLOSED, Phase.LEAVING):
            return
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
        inflight = self.expected.inflight
        running = self.link is not None and inflight and self.phase is Phase.READY
        if self._leave_timer is not None:
            self._leave_timer.cancel()
            self._leave_timer = None
        if running and all(unit.complete and not unit.copying for unit in inflight):
            self.become(Phase.LEAVING)
            self._alert = True
            self._queue.clear()
            self._queued_bytes = 0
            self._stop_holding()
            assert self.link is not None and self.link.transport is not None
            self.link.transport.resume_reading()
            loop = asyncio.get_running_loop()
            self._leave_timer = loop.call_later(DRAIN_S, self._give_up)
            return
        link = self.link
        self._end(reason)
        if running and link is not None:
            self.route.cancel_on(link)  # nobody can finish what it runs

    def _give_up(self) -> None:
        """The last unit takes too long: cancel it, as nobody waits for it, and let the link go."""
        self._leave_timer = None
        if self.phase is Phase.LEAVING and self.link is not None:
            self.route.cancel_on(self.link)
            self._end(Reason.CLIENT_CLOSED)

    def _give_back(self) -> None:
        self._end(Reason.CLIENT_CLOSED)

    def _end(self, reason: Reason) -> None:
        """Close the session and give its link back, or close that too if work is on it."""
        link, self.link = self.link, None
        self._stop_holding()
        if self._leave_timer is not None:
            self._leave_timer.cancel()
        if self._attaching is not None and self._attaching is not asyncio.current_task():
            self._attaching.cancel()
        if link is not None:
            broken = self.expected.mid_message
            busy = broken or self.expected.inflight or link.phase is not LinkPhase.ATTACHED
            if busy or self.gatherer.in_unit:
                link.close(reason)
                self.pool.forget(link)
            else:
                assert link.transport is not None
                link.transport.resume_reading()
                self._release(link)
        self._finish(reason)

    def _release(self, link: Link) -> None:
        """The link goes back to its pool, unless it holds what no cleaning takes away."""
        if self.state.retire:
            link.close(Reason.LINK_UNCLEAN)
            self.pool.forget(link)
        else:
            link.keep_rest(self.expected.take_rest())
            self.pool.release(link, cleaning(self.state, self.expected.status))
