"""A client's connection: its bytes cut into commands, each sent the way it must travel.

Ordinary commands of one chunk become one batch on a shared lane. Whatever needs more (a session
command, another lane, an exclusive link) waits until everything before it has been answered, so
the order of a connection is kept without numbering replies. See `docs` in ARCHITECTURE.md.
"""

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, cast

from proxy.core.errors import LimitExceeded, PeerProtocolError
from proxy.core.reasons import Reason
from proxy.net.listen import is_local
from proxy.redis.protocol import say
from proxy.redis.protocol.commands import (
    BULK,
    CACHEABLE,
    DATA,
    EFFECTS,
    KIND_MASK,
    MAYBE_BLOCKING,
    ONE_KEY,
)
from proxy.redis.protocol.framing import EMPTY, INLINE, CommandScanner
from proxy.redis.protocol.inline import split_inline
from proxy.redis.protocol.login import protocol_error_line
from proxy.redis.protocol.session_state import Broken, ReplyMode, SessionState
from proxy.redis.protocol.values import encode_command, first_arg, split_args
from proxy.redis.runtime.batch import Batch
from proxy.redis.runtime.blocking import is_blocking
from proxy.redis.runtime.dispatch import handle_special, intervene
from proxy.redis.runtime.guard import Guard
from proxy.redis.runtime.options import AuthMethod

if TYPE_CHECKING:
    from proxy.redis.runtime.exclusive import ExclusiveSession
    from proxy.redis.runtime.lane import Lane
    from proxy.redis.runtime.partition import Partition
    from proxy.redis.runtime.reads import CachedReads
    from proxy.redis.runtime.route import RedisRoute

WRITE_HIGH_BYTES = 1024 * 1024
READ_AHEAD_BYTES_MAX = 256 * 1024  # read from a client while it has to wait


class _Mute:
    """Takes replies the client asked not to get (CLIENT REPLY OFF and SKIP)."""

    def __init__(self, client: "ClientConnection") -> None:
        self._client = client

    @property
    def closed(self) -> bool:
        return self._client.closed

    def deliver(self, data: bytes) -> None: ...

    def finished(self, batch: Batch) -> None:
        self._client.finished(batch)

    def flush(self) -> None:
        self._client.flush()

    def close_for(self, reason: Reason) -> None: ...

    def replaced(self, batch: Batch, batches: list[Batch]) -> None:
        self._client.replaced(batch, batches)

    def stall(self, batch: Batch) -> bool:
        return self._client.stall(batch)


