"""A lane: one shared link at a time between many clients and the upstream, and its queue.

A lane belongs to one partition (user, database), one RESP version and one weight (data or bulk).
It dials when somebody needs it, dials again when its link is lost, and knows what becomes of the
commands that were on it. What is submitted in one turn of the loop leaves in one write.
"""

import asyncio
from typing import TYPE_CHECKING

from proxy.core.errors import LimitExceeded, ProxyError, UpstreamRefused, UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.redis.protocol import say
from proxy.redis.protocol.aftermath import Lost, Piece, settle
from proxy.redis.protocol.framing import CommandScanner
from proxy.redis.protocol.login import Greeting, LinkIdentity
from proxy.redis.protocol.verdict import Kind, Transient, transient
from proxy.redis.runtime.batch import NEVER_S, Batch
from proxy.redis.runtime.hold import HoldQueue, answer_down
from proxy.redis.runtime.link import DataLink
from proxy.redis.runtime.options import Replay, RouteOptions
from proxy.redis.runtime.upstream import open_link

if TYPE_CHECKING:
    from proxy.redis.runtime.partition import Partition

RETRY_AFTER_S = 0.1  # a command answered by LOADING and the like
PING = b"*1\r\n$4\r\nPING\r\n"


class _Nobody:
    """Takes the replies to the proxy's own pings."""

    closed = False
    whose = 0
    waits_behind_others = False

    def deliver(self, data: bytes) -> None: ...
    def finished(self, batch: Batch) -> None: ...
    def complete(self, batch: Batch, data: bytes) -> None: ...
    def flush(self) -> None: ...
    def close_for(self, reason: Reason) -> None: ...
    def replaced(self, batch: Batch, batches: list[Batch]) -> None: ...

    def stall(self, batch: Batch) -> bool:
        return False


NOBODY = _Nobody()


