"""A client's connection: its commands sent the way each must travel, its replies in order.

Ordinary commands of one chunk become one batch on a shared lane. Whatever needs more (a session
command, another lane, an exclusive link) waits until everything before it has been answered, so the
order of a connection is kept without numbering replies.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from proxy.core.errors import LimitExceeded, PeerProtocolError, ProxyError, UpstreamRefused
from proxy.core.reasons import Reason
from proxy.net.listen import is_local
from proxy.redis.protocol import say
from proxy.redis.protocol.commands import BULK
from proxy.redis.protocol.login import protocol_error_line
from proxy.redis.protocol.session_state import Broken, ReplyMode, SessionState
from proxy.redis.runtime.batch import Batch
from proxy.redis.runtime.dispatch import handle_special, intervene
from proxy.redis.runtime.guard import Guard, guard_of
from proxy.redis.runtime.mute import Mute
from proxy.redis.runtime.options import AuthMethod
from proxy.redis.runtime.runs import (
    SAMPLE_EVERY,
    express,
    hits,
    is_cacheable,
    read_run,
    shared_run,
    timed,
)
from proxy.redis.runtime.stream import WRITE_HIGH_BYTES, ClientStream

if TYPE_CHECKING:
    from proxy.redis.runtime.counters import Counters
    from proxy.redis.runtime.exclusive import ExclusiveSession
    from proxy.redis.runtime.lane import Lane
    from proxy.redis.runtime.partition import Partition
    from proxy.redis.runtime.reads import CachedReads
    from proxy.redis.runtime.route import RedisRoute


class ClientConnection(ClientStream):
    """One client. Also the `ReplyTaker` of its batches."""

    def __init__(self, route: "RedisRoute") -> None:
        super().__init__(route.options.limits)
        self.route = route
        self.counters: Counters = route.counters
        self.clock_s = route.loop.time
        self.id = route.next_client_id()
        self.joined_s = self.clock_s()
        self.busy = False  # a task works on this client's current command
        self.inflight = 0  # batches on `lane`
        self.lane: Lane | None = None
        self.partition: Partition | None = None
        self.exclusive: ExclusiveSession | None = None
        self.reads: CachedReads | None = None  # None: not in a partition, or nothing is cached
        self.session = SessionState(None, route.options.db, authenticated=True)
        self.mute = Mute(self)  # takes the replies that are to be dropped
        self._inflight_bytes = 0
        self._waiting = False  # commands are left for when nothing is in flight
        self._pumping = False
        self._stalled: Batch | None = None
        self._last: bytes | None = None  # last words, once all before them is answered
        self._leaving = False  # ends by itself once nothing is left to do
        # Nothing is buffered, waits or is special: plain commands may take the express way. And
        # at rest: nothing is owed either, so that a hit may answer at once.
        self._quick = self._at_rest = False
        self.until_sample = self.id % SAMPLE_EVERY  # chunks until one is measured

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        options = self.route.options
        refusal = self.route.admit(self)
        trusts = options.auth is AuthMethod.TRUST
        if refusal is None and trusts and not (options.trust_anywhere or is_local(transport)):
            self.route.count_error(Reason.LOGIN_REFUSED)
            refusal = say.TRUST_IS_LOCAL
        if refusal is not None:
            self.transport.write(refusal)
            self.close_for(Reason.TOO_MANY_CLIENTS)
            return
        passes = options.auth is not AuthMethod.PASSWORD
        credential = options.credential if trusts else None
        self.session = SessionState(credential, options.db, authenticated=passes)

    def data_received(self, chunk: bytes) -> None:
        self.until_sample -= 1
        if self.until_sample < 0:
            timed(self, chunk)
            return
        if self._at_rest:
            assert self.reads is not None
            chunk = hits(self, self.reads.reader, chunk)
            if not chunk:
                return
        if self._quick:
            if express(self, chunk):
                self._at_rest = False
                return
            self._quick = self._at_rest = False
        if self._waiting or self._is_blocked:
            self.read_ahead(chunk)
            return
        whole: bytes | None = chunk
        if self.has_unread or self.buf:
            if not self.gather(chunk):
                if self.is_oversized:
                    self.route.count_error(Reason.LIMIT)
                    self.end(say.error("Protocol error: command too large"))
                    self.flush()
                return
            whole = None
        self._scan(whole)
        self.pump()
        self.flush()

    def eof_received(self) -> bool:
        # What was asked before the client's half-close is still answered, as Redis mostly does;
        # but a wait must not go on for somebody who is probably gone: it might take an element.
        if not (self._waiting or self._is_blocked):
            self.drop_unread()  # half a command: its rest will not come
        waits = self.exclusive is not None and self.exclusive.is_blocked
        if not waits and (self.has_unread or self._owes):
            self.leave()
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.transport = None
        if self.exclusive is not None:
            self.exclusive.client_gone()
        self._leave_partition()
        self.route.client_gone(self)
        self.drop_unread()
        self.buf = b""

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.exclusive is not None:
            self.exclusive.pause(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.exclusive is not None:
            self.exclusive.pause(False)
        if self._waiting and not self.closed:
            self.flush()

    # -- ReplyTaker ------------------------------------------------------------------------

    @property
    def whose(self) -> int:
        """The connection's number."""
        return self.id

    @property
    def waits_behind_others(self) -> bool:
        """Asked by a lane of the batch that has come last."""
        return self.inflight > 1

    def flush(self) -> None:
        """No more bytes in this turn: write them, go on with the next commands."""
        if self._quick:
            self.write_out()
            self._at_rest = self.reads is not None and not self.inflight
            return
        if self._waiting and not self.inflight and not self.busy:
            self.pump()
        self.write_out()
        if self._last is not None or (self._leaving and not self.has_unread):
            self._finish()
        elif not self.buf and self.partition is not None:
            self._rest()

    def _rest(self) -> None:
        reads, session = self.reads, self.session
        self._quick = (
            (reads is None or not reads.waiting)
            and not (self.busy or self._waiting or self.has_unread or self.closed)
            and self._stalled is None
            and self.exclusive is None
            and session.authenticated
            and session.reply_mode is ReplyMode.ON
            and session.broken is Broken.NO
        )
        self._at_rest = self._quick and reads is not None and not self.inflight

    def complete(self, batch: Batch, data: bytes) -> None:
        """The last reply of the batch."""
        self._out.append(data)
        if self._pauses or self._stalled is not None:
            self.finished(batch)
        else:
            self.inflight -= 1
            self._inflight_bytes -= len(batch.data)

    def finished(self, batch: Batch) -> None:
        """Every reply of the batch has been delivered."""
        self.inflight -= 1
        self._inflight_bytes -= len(batch.data)
        if self._stalled is batch:
            self._stalled = None
            self._waiting = True
        if self._pauses and self._inflight_bytes * 2 <= self.limits.client_inflight_bytes_max:
            self.resume("in flight")

    def replaced(self, batch: Batch, batches: list[Batch]) -> None:
        """These stand for the batch from now on."""
        if self._stalled is batch:
            self._stalled = batches[-1]
        self.inflight += len(batches) - 1
        self._inflight_bytes += sum(len(new.data) for new in batches) - len(batch.data)

    def stall(self, batch: Batch) -> bool:
        """Keeps further commands back until the batch has finished."""
        if self.inflight != 1:
            return False
        self._stalled = batch
        self._quick = self._at_rest = False
        return True

    def close_for(self, reason: Reason) -> None:
        """Closes the connection, for a reason that is reported."""
        if not self.closed:
            self._quick = self._at_rest = False
            self.route.client_closed_for(self, reason)
            super().close_for(reason)

    # -- the pump --------------------------------------------------------------------------

    @property
    def _is_blocked(self) -> bool:
        return self.busy or self._stalled is not None or self._last is not None

    def _scan(self, whole: bytes | None) -> None:
        partition = self.partition
        known = self.session.authenticated if partition is None else partition.authenticated
        self.scanner.authenticated = known
        try:
            self.scan(whole)
            self.counters.commands += len(self.marks) >> 2
        except PeerProtocolError as error:
            self._broke(error)

    def _broke(self, error: PeerProtocolError) -> None:
        self.counters.protocol_errors += 1
        self.route.count_error(Reason.CLIENT_PROTOCOL)
        self.end(protocol_error_line(error))

    def pump(self) -> None:
        """Deals with commands until there are none, or one has to wait."""
        if self._pumping or self.closed:
            return
        self._pumping = True
        self._waiting = False
        try:
            while self._go_on() and self.can_scan:
                self._scan(None)
                if not self.marks:
                    break
        except PeerProtocolError as error:
            self._broke(error)
        finally:
            self._pumping = False
        if self._last is not None:
            self.drop_unread()  # what comes behind QUIT or a protocol error is not heard

    def _go_on(self) -> bool:
        """Deals with the scanned commands. False if one of them waits."""
        while self.at < len(self.marks) and not (self._is_blocked or self.closed or self.is_slow):
            if self.exclusive is not None:
                if not self._exclusive_command():
                    break
            elif not self._shared_run():
                break
        if self.closed:
            return False
        if self.at < len(self.marks):
            self._waiting = True
            return False
        self.drop_consumed()
        return not self._is_blocked

    def _shared_run(self) -> bool:
        """Commands for shared lanes, or one special one. False: it waits for replies."""
        session = self.session
        plain = session.authenticated and session.reply_mode is ReplyMode.ON
        if plain and session.broken is Broken.NO:
            if self.partition is None:
                self._enter_partition()
            reads = self.reads if self.reads is not None and self.reads.is_usable else None
            if reads is not None and is_cacheable(self):
                return read_run(self, reads)
            if reads is not None and reads.waiting:
                return False
            at, kind, guard = shared_run(self, reads is not None)
            if at > self.at:
                return self._submit_run(at, kind == BULK, guard)
        if self.inflight or (self.reads is not None and self.reads.waiting):
            return False
        data, args = self.next_command()
        if args:
            handle_special(self, data, args)
        return True

    def _submit_run(self, at: int, bulk: bool, guard: Guard | None) -> bool:
        """Sends the commands up to the mark `at`. False if they need another lane first."""
        lane = self.lane
        if lane is None or not self.inflight:
            lane = self.lane = self.lane_for(bulk)
        elif bulk and not lane.bulk:
            return False
        marks, first, buf = self.marks, self.at, self.buf
        start, stop = marks[first], marks[at - 1]
        data = buf if start == 0 and stop == len(buf) else buf[start:stop]
        self.at = at
        self.send_guarded(lane, Batch(self, data, (at - first) >> 2), guard)
        return True

    def _exclusive_command(self) -> bool:
        """One command for the exclusive link. False: it waits until nothing is owed."""
        assert self.exclusive is not None
        before = self.at
        data, args = self.next_command()
        if args and not intervene(self.exclusive, data, args):
            self.at = before
            return False
        return True

    def command_on_exclusive(self, data: bytes, args: list[bytes]) -> None:
        """The command for which the exclusive link was taken; nothing is owed on it yet."""
        assert self.exclusive is not None
        intervene(self.exclusive, data, args)

    # -- sending ---------------------------------------------------------------------------

    def send(self, lane: "Lane", batch: Batch) -> None:
        """Puts a batch of this client on a lane."""
        self.inflight += 1
        self._inflight_bytes += len(batch.data)
        if self._inflight_bytes > self.limits.client_inflight_bytes_max:
            self.pause("in flight")
        if batch.canned is None:
            lane.submit(batch)
        else:
            lane.answer(batch)

    def send_guarded(self, lane: "Lane", batch: Batch, guard: Guard | None) -> None:
        """As `send`; the caches hear of the batch's writes."""
        if guard is not None:
            guard.begin()
            batch.release = guard.end
        self.send(lane, batch)

    def one_batch(self, data: bytes, args: list[bytes], *, bulk: bool) -> None:
        """Sends one command by itself, its reply dropped if the client wants none."""
        self.lane = self.lane_for(bulk)
        taker = self.mute if self.session.mutes() else self
        self.send_guarded(self.lane, Batch(taker, data, 1), guard_of(self, args))

    def say(self, line: bytes) -> None:
        """A reply of the proxy's own, unless the client wants none."""
        if not self.session.mutes():
            self.deliver(line)

    def refused(self, error: UpstreamRefused) -> None:
        """The upstream's own refusal, or ours in its place."""
        if error.wire:
            self.say(error.wire)
        else:
            self.not_executed(error)

    def not_executed(self, error: ProxyError) -> None:
        """Tells the client that its command certainly was not executed, and why."""
        self.route.answered(error.reason, say.DOWN)
        self.say(say.upstream_down(str(error)))

    def fence(self) -> None:
        """W4: this client wrote keys nobody knows; its hits wait for the tracking link."""
        if self.partition is None and not self.closed:
            self._enter_partition()  # it has gone over to another database on a link of its own
        if self.reads is not None and not self.reads.closed:
            self.reads.tracker.write(self.reads.reader.fence(self.route.loop.time()))

    # -- waiting ---------------------------------------------------------------------------

    def hold_on(self) -> None:
        """Commands wait until `go_on`."""
        self.busy = True

    def go_on(self) -> None:
        """Undoes `hold_on`."""
        self.busy = False
        self._waiting = True
        if not self.closed:
            self.flush()

    def wait(self) -> None:
        """What is left to do goes on at the next flush."""
        self._waiting = True

    def work(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Runs a task for the current command; commands behind it wait for its end."""
        self.busy = True
        try:
            self.route.tasks.start(self._work(coroutine), name)
        except LimitExceeded as error:
            coroutine.close()
            self.busy = False
            self.not_executed(error)

    async def _work(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        finally:
            self.go_on()

    # -- where the client belongs ------------------------------------------------------------

    def lane_for(self, bulk: bool) -> "Lane":
        """The lane of this client's user, database and version."""
        if self.partition is None:
            self._enter_partition()
        assert self.partition is not None
        return self.partition.lane(self.session.resp, bulk)

    def _enter_partition(self) -> None:
        session = self.session
        self.partition = self.route.partition(session.credential, session.db)
        self.reads = self.partition.enter(self)

    def begin_caching(self) -> None:
        """The route has begun to cache."""
        if self.partition is not None and self.reads is None:
            self.reads = self.partition.reads(self)
        if self.exclusive is not None:
            self.exclusive.guard_from_now()

    def moved(self) -> None:
        """User, database or version have changed: the next command takes another lane."""
        self.lane = None
        self._leave_partition()

    def _leave_partition(self) -> None:
        partition, self.partition = self.partition, None
        if self.reads is not None:
            self.reads.close()
            self.reads = None
        if partition is not None:
            partition.leave()

    # -- ending ----------------------------------------------------------------------------

    def end(self, line: bytes) -> None:
        """Says `line` once everything before it is answered, and hangs up."""
        if self._last is None:
            self._last = line
            self._quick = self._at_rest = False
            self.pause("ending")

    def leave(self) -> None:
        """Reads no more, and hangs up once what has been read is answered."""
        self._leaving = True
        self._quick = self._at_rest = False
        self.pause("ending")

    @property
    def may_leave(self) -> bool:
        """It can be told to leave: nothing that its next commands belong to would be lost."""
        if self._leaving or self._last is not None or self.closed:
            return False
        return self.exclusive is None or not self.exclusive.in_transaction

    @property
    def _owes(self) -> bool:
        waits = self.reads is not None and self.reads.waiting > 0
        owed = self.exclusive is not None and self.exclusive.owes
        return bool(self.inflight or self.busy or waits or owed)

    def _finish(self) -> None:
        if self._owes:
            return
        if self._last:
            self.deliver(self._last)
        self.close_for(Reason.CLIENT_CLOSED)