class ClientConnection(asyncio.Protocol):
    """One client. Also the `ReplyTaker` of its batches."""

    def __init__(self, route: "RedisRoute") -> None:
        self.route = route
        self.id = route.next_client_id()
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.busy = False  # a task works on this client's current command
        self.inflight = 0  # batches on `lane`
        self.lane: Lane | None = None
        self.partition: Partition | None = None
        self.exclusive: ExclusiveSession | None = None
        self.reads: CachedReads | None = None  # None: not in a partition, or nothing is cached
        self.session = SessionState(None, route.options.db, authenticated=True)
        self._inflight_bytes = 0
        self._limits = route.options.limits
        self._scanner = CommandScanner()
        self._buf = b""
        self._marks: list[int] = []
        self._at = 0
        self._chunks: list[bytes] = []  # read, not yet scanned
        self._chunk_bytes = 0
        self._out: list[bytes] = []
        self.mute = _Mute(self)  # takes the replies that are to be dropped
        self._waiting = False  # commands are left for when nothing is in flight
        self._pumping = False
        self._stalled: Batch | None = None
        self._last: bytes | None = None  # last words, once all is answered
        self._pauses: set[str] = set()
        self._slow = False
        self._at_rest = False  # nothing buffered, owed or special: a hit may answer at once
        self._clock = route.loop.time

    # -- asyncio.Protocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        options = self.route.options
        refusal = self.route.admit(self)
        trusts = options.auth is AuthMethod.TRUST
        if refusal is None and trusts and not (options.trust_anywhere or is_local(transport)):
            refusal = say.TRUST_IS_LOCAL
        if refusal is not None:
            self.transport.write(refusal)
            self.close_for(Reason.TOO_MANY_CLIENTS)
            return
        passes = options.auth is not AuthMethod.PASSWORD
        credential = options.credential if trusts else None
        self.session = SessionState(credential, options.db, authenticated=passes)

    def data_received(self, chunk: bytes) -> None:
        if self._at_rest:
            chunk = self._hits(chunk)
            if not chunk:
                return
            self._at_rest = False
        if self._waiting or self.busy or self._stalled is not None or self._last is not None:
            self._read_ahead(chunk)
            return
        if self._chunks or self._buf:
            self._chunks.append(chunk)
            self._chunk_bytes += len(chunk)
            if len(self._buf) + self._chunk_bytes < self._scanner.need:
                if self._chunk_bytes > self._limits.command_bytes_max:
                    self._end(say.error("Protocol error: command too large"))
                return
            chunk = self._joined()
        self._scan(chunk)
        self.flush()

    def eof_received(self) -> bool:
        # What was asked before the client's half-close is still answered, as Redis mostly does.
        waits = self.reads is not None and self.reads.waiting
        if self._marks or self.inflight or self.busy or waits:
            self._end(b"")
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self.transport = None
        if self.exclusive is not None:
            self.exclusive.client_gone()
        self._leave_partition()
        self.route.client_gone(self)
        self._chunks, self._buf, self._marks = [], b"", []

    def pause_writing(self) -> None:
        self._slow = True
        self.pause("slow reader")
        if self.exclusive is not None:
            self.exclusive.pause(True)

    def resume_writing(self) -> None:
        self._slow = False
        self.resume("slow reader")
        if self.exclusive is not None:
            self.exclusive.pause(False)

    # -- ReplyTaker ------------------------------------------------------------------------

    def deliver(self, data: bytes) -> None:
        self._out.append(data)

    def flush(self) -> None:
        if self._waiting and not self.inflight and not self.busy:
            self.pump()
        out = self._out
        if out:
            data = out[0] if len(out) == 1 else b"".join(out)
            self._out = []
            if self.transport is not None:
                self.transport.write(data)
                if self._slow:
                    self._check_slow()
        if self._last is not None and not self._marks:
            self._finish()
        elif not self._buf and not self.inflight:
            self._rest()

    def _rest(self) -> None:
        reads, session = self.reads, self.session
        self._at_rest = (
            reads is not None
            and not reads.waiting
            and not (self.busy or self._waiting or self._chunks or self.closed)
            and self.exclusive is None
            and session.reply_mode is ReplyMode.ON
            and session.broken is Broken.NO
        )

    def finished(self, batch: Batch) -> None:
        self.inflight -= 1
        self._inflight_bytes -= len(batch.data)
        if self._stalled is batch:
            self._stalled = None
            self._waiting = True
        if self._pauses and self._inflight_bytes * 2 <= self._limits.client_inflight_bytes_max:
            self.resume("in flight")

    def replaced(self, batch: Batch, batches: list[Batch]) -> None:
        self.inflight += len(batches) - 1
        self._inflight_bytes += sum(len(new.data) for new in batches) - len(batch.data)

    def stall(self, batch: Batch) -> bool:
        if self.inflight != 1:
            return False
        self._stalled = batch
        return True

    def close_for(self, reason: Reason) -> None:
        if self.closed:
            return
        self.closed = True
        self.route.client_closed_for(self, reason)
        if self.transport is not None:
            if self._out:
                self.transport.write(b"".join(self._out))
                self._out = []
            if reason is Reason.CLIENT_TOO_SLOW:
                self.transport.abort()
            else:
                self.transport.close()

    def _hits(self, chunk: bytes) -> bytes:
        """Answers what is cached from the start of the chunk on; what is left of it.

        Nothing is parsed: a piece that equals a cached request is one, wherever it was cut, as no
        whole command is the beginning of another. So the cuts may be guesses.
        """
        assert self.reads is not None
        hit, now_s = self.reads.reader.hit, self._clock()
        reply = hit(chunk, now_s)
        transport = self.transport
        assert transport is not None
        if reply is not None:
            transport.write(reply)
            return b""
        position = 0
        replies: list[bytes] = []
        while True:
            cut = chunk.find(b"\r\n*", position) + 2
            piece = chunk[position:cut] if cut > 1 else chunk[position:]
            reply = hit(piece, now_s) if piece else None
            if reply is None:
                break
            replies.append(reply)
            position += len(piece)
        if replies:
            transport.write(b"".join(replies))
            return chunk[position:]
        return chunk

    # -- reading ---------------------------------------------------------------------------

    def _read_ahead(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._chunk_bytes += len(chunk)
        if self._chunk_bytes > READ_AHEAD_BYTES_MAX:
            self.pause("waiting")

    def _joined(self) -> bytes:
        chunk = b"".join([self._buf, *self._chunks])
        self._chunks, self._chunk_bytes, self._buf = [], 0, b""
        return chunk

    def _scan(self, buf: bytes) -> None:
        try:
            marks = self._scanner.feed(buf)
        except PeerProtocolError as error:
            self.route.counters.protocol_errors += 1
            self._end(protocol_error_line(error))
            return
        self._buf = buf
        if marks:
            self._marks = marks
            self._at = 0
            self.pump()

    def _drop_consumed(self) -> None:
        """All marks are dealt with: keep only the bytes behind them."""
        consumed = self._scanner.start
        if consumed:
            self._buf = self._buf[consumed:]
            self._scanner.rebase(consumed)
        self._marks = []
        self._at = 0

    # -- the pump --------------------------------------------------------------------------

    def pump(self) -> None:
        """Deals with commands until there are none, or one has to wait."""
        if self._pumping or self.closed:
            return
        self._pumping = True
        self._waiting = False
        try:
            while self._go_on() and (self._chunks or len(self._buf) >= self._scanner.need):
                self.resume("waiting")
                buf = self._joined()
                self._buf = buf
                self._marks = self._scanner.feed(buf)
                self._at = 0
                if not self._marks:
                    break
        except PeerProtocolError as error:
            self.route.counters.protocol_errors += 1
            self._drop_consumed()
            self._end(protocol_error_line(error))
        finally:
            self._pumping = False

    def _go_on(self) -> bool:
        """Deals with the scanned commands. False if one of them waits."""
        while self._at < len(self._marks):
            if self._last is not None or self.busy or self._stalled is not None:
                break
            if self.exclusive is not None:
                if not self._exclusive_command():
                    break
            elif not self._shared_run():
                break
        if self.closed:
            return False
        if self._at < len(self._marks):
            self._waiting = True
            return False
        self._drop_consumed()
        return not self.busy and self._last is None and self._stalled is None

    def _shared_run(self) -> bool:
        """Batches ordinary commands. False if what follows has to wait for the replies."""
        session = self.session
        plain = session.authenticated and session.reply_mode is ReplyMode.ON
        if plain and session.broken is Broken.NO:
            if self.partition is None:
                self._enter_partition()
            reads = self.reads if self.reads is not None and self.reads.is_usable else None
            if reads is not None and self._route_at(self._at) & CACHEABLE:
                return self._cached_run(reads)
            if reads is not None and reads.waiting:
                return False
            at, kind, guard = self._gather(reads is not None)
            if at > self._at:
                return self._submit_run(at, kind, guard)
        if self.inflight or (self.reads is not None and self.reads.waiting):
            return False
        self._special()
        return True

    def _route_at(self, at: int) -> int:
        """The route of the command at a mark; 0 for those without a name."""
        name_start = self._marks[at + 1]
        if name_start < 0:
            return 0
        return self.route.table.route(self._buf[name_start : self._marks[at + 2]])

    def _cached_run(self, reads: "CachedReads") -> bool:
        """Reads through the cache, up to the first other command. False: one has to wait."""
        marks, buf, at = self._marks, self._buf, self._at
        table = self.route.table
        while at < len(marks) and marks[at + 1] >= 0:
            if not table.route(buf[marks[at + 1] : marks[at + 2]]) & CACHEABLE:
                break
            if not reads.read(buf[marks[at] : marks[at + 3]]):
                self._at = at
                return False
            at += 4
        self._at = at
        return True

    def _gather(self, cached: bool) -> tuple[int, int, Guard | None]:
        """(mark where the run ends, DATA or BULK, guard of its writes) of the run at `_at`."""
        marks, buf, at = self._marks, self._buf, self._at
        table = self.route.table
        routes, guards = table.routes, self.route.caches is not None
        bulk_from = self._limits.bulk_command_bytes
        first, end, kind = at, len(marks), DATA
        guard: Guard | None = None
        while at < end and marks[at + 1] >= 0:
            name_end, stop = marks[at + 2], marks[at + 3]
            name = buf[marks[at + 1] : name_end]
            route = routes.get(name)
            if route is None:
                route = table.route(name)
            this = route & KIND_MASK
            if this > BULK:
                if this != MAYBE_BLOCKING or is_blocking(split_args(buf, marks[at], stop)):
                    break
                this = DATA
            if cached and route & CACHEABLE:
                break
            if this == BULK or stop - marks[at] > bulk_from:
                if at > first and kind == DATA:
                    break
                kind = BULK
            if guards and route & EFFECTS and stop > name_end + 2:
                guard = guard or Guard(self)
                if route & ONE_KEY and self.route.guards_simply:
                    guard.add_key(first_arg(buf, name_end))
                else:
                    guard.add(route, split_args(buf, marks[at], stop))
            at += 4
        return at, kind, guard

    def _submit_run(self, at: int, kind: int, guard: Guard | None) -> bool:
        """Sends the commands up to the mark `at`. False if they need another lane first."""
        lane = self.lane
        if lane is None or not self.inflight:
            lane = self.lane = self.lane_for(kind == BULK)
        elif kind == BULK and not lane.bulk:
            return False
        marks, first = self._marks, self._at
        start, stop = marks[first], marks[at - 1]
        buf = self._buf
        data = buf if start == 0 and stop == len(buf) else buf[start:stop]
        self._at = at
        batch = Batch(self, data, (at - first) >> 2)
        if guard is not None:
            guard.begin()
            batch.release = guard.end
        self.send(lane, batch)
        return True

    def send(self, lane: "Lane", batch: Batch) -> None:
        """Puts a batch of this client on a lane."""
        self.inflight += 1
        self._inflight_bytes += len(batch.data)
        if self._inflight_bytes > self._limits.client_inflight_bytes_max:
            self.pause("in flight")
        lane.submit(batch)

    def _special(self) -> None:
        """The one command at `_at`, which is more than ordinary. Nothing is in flight."""
        data, args = self.next_command()
        if args:
            handle_special(self, data, args)

    def next_command(self) -> tuple[bytes, list[bytes]]:
        """Takes the command at `_at`: its bytes (array form) and arguments; none if it is empty."""
        marks, at = self._marks, self._at
        self._at = at + 4
        start, name_start, end = marks[at], marks[at + 1], marks[at + 3]
        if name_start == EMPTY:
            return b"", []
        if name_start == INLINE:
            args = split_inline(self._buf[start:end])
            return encode_command(*args), args
        data = self._buf[start:end]
        return data, split_args(data, 0, len(data))

    def _exclusive_command(self) -> bool:
        """One command for the exclusive link. False: it waits until nothing is owed."""
        assert self.exclusive is not None
        before = self._at
        data, args = self.next_command()
        if args and not intervene(self.exclusive, data, args):
            self._at = before
            return False
        return True

    def command_on_exclusive(self, data: bytes, args: list[bytes]) -> None:
        """The command for which the exclusive link was taken; nothing is owed on it yet."""
        assert self.exclusive is not None
        intervene(self.exclusive, data, args)

    # -- for dispatch and the exclusive session ---------------------------------------------

    def say(self, line: bytes) -> None:
        """A reply of the proxy's own, unless the client wants none."""
        if not self.session.mutes():
            self.deliver(line)

    def one_batch(self, data: bytes, args: list[bytes], *, bulk: bool) -> None:
        """Sends one command by itself, its reply dropped if the client wants none."""
        self.lane = self.lane_for(bulk)
        taker = self.mute if self.session.mutes() else self
        batch = Batch(taker, data, 1)
        guard = self.guard_of(args)
        if guard is not None:
            guard.begin()
            batch.release = guard.end
        self.send(self.lane, batch)

    def guard_of(self, args: list[bytes]) -> Guard | None:
        """The guard of one command, if it may change something that is cached."""
        route = self.route.table.route(args[0])
        if self.route.caches is None or not route & EFFECTS:
            return None
        guard = Guard(self)
        guard.add(route, args)
        return guard

    def fence(self) -> None:
        """W4: this client wrote keys nobody knows; its hits wait for the tracking link."""
        if self.reads is not None and not self.reads.closed:
            self.reads.tracker.write(self.reads.reader.fence(self._clock()))

    def hold_on(self) -> None:
        """Commands wait until `go_on`."""
        self.busy = True

    def go_on(self) -> None:
        """Undoes `hold_on`."""
        self.busy = False
        self._waiting = True
        if not self.closed:
            self.flush()

    def work(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        """Runs a task for the current command; commands behind it wait for its end."""
        self.busy = True
        try:
            self.route.tasks.start(self._work(coroutine), name)
        except LimitExceeded as error:
            self.busy = False
            self.say(say.upstream_down(str(error)))

    async def _work(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        finally:
            self.go_on()

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

    def wait(self) -> None:
        """What is left to do goes on at the next flush."""
        self._waiting = True

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

    def end(self, line: bytes) -> None:
        """Says `line` once everything before it is answered, and hangs up."""
        self._end(line)

    # -- ends and pauses -------------------------------------------------------------------

    def _end(self, line: bytes) -> None:
        if self._last is None:
            self._last = line
            self._at_rest = False
            self.pause("ending")

    def _finish(self) -> None:
        if self.reads is not None and self.reads.waiting:
            return
        if self.inflight or self.busy or (self.exclusive is not None and self.exclusive.owes):
            return
        if self.transport is not None and self._last:
            self.transport.write(self._last)
        self.close_for(Reason.CLIENT_CLOSED)

    def _check_slow(self) -> None:
        transport = self.transport
        if transport is not None:
            waiting = transport.get_write_buffer_size()
            if waiting > self._limits.client_output_bytes_max:
                self.close_for(Reason.CLIENT_TOO_SLOW)

    def pause(self, reason: str) -> None:
        """Stops reading from the client for one more reason."""
        if not self._pauses and self.transport is not None and not self.closed:
            self.transport.pause_reading()
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        """Withdraws a reason; reading goes on when none is left."""
        if reason in self._pauses:
            self._pauses.discard(reason)
            if not self._pauses and self.transport is not None and not self.closed:
                self.transport.resume_reading()