class Lane:
    """See the module."""

    def __init__(
        self, partition: "Partition", identity: LinkIdentity, label: str, *, bulk: bool
    ) -> None:
        self.route = route = partition.route
        self._partition = partition
        self.bulk = bulk
        self.identity = identity
        self.label = label
        self.link: DataLink | None = None
        self.greeting: Greeting | None = None
        self.clients = 0  # that may send here at any moment
        limits = route.options.limits
        self.queue = HoldQueue(limits.hold_commands_max, limits.hold_bytes_max)
        self._inflight_commands_max = limits.link_inflight_commands_max
        self._inflight_bytes_max = limits.link_inflight_bytes_max
        self._loop = route.loop
        self._scheduled = False
        self._dialling: asyncio.Task[None] | None = None
        self._ready: list[asyncio.Future[Greeting]] = []
        self._backoff = route.options.backoff()
        self._refused_batches: list[Batch] = []  # told at the end of the turn
        self.heard_s = 0.0  # the last reply, as of the last sweep
        self._used_s = 0.0
        self._lost_s: float | None = None  # since when clients miss the link
        self._told: set[int] = set()  # ... those of them who were answered an error for it
        self.why_away = "the upstream is not connected"

    @property
    def options(self) -> RouteOptions:
        """The route's, as of now."""
        return self.route.options

    # -- the hot path ------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Takes a batch; it is written at the end of this turn, or when there is a link."""
        link = self.link
        if (
            link is not None
            and not self.queue.commands
            and link.inflight_commands < self._inflight_commands_max
            and link.inflight_bytes < self._inflight_bytes_max
            and not link.write_paused
        ):
            link.put(batch)
            if not self._scheduled:
                self._scheduled = True
                self._loop.call_soon(self._flush)
            return
        if link is None:
            if self.queue.is_full:
                self._refuse(batch)
                return
            batch.due_s = self._loop.time() + self.options.hold_s
        self.queue.append(batch)
        self.wake()

    def answer(self, batch: Batch) -> None:
        """Takes a canned batch: a reply of the proxy's own, said when its turn comes."""
        assert batch.canned is not None
        batch.due_s = NEVER_S if self.link is not None else self._loop.time() + self.options.hold_s
        self.queue.append(batch)
        self.wake()

    def _refuse(self, batch: Batch) -> None:
        """The hold queue is full. Never told at once: the caller is in the middle of its work, and
        what the same connection has in the queue is answered first.
        """
        self.route.counters.hold_refused += batch.left
        self._count_down(batch, Reason.HOLD_FULL)
        batch.canned = say.upstream_down("the hold queue is full; try again later") * batch.left
        if batch.taker.waits_behind_others:
            self.answer(batch)
        else:
            self._refused_batches.append(batch)
            self.wake()

    def wake(self) -> None:
        """There may be room now for what is queued."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        refused, self._refused_batches = self._refused_batches, []
        for batch in refused:
            answer_down(batch, "")
        link = self.link
        if link is None:
            self._dial()
            return
        if link.has_unwritten:
            link.write_put(self._loop.time())
        if not self.queue.commands:
            return
        room = self._inflight_commands_max - link.inflight_commands
        space = self._inflight_bytes_max - link.inflight_bytes
        if link.write_paused or room <= 0 or space <= 0:
            self._leave_if_stale()
            return
        batches = self.queue.take(room, space)
        if batches:
            link.send(batches, self._loop.time())

    # -- dialling ----------------------------------------------------------------------------

    def ready(self) -> "asyncio.Future[Greeting]":
        """The greeting of the lane's link, once it is up. Fails with the ProxyError of the dial."""
        future: asyncio.Future[Greeting] = self._loop.create_future()
        if self.link is not None and self.greeting is not None:
            future.set_result(self.greeting)
        else:
            self._ready.append(future)
            self._dial()
        return future

    def _dial(self) -> None:
        if self._dialling is None and self.link is None and not self.route.gate.is_shut:
            try:
                self._dialling = self.route.tasks.start(self._connect(), f"dial {self.label}")
            except LimitExceeded as error:
                self._fail_waiting(error)

    @property
    def _needed(self) -> bool:
        self._ready = [future for future in self._ready if not future.done()]
        return bool(self.queue or self.clients or self._ready)

    async def _connect(self) -> None:
        """Dials until there is a link, a refusal, or nobody left who needs one."""
        try:
            while self._needed and self.link is None and not self.route.gate.is_shut:
                await asyncio.sleep(self._backoff.next_delay_s(self.route.rng))
                await self.route.dial_permit()
                try:
                    await self._connect_once()
                except UpstreamUnavailable as error:
                    if error.reason is not Reason.RECONNECT:
                        self.why_away = str(error)
                        self.route.dial_failed(self.label, error)
                except ProxyError as error:
                    self._refused(error)
                    return
        finally:
            self._dialling = None
            if self.link is None and self._lost_s is not None:
                self._lost_s = None
                self.route.lane_over(self.label)

    async def _connect_once(self) -> None:
        limit = self.options.limits.reply_hold_bytes
        link = await open_link(DataLink(self.identity, self, limit), self.route)
        self.link = link
        self._inflight_commands_max = self.options.limits.link_inflight_commands_max
        self.greeting = link.greeting
        self._partition.authenticated = link.greeting.authenticated
        self._backoff.reset()
        self.heard_s = self._used_s = self._loop.time()
        self.route.dial_succeeded(self.label, link)
        self._served_again()
        for future in self._ready:
            if not future.done():
                future.set_result(link.greeting)
        self._ready = []
        self.wake()

    def _served_again(self) -> None:
        """There is a link: how long who waited has waited, and who noticed the loss of the last."""
        now_s = self._loop.time()
        held_commands = 0
        for batch in self.queue:
            if batch.due_s != NEVER_S:
                held_commands += batch.left
                self.route.latency.wait.observe(now_s - batch.due_s + self.options.hold_s)
        if self._lost_s is not None:
            lost_s, self._lost_s = self._lost_s, None
            unseen = max(0, self.clients - len(self._told)) if not self.bulk else 0
            self.route.restored(self.label, now_s - lost_s, held_commands, unseen)
        self._told.clear()

    def _answer_down(self, batch: Batch, why: str, reason: Reason) -> None:
        """The batch was not executed: told, and counted unless that was done by then."""
        if batch.canned is None and batch.taker is not NOBODY:
            self._count_down(batch, reason)
            if batch.due_s != NEVER_S:
                waited_s = self._loop.time() - batch.due_s + self.options.hold_s
                self.route.latency.wait.observe(max(0.0, waited_s))
        answer_down(batch, why)

    def _count_down(self, batch: Batch, reason: Reason) -> None:
        self._told.add(batch.taker.whose)
        self.route.answered(reason, say.DOWN, batch.left)

    def _refused(self, error: ProxyError) -> None:
        """The upstream does not let us in; waiting does not help. Tell everybody who waits."""
        self.why_away = str(error)
        self._fail_waiting(error)
        self.route.events(
            "redis_login_refused", level="error", route=self.options.name, lane=self.label,
            reason=error.reason, error=str(error),
        )  # fmt: skip
        self.route.login_refused(self, error)
        for batch in self.queue.take(1 << 60, 1 << 60):
            self._answer_down(batch, str(error), error.reason)
            if isinstance(error, UpstreamRefused):
                batch.taker.close_for(Reason.LOGIN_REFUSED)

    def _fail_waiting(self, error: ProxyError) -> None:
        waiting, self._ready = self._ready, []
        for future in waiting:
            if not future.done():
                future.set_exception(error)

    # -- leaving a link in peace -------------------------------------------------------------

    def leave_link(self) -> None:
        """The link is stale: it is left as soon as nothing is in flight on it."""
        self._backoff.reset()
        self._inflight_commands_max = 0  # nothing more for this one
        self._leave_if_stale()

    def _leave_if_stale(self) -> None:
        link = self.link
        if link is None or link.stale is None or link.inflight:
            return
        self.link = None
        self.queue.set_due(self._loop.time() + self.options.hold_s)
        link.close()
        if self._needed:
            self._dial()

    def go_on(self) -> None:
        """The gate was opened: the time of what waits begins now."""
        self._backoff.reset()
        if self.link is None:
            self.queue.set_due(self._loop.time() + self.options.hold_s)
            if self._needed:
                self._dial()

    # -- loss --------------------------------------------------------------------------------

    def link_lost(self, link: DataLink, unsent_bytes: int) -> None:
        """Settles everything that was on the link, and sees to the next one."""
        self.queue.put_back(link.take_back())
        if link is not self.link:
            for batch in link.inflight:  # of a lane that was closed; else it owes nothing
                batch.let_go()
            return
        self.link = None
        now_s = self._loop.time()
        self.why_away = link.lost_text
        if self._lost_s is None:
            self._lost_s = now_s
        self.route.link_lost(self.label, link, len(link.inflight), clients=self.clients)
        replacements = self._settle(link, unsent_bytes)
        due_s = now_s + self.options.hold_s
        for batch in replacements:
            batch.due_s = due_s
        self.queue.put_back(replacements)
        self.queue.set_due(due_s)
        self._speak()
        if self._needed:
            self._dial()
        else:
            self._lost_s = None
            self.route.lane_over(self.label)

    def _settle(self, link: DataLink, unsent_bytes: int) -> list[Batch]:
        replacements: list[Batch] = []
        wrote: dict[int, bool] = {}
        head = link.inflight[0] if link.inflight else None
        for batch in reversed(link.inflight):
            unsent = min(unsent_bytes, len(batch.data))
            unsent_bytes -= unsent
            taker = batch.taker
            if taker.closed or taker is NOBODY:
                batch.let_go()
                continue
            if batch is head and link.streaming:
                batch.let_go()
                taker.close_for(Reason.RESULT_INTERRUPTED)
                if not taker.closed:  # it drops what it is told
                    taker.finished(batch)
                    self._loop.call_soon(taker.flush)
                continue
            if batch.canned is not None:
                replacements.append(batch)
                continue
            lost = Lost(
                batch.data, batch.total - batch.left, unsent,
                batch is head and link.reply_in_progress, batch.attempts,
                self.options.replay is Replay.READS,
            )  # fmt: skip
            pieces, may_have_run = settle(
                lost, self.route.table, link.lost_text, wrote.get(taker.whose, False)
            )
            wrote[taker.whose] = may_have_run
            replacements += reversed(self._replace(batch, pieces))
        replacements.reverse()
        return replacements

    def _replace(self, batch: Batch, pieces: list[Piece]) -> list[Batch]:
        batches: list[Batch] = []
        for piece in pieces:
            new = Batch(batch.taker, piece.data, piece.count)
            new.canned = piece.canned
            new.attempts = batch.attempts
            batches.append(new)
            if piece.canned is None:
                self.route.resent(piece.count)
            else:
                self._told.add(batch.taker.whose)
                self.route.counters.unknown += piece.count
                self.route.answered(Reason.OUTCOME_UNKNOWN, say.LOST, piece.count)
        batches[-1].release, batch.release = batch.release, None
        batch.taker.replaced(batch, batches)
        return batches

    def _speak(self) -> None:
        """Says at once what need not wait for a link."""
        for batch in self.queue.speakable():
            answer_down(batch, "")

    def unasked(self, link: DataLink) -> None:
        """The upstream said something nobody asked for; it is about to hang up, or is no Redis."""
        link.abort(Reason.UPSTREAM_PROTOCOL, "the upstream ended the link with an error")

    # -- replies that speak of the server's state -----------------------------------------------

    def intercepts(self, batch: Batch, frame: bytes) -> bool:
        """True if the error reply is not for the client: its command will be tried again."""
        code = frame[1 : frame.find(b" ")]
        if code not in _SUSPECT or batch.total != 1:
            if code == b"READONLY":
                self.route.roles.refused()
            return False
        marks = CommandScanner().feed(batch.data)
        reads = self.route.table.repeatable(batch.data[marks[1] : marks[2]])
        treatment = transient(code, Kind.READ if reads else Kind.WRITE)
        now_s = self._loop.time()
        if batch.due_s == NEVER_S:
            batch.due_s = now_s + self.options.hold_s
        if treatment is Transient.PASS or now_s >= batch.due_s or not batch.taker.stall(batch):
            return False
        if treatment is Transient.REDIAL and not self._rotate(batch, now_s):
            return False
        self.route.counters.retried += 1
        self._loop.call_later(RETRY_AFTER_S, self._again, batch)
        return True

    def _again(self, batch: Batch) -> None:
        self.queue.append(batch)
        self.wake()

    def _rotate(self, batch: Batch, now_s: float) -> bool:
        """Leaves a server that is no primary (any more). False: that was tried already."""
        if batch.attempts > 1 or self.route.roles.resting(now_s):
            self.route.roles.refused()
            return False
        if self.link is not None and self.link.stale is None:
            # Not before it owes nothing: others' replies are on their way on it.
            self.link.stale = Reason.UPSTREAM_READ_ONLY
            self.leave_link()
            self.route.events(
                "redis_role_changed", level="warning", route=self.options.name, lane=self.label,
                reason=Reason.UPSTREAM_READ_ONLY,
            )  # fmt: skip
        return True

    # -- the sweep ---------------------------------------------------------------------------

    def sweep(self, now_s: float) -> None:
        """Once every tenth of a second: deadlines, pings, idle ends."""
        waits = self.link is None and not self.route.gate.is_shut
        for batch in self.queue.expired(now_s) if waits else ():
            self.route.counters.not_executed += batch.left if batch.canned is None else 0
            why = f"{self.why_away}; waited {self.options.hold_s:g} s for a link"
            self._answer_down(batch, why, Reason.HOLD_TIMEOUT)
        if self.link is not None:
            self._sweep_link(self.link, now_s)
        self._leave_if_stale()

    def _sweep_link(self, link: DataLink, now_s: float) -> None:
        if link.heard:
            link.heard = False
            self.heard_s = now_s
        if link.inflight:
            self._used_s = now_s
            waiting_since_s = max(link.inflight[0].sent_s, self.heard_s)
            if now_s - waiting_since_s > self.options.command_timeout_s:
                timeout_s = self.options.command_timeout_s
                link.abort(Reason.COMMAND_TIMEOUT, f"no reply within {timeout_s:g} s")
        elif not self.clients and now_s - self._used_s > self.options.link_idle_s:
            self.link = None
            link.close()
        elif now_s - self.heard_s > self.options.ping_s:
            link.send([Batch(NOBODY, PING, 1)], now_s)

    @property
    def is_idle(self) -> bool:
        """Nothing to keep the lane for."""
        return self.link is None and self._dialling is None and not self._needed

    def close(self) -> None:
        """Ends the lane: links closed, what waits is answered."""
        for batch in self.queue.take(1 << 60, 1 << 60):
            self._answer_down(batch, "Backstay is shutting down", Reason.SHUTDOWN)
        if self._dialling is not None:
            self._dialling.cancel()
        link, self.link = self.link, None
        if link is not None:
            link.close()


_SUSPECT = frozenset((b"LOADING", b"MASTERDOWN", b"TRYAGAIN", b"CLUSTERDOWN", b"READONLY"))
