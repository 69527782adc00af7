"""The coherent read-through cache of one partition (endpoint, user, database): no I/O, no clock.

Owns everything that is sent on the partition's tracking link (T) after its set-up, what the replies
and invalidations on it mean, and the entries. Clients read through `reader.Reader`; writes, flushes
and fences of the whole endpoint arrive through `partitions.Partitions`. The laws are
reference/redis.md, section 2; each is one method here, so that a test can take it away and see a
named check fail.

What the caller must do
-----------------------
1. `Reader.hit` only while the client has nothing unanswered, on T or D (W6).
2. While it has unanswered commands on its data link (D), everything goes to D; cacheable reads
   among them are reported with `Reader.direct` when answered, before the reply reaches the client.
3. While it has unanswered reads on T (`Wait`), further reads go through `Reader.read`, which keeps
   their order; anything for D (a write, a `Bypass`) waits until those reads are answered.
4. `writing` before the write's bytes reach a link, `written` before its reply reaches the client,
   and when the link is lost. All writes: also on X-links, and EXEC with the keys of its queue.
5. Bytes from `Wait.write` and `Out.write` go to T in the order of the calls, each piece unsplit.
6. `Out.answers` and `Out.direct` are obeyed in order, all of them before any client's next request
   is looked at. `Out.fault`: close T and call `link_lost`, whose `Out` is obeyed the same way.
   With Fault.REFUSED call `refused` too, and do not open T again for this partition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol import flights
from proxy.redis.protocol.actions import Answer, Fault, Out, Phase, Route, Server, Wait
from proxy.redis.protocol.cacheable import KeyFilter, Plan, assembled, piece_name
from proxy.redis.protocol.downgrade import to_resp2
from proxy.redis.protocol.flights import TRANSIENT, Ask, Flight, Step, invalidated
from proxy.redis.protocol.insight import Bypassed
from proxy.redis.protocol.lease import FOREVER_S, Lease
from proxy.redis.protocol.store import Store, Value, remember
from proxy.redis.protocol.swaps import Swaps
from proxy.redis.protocol.traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.redis.protocol.sieve import Entry

OVERSIZE_KEPT, NO_STALE_KEPT = 1024, 4096
SWEEP_STEPS = 256
TICK_S = 0.05


class Cache:
    """One partition. Made by `partitions.Partitions`."""

    def __init__(self, route: Route) -> None:
        self.options = options = route.options
        self.insight = route.insight
        self.store = Store(route.budget, route.insight)
        self.lease = Lease(options.lease_s)
        self.swaps = Swaps()
        self.traffic = Traffic()
        self.phase = Phase.NO_LINK
        self.refusal = ""  # why, in words for the status page
        self._budget = route.budget
        self._chance = route.chance
        self.key_filter = KeyFilter(options.include, options.exclude)
        self._hash_ttls = False
        self._asks = 0
        self._barriers = route.barriers
        self.fence_number = 0
        self._oversize: dict[bytes, float] = {}
        self._no_stale: dict[bytes, float] = {}
        self._hits_seen = 0

    @property
    def hits(self) -> int:
        """Local answers, per key, negative ones included."""
        return self.store.positive.hits + self.store.negative.hits

    # ---- the link ----

    def link_up(self, server: Server, now_s: float) -> None:
        """T is set up: HELLO 3, AUTH, SELECT, CLIENT TRACKING ON OPTIN all succeeded."""
        assert not len(self.traffic), "link_lost comes before the next link_up"
        self._flush_lost()  # what was kept to be served stale
        if server.version < (7, 0, 0):
            self.refused("the server is older than 7.0: its invalidations may come out of order")
            return
        self.phase = Phase.READY
        self.refusal = ""
        self._hash_ttls = server.hash_field_ttls
        self.lease.sent(now_s)
        self.swaps.seen = server.swaps
        self.lease.watch_swaps(FOREVER_S if server.swaps is None else server.asked_s)

    def refused(self, why: str) -> None:
        """This user or server cannot track: everything is forwarded, and `refusal` says why."""
        self.phase = Phase.REFUSED
        self.refusal = why
        self.store.drop_all()

    def link_lost(self) -> Out:
        """T is gone, for any cause: nothing cached is valid, waiting reads go to D."""
        out = Out()
        fenced = self.fence_number > self.traffic.done_number
        if self.phase is Phase.READY:
            self.phase = Phase.NO_LINK
        self._lease_lost()
        for flight in self.traffic.lost():
            self._abandon(flight, Bypassed.NO_LINK, out)
        if self.options.stale_max_s <= 0 or fenced:
            self._flush_lost()
        return out

    def frames(self, frames: Iterable[bytes], now_s: float) -> Out:
        """Whole RESP3 frames from T, in order. What follows from them is in the result."""
        out = Out()
        try:
            for frame in frames:
                if frame[:1] == b">":
                    self._on_push(frame)
                else:
                    self._on_reply(frame, now_s, out)
                if out.fault is not None:
                    break
        except PeerProtocolError:
            out.fault = Fault.PROTOCOL
        return out

    def tick(self, now_s: float) -> Out:
        """Deadlines of waiting reads, the lease's PING, the broom. Call every TICK_S or so."""
        out = Out()
        for flight in self.traffic:
            if now_s < flight.sent_s + self.options.flight_s:
                break
            self.traffic.unjoin(flight)
            self._abandon(flight, Bypassed.TOO_LATE, out)
        if self.hits != self._hits_seen:
            self._hits_seen = self.hits
            self.lease.wanted(now_s)
        head = self.traffic.head
        if head is not None and now_s >= head.sent_s + self.options.silent_s:
            out.fault = Fault.SILENT
        elif self.phase is Phase.READY and self.lease.ping_due(now_s):
            out.write = self._checked(now_s)[1]
        self._budget.sweep(now_s, SWEEP_STEPS)
        return out

    # ---- writes through this proxy ----

    def writing(self, keys: Iterable[bytes], no_stale: bool = False) -> None:
        """W1: a write of these keys is about to be sent. `no_stale`: a lock or counter (2.15)."""
        for key in keys:
            self._drop_and_detach(key)
            if no_stale and self.options.stale_max_s > 0:
                remember(self._no_stale, key, flights.FOREVER_S, NO_STALE_KEPT)

    def written(self, keys: Iterable[bytes]) -> None:
        """W3: that write was answered (well or not), or its link is lost."""
        for key in keys:
            self._drop_and_detach(key)

    def flush(self) -> None:
        """W5: a command that may change every key is about to be sent, and again: was answered."""
        self._drop_and_detach_all()

    def fence(self, now_s: float) -> tuple[int, bytes]:
        """W4: (number to wait for, bytes for T). What is read from that flight on is newer than
        every write acknowledged before this call. Without a link all is dropped instead.
        """
        if self.phase is not Phase.READY:
            self.store.drop_all()
            return 0, b""
        data = self._launched(*flights.check(self.traffic.number + 1, now_s))
        self.fence_number = self.traffic.number
        return self.fence_number, data

    def fence_all(self, now_s: float) -> bytes:
        """W4 for every reader of the partition: bytes for T."""
        number, data = self.fence(now_s)
        self.lease.void_until(number)
        self.traffic.unjoin_all()
        return data

    def seen_elsewhere(self, keys: Iterable[bytes]) -> None:
        """W7: D answered a read of these keys with something else than is cached: T is behind."""
        for key in keys:
            self._drop_and_detach(key)

    # ---- reads, for Reader ----

    def obstacle(self, plan: Plan, now_s: float) -> Bypassed | None:
        """Why this read cannot use the cache or T now, or None."""
        if self.phase is not Phase.READY:
            return Bypassed.REFUSED if self.phase is Phase.REFUSED else Bypassed.NO_LINK
        if self._barred(plan.keys):
            return Bypassed.BARRIER
        if len(plan.keys) > self.options.keys_max:
            return Bypassed.TOO_MANY_KEYS
        if not self.key_filter.trivial and not all(map(self.key_filter.wants, plan.keys)):
            return Bypassed.EXCLUDED
        if self._stalled(now_s):
            return Bypassed.STALLED
        if self._asks >= self.options.asks_max:
            return Bypassed.FULL
        if self._oversize and now_s < self._oversize.get(plan.canonical, 0.0):
            return Bypassed.TOO_BIG
        return None

    def launch(self, ask: Ask, now_s: float, whole: bool = False) -> Answer | Wait:
        """Answer from the cache, or let the ask wait for a flight. `whole`: use no cached part."""
        self.lease.wanted(now_s)
        ask.parts = (
            [None] * len(ask.plan.keys)
            if whole
            else self.store.parts(ask.reader.resp, ask.plan, now_s)
        )
        after = self._after(ask)
        if None in ask.parts:
            flight, data = self._fetch(ask, after, now_s)
        elif after == 0 and now_s < self.lease.fresh_until_s:
            return Answer(self._compose(ask, None, now_s))
        else:
            flight, data = self._ride(after, now_s)
        ask.flight = flight
        flight.asks[ask] = None
        ask.reader.asks.append(ask)
        self._asks += 1
        return Wait(data)

    def withdraw(self, ask: Ask) -> None:
        """The ask is answered, goes elsewhere, or its client is gone."""
        assert ask.flight is not None, "an ask is withdrawn once"
        del ask.flight.asks[ask]
        ask.flight = None
        self._asks -= 1

    def may_serve_stale(self, entry: Entry, now_s: float) -> bool:
        """True while an outage allows this entry (2.15). The caller says that there is one."""
        return (
            now_s < self.lease.proven_s + self.options.stale_max_s
            and now_s < entry.expires_s
            and entry.key not in self._no_stale
            and self.phase is not Phase.REFUSED
        )

    # ---- the rules ----

    def _barred(self, keys: tuple[bytes, ...]) -> bool:
        """W2: a write to one of them is not answered yet."""
        return self._barriers.bar(keys)

    def _stalled(self, now_s: float) -> bool:
        """T owes a reply for longer than the lease: what waits there is older than promised."""
        head = self.traffic.head
        return head is not None and head.sent_s <= now_s - self.options.lease_s

    def _after(self, ask: Ask) -> int:
        """W6 on T: the flight that the ask's answer must not be older than (0: none)."""
        return ask.reader.after()

    def _drop_and_detach(self, key: bytes) -> None:
        """No entry of the key is served, no read of it on its way is joined or stored."""
        if key in self.store.by_key:
            self.store.drop_key(key)
        if self.traffic.head is not None:
            for flight in self.traffic.by_key.get(key, ()):
                self._detach(flight, key)
            self._dirty_head(key)

    def _drop_and_detach_all(self) -> None:
        self.store.drop_all()
        for flight in self.traffic:
            for key in flight.keys:
                self._detach(flight, key)

    def _detach(self, flight: Flight, key: bytes) -> None:
        """Its value may be older than a write: who waits keeps it, nobody joins, nothing is
        stored.
        """
        flight.dirty.add(key)
        self.traffic.unjoin(flight)

    def _dirty_head(self, key: bytes) -> None:
        """Between the read's reply and the last PTTL: what was read is not what is now."""
        head = self.traffic.head
        if head is not None and head.answered:
            head.dirty.add(key)

    def _lease_lost(self) -> None:
        self.lease.lost()

    def _flush_lost(self) -> None:
        """Without its link no entry can be trusted."""
        self.store.drop_all()

    def _still_current(self, ask: Ask, now_s: float) -> bool:
        """Every cached part was still valid when the flight read the others: one atomic picture."""
        return all(part is None or (part.live and now_s < part.expires_s) for part in ask.parts)

    def _ended(self, ask: Ask, flight: Flight) -> bool:
        """The flight's value may have ended before this ask joined it: it must not be served."""
        return None in ask.parts and flight.ended(ask.asked_s)

    def _deadline_s(self, flight: Flight, ttl_ms: int) -> tuple[float, float]:
        """(served until, the key's own end). Counted from the batch's sending, so never late."""
        return flight.lifetime(ttl_ms, self.options, 0.9 + 0.2 * self._chance())

    # ---- flights ----

    def _fetch(self, ask: Ask, after: int, now_s: float) -> tuple[Flight, bytes]:
        """The flight that brings what is missing, joined or new."""
        plan = ask.plan
        if not plan.pieces:
            wanted, read = [0], plan.canonical
        else:
            first = {key: i for i, key in reversed(list(enumerate(plan.keys)))}
            wanted = sorted(i for i in first.values() if ask.parts[i] is None)
            read = flights.read_of_pieces(plan, wanted)
        flight = self.traffic.join(read, after)
        data = b""
        if flight is not None:
            self.insight.coalesced += 1
        else:
            self.insight.misses += 1
            number = self.traffic.number + 1
            if plan.pieces:
                flight, data = flights.pieces(number, now_s, plan, wanted)
            else:
                flight, data = flights.single(number, now_s, plan, self._hash_ttls)
            self._launched(flight, data)
        flight.spell(ask)
        return flight, data

    def _ride(self, after: int, now_s: float) -> tuple[Flight, bytes]:
        """A flight whose reply proves the cached parts current: one on its way, or a check."""
        lease = self.lease
        known = lease.unswapped_s > now_s - lease.duration_s
        flight = self.traffic.newest(after)
        if flight is not None and (known or self.swaps.asked > self.traffic.done_number):
            return flight, b""
        return self._checked(now_s)

    def _checked(self, now_s: float) -> tuple[Flight, bytes]:
        """A flight that proves the cache current, swapped databases included if they are told."""
        number = self.traffic.number + 1
        if not self.lease.watches_swaps:
            flight, data = flights.check(number, now_s)
        else:
            flight, data = flights.swap_check(number, now_s)
            self.swaps.asked, self.lease.asked_s = number, now_s
        return flight, self._launched(flight, data)

    def _launched(self, flight: Flight, data: bytes) -> bytes:
        self.traffic.left(flight)
        self.lease.sent(flight.sent_s)
        return data

    def _abandon(self, flight: Flight, reason: Bypassed, out: Out) -> None:
        """Who waits for it goes to D, and so does what the same clients asked later."""
        for ask in tuple(flight.asks):
            if ask.flight is flight:
                self._to_direct(ask.reader.take_from(ask), reason, out)

    def _to_direct(self, asks: list[Ask], reason: Bypassed, out: Out) -> None:
        for ask in asks:
            if ask.flight is not None:
                self.withdraw(ask)
            self.insight.bypass(reason)
            out.direct.append(ask.waiter)

    # ---- what T says ----

    def _on_push(self, frame: bytes) -> None:
        keys = invalidated(frame)
        if keys is None:
            self.store.drop_all()
            head = self.traffic.head
            if head is not None and head.answered:
                head.dirty.update(head.keys)
            return
        self.insight.invalidations += len(keys)
        for key in keys:
            self._invalidated(key)

    def _invalidated(self, key: bytes) -> None:
        """A read whose reply comes after this push was made after the change: it stays joinable."""
        self.store.drop_key(key)
        self._dirty_head(key)

    def _on_reply(self, frame: bytes, now_s: float, out: Out) -> None:
        flight = self.traffic.head
        if flight is None:
            out.fault = Fault.PROTOCOL
            return
        if flight.at == 0:
            self.lease.proved(flight.sent_s, flight.number)
        step = flight.steps[flight.at]
        flight.at += 1
        if step is Step.READ or step is Step.PONG:
            flight.take(frame)
            self.traffic.answered(flight)
        elif step is Step.SWAPS:
            self.traffic.answered(flight)
            self._swaps_told(frame, flight, out)
        else:
            out.fault = flight.learn(step, frame)
        if flight.at == len(flight.steps) and out.fault is None:
            self.traffic.landed(flight)
            self._keep(flight, now_s)
            for ask in tuple(flight.asks):
                if ask.flight is flight:  # not moved by an earlier ask of its client
                    self._resolve(ask, flight, now_s, out)

    def _swaps_told(self, frame: bytes, flight: Flight, out: Out) -> None:
        """W8: after a swap nothing from before it is served."""
        swapped = self.swaps.take(frame)
        if swapped is None:
            self._abandon(flight, Bypassed.TRANSIENT, out)
            return
        if swapped:
            self.store.drop_all()
        if self.swaps.seen is None:
            self.lease.watch_swaps(FOREVER_S)
        else:
            self.lease.unswapped(flight.sent_s)

    def _resolve(self, ask: Ask, flight: Flight, now_s: float, out: Out) -> None:
        if not self._still_current(ask, now_s) or self._ended(ask, flight):
            self._redo(ask, now_s, out)
            return
        if flight.error and None in ask.parts:
            if flight.error.startswith(TRANSIENT) or Step.QUEUED in flight.steps:
                self._to_direct(ask.reader.take_from(ask), Bypassed.TRANSIENT, out)
                return
            reply = flight.error
        else:
            reply = self._compose(ask, flight, now_s)
        ask.reader.answered(ask)
        self.withdraw(ask)
        out.answers.append((ask.waiter, reply))

    def _redo(self, ask: Ask, now_s: float, out: Out) -> None:
        """A cached part went meanwhile: all is read again, and what the client asked later."""
        self.insight.torn_refetches += 1
        asks = ask.reader.take_from(ask)
        for one in asks:
            self.withdraw(one)
        for one in asks:
            reason = self.obstacle(one.plan, now_s)
            if reason is not None:
                self._to_direct(asks, reason, out)
                return
        for one in asks:
            match self.launch(one, now_s, whole=one is ask):
                case Wait(data):
                    out.write += data
                case Answer(reply):
                    out.answers.append((one.waiter, reply))

    def _compose(self, ask: Ask, flight: Flight | None, now_s: float) -> bytes:
        """The reply in the reader's RESP version, from cached parts and what the flight brought."""
        plan, reader = ask.plan, ask.reader
        if not plan.pieces:
            part = ask.parts[0]
            if part is not None:
                self.store.touch(part, reader.id, now_s)
                self.store.alias(part, ask.raw, now_s)
                return part.reply
            assert flight is not None
            reply = flight.values[0]
            return reply if reader.resp == 3 else to_resp2(plan.name, plan.canonical, reply)
        brought = dict(zip(flight.keys, flight.values, strict=False)) if flight else {}
        piece = piece_name(plan.name)
        replies = []
        for key, part in zip(plan.keys, ask.parts, strict=True):
            if part is not None:
                self.store.touch(part, reader.id, now_s)
                replies.append(part.reply)
            elif reader.resp == 2:
                replies.append(to_resp2(piece, plan.canonical, brought[key]))
            else:
                replies.append(brought[key])
        return assembled(plan.name, replies)

    def _keep(self, flight: Flight, now_s: float) -> None:
        """Store what a landed flight brought, where every rule allows it."""
        if flight.error or not flight.keys:
            return
        rows = zip(flight.keys, flight.canonicals, flight.values, flight.ttls, strict=True)
        for key, canonical, reply, ttl_ms in rows:
            negative = ttl_ms == -2
            self.insight.filled(key, negative)
            if key in flight.dirty or not flight.storable(reply, ttl_ms):
                continue
            deadline_s, expires_s = self._deadline_s(flight, ttl_ms)
            if len(reply) > self.options.max_entry_bytes:
                remember(self._oversize, canonical, deadline_s, OVERSIZE_KEPT)
            elif now_s < deadline_s:
                value = Value(key, canonical, reply, deadline_s, expires_s, negative)
                self.store.put_as_asked(flight, value, now_s)
