"""A client with a link of its own, for as long as it has state on it.

`ExclusiveLink` is the connection, `ExclusiveSession` the client's time with it: commands go out as
they come, `ExclusiveState` (protocol/expected.py) keeps the books, and when nothing is owed and
nothing is held the link goes back to the pool. When the link dies the session says what it must
and, if something is left to restore, moves to another link without the client noticing.
"""

from typing import TYPE_CHECKING

from proxy.core.errors import ProxyError, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.redis.protocol import say
from proxy.redis.protocol.commands import CACHEABLE, EFFECTS
from proxy.redis.protocol.expected import ExclusiveState, Expected, LossTerms, Sort
from proxy.redis.protocol.login import LinkIdentity, hello_reply
from proxy.redis.protocol.restore import introduce, restore
from proxy.redis.runtime.batch import Batch
from proxy.redis.runtime.blocking import block_s, with_remaining
from proxy.redis.runtime.guard import Guard
from proxy.redis.runtime.options import Replay, RouteOptions
from proxy.redis.runtime.upstream import UpstreamLink

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.pool import ExclusivePool

_PING = b"*1\r\n$4\r\nPING\r\n"
_WAITS = (Sort.SUBSCRIPTION, Sort.BLOCKING)


class ExclusiveLink(UpstreamLink):
    """A link for one owner at a time; `owner` None: parked, being reset, or on its way out."""

    def __init__(self, identity: LinkIdentity, pool: "ExclusivePool") -> None:
        super().__init__(identity)
        self.owner: ExclusiveSession | None = None
        self.checked_s = 0.0
        self._pool = pool
        self._forgotten = False
        self._partial: list[bytes] = []
        self._partial_bytes = 0
        self.streaming = False

    @property
    def reply_in_progress(self) -> bool:
        """Part of a reply has arrived."""
        return self._partial_bytes > 0 or self.streaming

    @property
    def at_boundary(self) -> bool:
        """Nothing has arrived of which the rest is still to come."""
        return not (self.reply_in_progress or self.scanner.carry)

    def frames_received(self, chunk: bytes, ends: list[int]) -> None:
        owner = self.owner
        if owner is None:
            self.abort(Reason.LINK_UNCLEAN, "the upstream spoke without being asked")
            return
        if self._partial and ends:
            shift = self._partial_bytes
            self._partial.append(chunk)
            chunk = b"".join(self._partial)
            self._partial, self._partial_bytes = [], 0
            ends = [end + shift for end in ends]
        start = 0
        for end in ends:
            if self.streaming:
                self.streaming = False
                owner.stream_ended(chunk[start:end])
            else:
                owner.frame(chunk[start:end])
            start = end
        rest = chunk[start : len(chunk) - len(self.scanner.carry)]
        if rest:
            self._keep(rest, owner)
        owner.frames_done()

    def _keep(self, part: bytes, owner: "ExclusiveSession") -> None:
        if self.streaming:
            owner.stream(part)
            return
        self._partial.append(part)
        self._partial_bytes += len(part)
        if self._partial_bytes > owner.reply_hold_bytes:
            self.streaming = True
            owner.stream(b"".join(self._partial))
            self._partial, self._partial_bytes = [], 0

    def link_lost(self, unsent_bytes: int) -> None:
        self.forget()
        owner, self.owner = self.owner, None
        if owner is not None:
            owner.link_lost(self, unsent_bytes)

    def forget(self) -> None:
        """Gives its place in the pool free, once."""
        if not self._forgotten:
            self._forgotten = True
            self._pool.forgotten()


class ExclusiveSession:
    """A client's time on an exclusive link."""

    def __init__(self, client: "ClientConnection") -> None:
        self.client = client
        self.state = ExclusiveState()
        self.link: ExclusiveLink | None = None
        self.reply_hold_bytes = client.route.options.limits.reply_hold_bytes
        self._loop = client.route.loop
        self.heard_s = 0.0
        self._stream_head = b""
        self._stream_shown = False
        self._queue_guard: Guard | None = None  # of the writes queued since MULTI
        self._moving: list[Expected] = []  # what waits for another link

    @property
    def _options(self) -> RouteOptions:
        return self.client.route.options

    # -- beginning ---------------------------------------------------------------------------

    def begin(self, data: bytes, args: list[bytes]) -> None:
        """Takes a link and sends the command that needs it; waits for one, if none is ready."""
        client = self.client
        client.lane_for(bulk=False)  # enters the partition, whose cache has to hear of writes
        link = client.route.pool.take_parked(self._identity())
        if link is not None:
            self._start(link, data, args)
        else:
            client.work(self._begin_later(data, args), "take an exclusive link")

    async def _begin_later(self, data: bytes, args: list[bytes]) -> None:
        client = self.client
        try:
            link = await client.route.pool.take(self._identity())
        except UpstreamRefused as error:
            client.refused(error)
        except ProxyError as error:
            client.route.counters.not_executed += 1
            client.not_executed(error)
        else:
            self._start(link, data, args)
            return
        if client.has_unread:
            # Sent behind it, and not knowing: nothing of it may run as if there was no transaction.
            name = args[0].upper()
            client.session.lost_transaction(multi=name == b"MULTI", watching=name == b"WATCH")

    def _start(self, link: ExclusiveLink, data: bytes, args: list[bytes]) -> None:
        client = self.client
        client.route.counters.exclusive_taken += 1
        self._attach(link)
        if client.closed:
            self.client_gone()
            return
        client.exclusive = self
        link.write(introduce(self.state, client.session))
        client.command_on_exclusive(data, args)

    def _identity(self) -> LinkIdentity:
        session = self.client.session
        return LinkIdentity(session.credential, session.db, session.resp)

    def _attach(self, link: ExclusiveLink) -> None:
        self.link = link
        link.owner = self
        self.heard_s = self._loop.time()

    # -- commands ----------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """The client is owed a reply."""
        return any(entry.sort is not Sort.OWN for entry in self.state.expected)

    @property
    def in_transaction(self) -> bool:
        """Between MULTI or WATCH and EXEC."""
        return self.state.multi or self.state.watching

    @property
    def is_blocked(self) -> bool:
        """A blocking command of the client is on its way, or nothing but the next link is waited
        for: neither is worth going on for a client that has closed its half."""
        if self.link is None:
            return all(entry.sort in _WAITS for entry in self._moving)
        return any(entry.sort is Sort.BLOCKING for entry in self.state.expected)

    def forward(self, data: bytes, args: list[bytes], *, blocking: bool = False) -> Expected:
        """Sends a command on the link and notes what is due for it."""
        client, now_s = self.client, self._loop.time()
        muted = client.session.mutes()
        entry = self.state.sent(data, args, muted=muted, blocking=blocking)
        if client.route.caches is not None:
            self._guard(entry, args)
        timeout_s = self._options.command_timeout_s
        if entry.sort in (Sort.BLOCKING, Sort.WAIT):
            blocked_s = block_s(args)
            entry.deadline_s = None if not blocked_s else now_s + blocked_s + timeout_s
        else:
            entry.deadline_s = now_s + timeout_s
        if self.link is not None:
            self.link.write(data)
        return entry

    def _guard(self, entry: Expected, args: list[bytes]) -> None:
        """Tells the caches of writes: when sent, when answered; queued ones with their EXEC.

        And of reads that they might have answered (W7): what this link says is at least as new as
        what they hold, and whoever has seen it must not see the old value after it.
        """
        if entry.sort is Sort.MULTI:
            self._queue_guard = Guard(self.client, any_database=True)
            return
        route = self.client.route.table.route(args[0])
        if entry.sort is Sort.QUEUED:
            if self._queue_guard is not None:
                self._queue_guard.note(route, args)
            return
        guard = self._queue_guard if entry.sort is Sort.EXEC else None
        if guard is None:
            if not route & (EFFECTS | CACHEABLE):
                return
            guard = Guard(self.client, any_database=True)
            guard.note(route, args)
        if entry.sort is Sort.BLOCKING or not (route & EFFECTS or entry.sort is Sort.EXEC):
            # No barrier for a wait that may take hours, nor for a read: what it took, or has seen
            # changed, is dropped when it is told.
            entry.release = guard.at_once
            return
        guard.begin()
        entry.release = guard.end

    def _unguarded(self) -> None:
        """MULTI was refused: what was to be guarded with its EXEC runs by itself."""
        if self.client.route.caches is not None:
            self.guard_from_now()

    def guard_from_now(self) -> None:
        """The route begins to cache: what was sent unguarded empties the caches when it ends."""
        caches = self.client.route.caches
        assert caches is not None
        for entry in self.state.expected:
            if entry.release is None:
                caches.flushing()
                entry.release = caches.flushed
        if self.state.multi:
            self._queue_guard = Guard(self.client, any_database=True)
            self._queue_guard.add_all()

    def answer(self, line: bytes) -> None:
        """A reply of the proxy's own, in its turn."""
        if self.client.session.mutes():
            return
        if not self.state.expected:
            self.client.deliver(line)
            return
        entry = Expected(Sort.PLAIN, b"", b"", canned=line)
        self.state.expected.append(entry)

    # -- replies -----------------------------------------------------------------------------

    def frame(self, frame: bytes) -> None:
        """A whole frame from the link."""
        expected = self.state.expected
        head = expected[0] if expected else None
        shown = self.state.received(frame, self.client.session)
        if head is not None and head.sort is Sort.MULTI and frame[:1] in b"-!":
            self._unguarded()
        if shown:
            if head is not None and head.name == b"HELLO" and frame[:1] in b"*%":
                frame = hello_reply(frame, self.client.id)
            self.client.deliver(frame)
        if frame.startswith(b"-READONLY "):
            self.client.route.roles.refused()
        if self.state.broken:  # it would miss messages, and not know
            self.client.close_for(Reason.RESTORE_FAILED)
            return
        if expected and expected[0].canned is not None:
            self._say_canned()

    def _say_canned(self) -> None:
        expected = self.state.expected
        while expected and expected[0].canned is not None:
            self.client.deliver(expected.popleft().canned or b"")

    def stream(self, part: bytes) -> None:
        """Part of a reply too large to be held back."""
        if not self._stream_head:
            self._stream_head = part[:64]
            head = self.state.expected[0] if self.state.expected else None
            self._stream_shown = head is None or not (head.muted or head.sort is Sort.OWN)
        if self._stream_shown:
            self.client.deliver(part)

    def stream_ended(self, part: bytes) -> None:
        """The end of it."""
        head, self._stream_head = self._stream_head, b""
        self.state.received(head, self.client.session)
        if self._stream_shown:
            self.client.deliver(part)
        self._say_canned()

    def frames_done(self) -> None:
        """All frames of a chunk have been dealt with."""
        if self.link is not None and self.state.is_clean:
            self.detach()
        self.client.flush()

    # -- ending ------------------------------------------------------------------------------

    def detach(self) -> None:
        """Gives the link back. Session state lives on in the client."""
        link, self.link = self.link, None
        if self.client.exclusive is self:
            self.client.exclusive = None
            self.client.wait()
        if link is not None:
            link.owner = None
            self.client.route.pool.give_back(link)

    def client_gone(self) -> None:
        """The client hung up. A wait must not go on in its name: it might take an element."""
        link, self.link = self.link, None
        if link is None:
            return
        link.owner = None
        for entry in self.state.expected:
            entry.let_go()
        if self.state.expected or self.state.opaque:
            link.abort(Reason.CLIENT_CLOSED, "the client hung up")
        else:
            self.client.route.pool.give_back(link)

    def pause(self, paused: bool) -> None:
        """The client reads slowly: so do we."""
        if self.link is not None and self.link.transport is not None:
            if paused:
                self.link.transport.pause_reading()
            else:
                self.link.transport.resume_reading()

    def sweep(self, now_s: float) -> None:
        """Deadlines and pings, once every tenth of a second."""
        link = self.link
        if link is None:
            return
        if link.stale is not None:
            self.leave_if_stale()
            return
        if link.heard:
            link.heard = False
            self.heard_s = now_s
        quiet_s = now_s - self.heard_s
        if self.state.expected:
            deadline_s = self.state.expected[0].deadline_s
            timeout_s = self._options.command_timeout_s
            if deadline_s is not None and now_s > deadline_s and quiet_s > timeout_s:
                link.abort(Reason.COMMAND_TIMEOUT, f"no reply within {timeout_s:g} s")
        elif quiet_s > self._options.ping_s and not (self.state.multi or self.state.opaque):
            self.heard_s = now_s
            self.state.own(_PING)
            self.state.expected[-1].deadline_s = now_s + self._options.command_timeout_s
            link.write(_PING)

    # -- leaving a link in peace -------------------------------------------------------------

    def leave_if_stale(self) -> None:
        """Goes over to another link if this one is to be left and nothing would be lost."""
        link, state = self.link, self.state
        if link is None or link.stale is None or state.expected:
            return
        redirects = any(b"REDIRECT" in kept for kept in state.kept.values())
        if state.multi or state.watching or state.opaque or redirects:
            return
        self.link, link.owner = None, None
        link.close()
        self._carry_on([])

    # -- loss --------------------------------------------------------------------------------

    def link_lost(self, link: ExclusiveLink, unsent_bytes: int) -> None:
        """Settles what was on the link; restores what can be restored."""
        self.link = None
        client = self.client
        client.route.link_lost("exclusive", link, len(self.state.expected), clients=1)
        if client.closed:
            for entry in self.state.expected:
                entry.let_go()
            return
        if link.streaming and self._stream_shown:
            client.close_for(Reason.RESULT_INTERRUPTED)
            return
        if self.state.opaque or any(b"REDIRECT" in kept for kept in self.state.kept.values()):
            client.close_for(Reason.STATE_NOT_RESTORABLE)
            return
        reads = self._options.replay is Replay.READS
        terms = LossTerms(unsent_bytes, link.reply_in_progress, reads)
        outcome = self.state.settle(client.route.table, link.lost_text, terms)
        client.session.lost_transaction(multi=self.state.multi, watching=self.state.watching)
        self.state.forget_transaction()
        lost = sum((entry.canned or b"").startswith(b"-UPSTREAMLOST") for entry in outcome)
        if lost:
            client.route.counters.unknown += lost
            client.route.answered(Reason.OUTCOME_UNKNOWN, say.LOST, lost)
        else:
            client.route.counters.absorbed += 1
        self._carry_on(outcome)

    def _carry_on(self, outcome: list[Expected]) -> None:
        client = self.client
        while outcome and outcome[0].canned is not None:
            client.deliver(outcome.pop(0).canned or b"")
        needs_link = any(entry.sort in _WAITS for entry in outcome)
        if self.state.lasts or needs_link:
            client.work(self._move(outcome), "move an exclusive session")
        else:
            client.exclusive = None
            client.wait()
            self._hand_over(outcome)
        client.flush()

    def _hand_over(self, outcome: list[Expected]) -> None:
        """What is left are reads: any link will do for these."""
        client = self.client
        client.lane = client.lane_for(bulk=False)
        for entry in outcome:
            batch = Batch(client.mute if entry.muted else client, entry.request, 1)
            batch.canned = entry.canned
            batch.attempts = entry.attempts - 1
            batch.release, entry.release = entry.release, None
            if entry.canned is None:
                client.route.resent(1)
            client.send(client.lane, batch)

    async def _move(self, outcome: list[Expected]) -> None:
        """Goes over to another link: at once, or for subscribers whenever there is one."""
        client, self._moving = self.client, outcome
        started_s = self._loop.time()
        while not client.closed:
            try:
                link = await client.route.pool.take(self._identity())
                break
            except UpstreamUnavailable as error:
                if not self.state.lasts:
                    self._give_up(outcome, str(error))
                    return
            except ProxyError:
                self._drop(outcome)
                client.close_for(Reason.LOGIN_REFUSED)
                return
        else:
            self._drop(outcome)
            return
        if client.closed:
            self._drop(outcome)
            client.route.pool.give_back(link)
            return
        self._attach(link)
        self._moving = []
        client.route.restored("exclusive", self._loop.time() - started_s, len(outcome), 0)
        link.write(restore(self.state, client.session))
        if self.state.subscribed:
            client.route.counters.resubscribed += 1
        for entry in outcome:
            self._send_again(entry, link)
        if b"TRACKING" in self.state.kept and client.session.resp == 3:
            client.deliver(say.NULL_INVALIDATE[3])  # what it has cached may have changed meanwhile

    def _send_again(self, entry: Expected, link: ExclusiveLink) -> None:
        now_s = self._loop.time()
        if entry.canned is None and entry.sort is Sort.BLOCKING:
            entry.request = with_remaining(entry, now_s, self._options.command_timeout_s)
        elif entry.canned is None:
            entry.deadline_s = now_s + self._options.command_timeout_s
        self.state.expected.append(entry)
        if entry.canned is None:
            self.client.route.resent(1)
            link.write(entry.request)

    def _drop(self, outcome: list[Expected]) -> None:
        """Nobody is left whom it could be told."""
        for entry in outcome:
            entry.let_go()

    def _give_up(self, outcome: list[Expected], why: str) -> None:
        client = self.client
        client.exclusive = None
        for entry in outcome:
            entry.let_go()
            if not entry.muted:
                if entry.canned is None:
                    client.route.answered(Reason.HOLD_TIMEOUT, say.DOWN)
                client.deliver(entry.canned or say.upstream_down(why))
