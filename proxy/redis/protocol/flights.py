"""What is on its way on a tracking link: the fill recipe, the flights, the reads that wait for
them.

A flight is one batch written contiguously: `CLIENT CACHING YES`, the read, `PTTL k`
(reference/redis.md, 2.4). The OPTIN flag covers exactly the next command, so the batch may not be
split; MULTI is covered as a whole. No transaction is needed around read and PTTL: any change
between the two sends an invalidation between their replies.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.redis.protocol.actions import Fault
from proxy.redis.protocol.cacheable import NIL, ZERO, HashRead, Plan, request
from proxy.redis.protocol.downgrade import bulk, elements, integer
from proxy.redis.protocol.swaps import INFO

if TYPE_CHECKING:
    from proxy.redis.protocol.actions import CacheOptions
    from proxy.redis.protocol.reader import Reader
    from proxy.redis.protocol.sieve import Entry

CACHING = request([b"CLIENT", b"CACHING", b"YES"])
PING = request([b"PING"])
_MULTI = request([b"MULTI"])
_EXEC = request([b"EXEC"])


FOREVER_S = float("inf")
SPELLINGS_MAX = 8
TRANSIENT = (b"-LOADING", b"-MASTERDOWN", b"-TRYAGAIN", b"-CLUSTERDOWN", b"-BUSY")


class Spelling(NamedTuple):
    """One way a read was asked for. `raw` is empty for MGET and EXISTS of several keys."""

    resp: int
    raw: bytes
    reader: int
    asked_s: float


class Step(IntEnum):
    """What the next reply of a flight is the answer to."""

    CACHING = 0
    QUEUED = 1  # MULTI and what it queues
    READ = 2
    TTL = 3
    FIELDS = 4  # HPTTL
    ENCODING = 5  # OBJECT ENCODING
    PONG = 6
    SWAPS = 7  # INFO commandstats


_CHECK: tuple[Step, ...] = (Step.PONG,)
_SWAP_CHECK: tuple[Step, ...] = (Step.SWAPS,)
_SINGLE: tuple[Step, ...] = (Step.CACHING, Step.READ, Step.TTL)


class Ask:
    """One client's read that waits for a flight.

    `parts` are the cached entries it wants to use, per key, None where the flight brings the value.
    They are checked again when the flight's reply is there.
    """

    __slots__ = ("asked_s", "flight", "parts", "plan", "raw", "reader", "waiter")

    def __init__(
        self, reader: Reader, waiter: object, raw: bytes, plan: Plan, asked_s: float
    ) -> None:
        self.reader = reader
        self.waiter = waiter
        self.raw = raw
        self.plan = plan
        self.asked_s = asked_s
        self.parts: list[Entry | None] = []
        self.flight: Flight | None = None

    def __repr__(self) -> str:
        return f"<Ask {self.plan.name!r}>"


class Flight:
    """One batch on the tracking link, until its last reply.

    `number` orders the flights of a partition for ever; `keys` are the Redis keys it reads,
    `canonicals` the requests its `values` will be stored as, one per key.
    """

    __slots__ = (
        "answered",
        "asks",
        "at",
        "canonicals",
        "dirty",
        "error",
        "fields_ms",
        "hash_read",
        "joinable_as",
        "keys",
        "missing",
        "name",
        "number",
        "safe_encoding",
        "sent_s",
        "spellings",
        "steps",
        "ttls",
        "values",
    )

    def __init__(self, number: int, sent_s: float, steps: tuple[Step, ...]) -> None:
        self.number = number
        self.sent_s = sent_s
        self.steps = steps
        self.at = 0
        self.name = b""
        self.keys: tuple[bytes, ...] = ()
        self.canonicals: tuple[bytes, ...] = ()
        self.missing = b""
        self.hash_read = HashRead.NONE
        self.joinable_as: bytes | None = None
        self.asks: dict[Ask, None] = {}  # in the order of their coming
        self.dirty: set[bytes] = set()  # keys whose value may not be stored
        self.answered = False  # the read's own reply was there
        self.error = b""  # the read's reply, when it is an error
        self.values: list[bytes] = []
        self.ttls: list[int] = []
        self.fields_ms: int | None = None  # shortest field TTL, None without one
        self.safe_encoding = False
        self.spellings: list[Spelling] = []

    @property
    def done(self) -> bool:
        """True once every reply was there."""
        return self.at == len(self.steps)

    def spell(self, ask: Ask) -> None:
        """Remember how this read was spelt, for the hit path, and who read it last."""
        raw = b"" if ask.plan.pieces else ask.raw
        reader = ask.reader
        for i, known in enumerate(self.spellings):
            if known.resp == reader.resp and known.raw == raw:
                self.spellings[i] = Spelling(reader.resp, raw, reader.id, ask.asked_s)
                return
        if len(self.spellings) < SPELLINGS_MAX:
            self.spellings.append(Spelling(reader.resp, raw, reader.id, ask.asked_s))

    def take(self, frame: bytes) -> None:
        """The reply to the read itself.

        Raises PeerProtocolError when it has another shape than the read can have.
        """
        if not self.keys:
            return  # a check: any reply proves what it has to prove
        if frame[:1] == b"-":
            self.error = frame
        elif len(self.steps) > 1 and (self.name == b"MGET" or Step.QUEUED in self.steps):
            self.values = elements(frame)
            if len(self.values) != len(self.keys):
                raise PeerProtocolError("a reply per key expected", Reason.UPSTREAM_PROTOCOL)
        else:
            self.values = [frame]

    def learn(self, step: Step, frame: bytes) -> Fault | None:
        """The reply to a command around the read. Not None: the link must be closed.

        Raises PeerProtocolError when it has another shape than it can have.
        """
        if step is Step.CACHING or step is Step.QUEUED:
            if frame[:1] == b"-":
                refused = frame.startswith(b"-NOPERM")
                # the flag is not set: what follows is not tracked, and may not be stored
                self.dirty.update(self.keys)
                if step is Step.CACHING and not frame.startswith(TRANSIENT):
                    return Fault.REFUSED if refused else Fault.PROTOCOL
        elif step is Step.TTL:
            ttl_ms = integer(frame)
            if ttl_ms is None:
                self.dirty.add(self.keys[len(self.ttls)])
                self.ttls.append(-1)
                refused = frame.startswith(b"-NOPERM")
                return Fault.REFUSED if refused and not self.error else None
            self.ttls.append(ttl_ms)
        elif step is Step.FIELDS:
            self._learn_fields(frame)
        else:
            self.safe_encoding = frame == b"$8\r\nlistpack\r\n"
        return None

    def storable(self, reply: bytes, ttl_ms: int) -> bool:
        """False when the reply and what PTTL says do not belong together."""
        if reply[:1] == b"-":
            return False
        if ttl_ms == -2:
            return reply == self.missing  # else it expired between the two
        # a nil of MGET for a key that is there: another type, for which GET has an error
        return not (self.name == b"MGET" and reply == self.missing)

    def lifetime(self, ttl_ms: int, options: CacheOptions, jitter: float) -> tuple[float, float]:
        """(served until, the key's own end) for what PTTL said. `jitter` is for the caps only."""
        cap_s = options.negative_ttl_s if ttl_ms == -2 else options.ttl_s
        if self.hash_read is HashRead.WHOLE and ttl_ms != -2 and not self.safe_encoding:
            cap_s = min(cap_s, options.hash_ttl_s)
        if self.fields_ms is not None:
            ttl_ms = self.fields_ms if ttl_ms < 0 else min(ttl_ms, self.fields_ms)
        expires_s = self.sent_s + ttl_ms / 1000 if ttl_ms >= 0 else FOREVER_S
        return min(self.sent_s + cap_s * jitter, expires_s), expires_s

    def ended(self, asked_s: float) -> bool:
        """True when a TTL may have passed before `asked_s`. Never for who asked first."""
        if asked_s <= self.sent_s:
            return False
        if self.dirty:
            return True  # PTTL may have spoken of another value
        if self.fields_ms is not None and self.sent_s + self.fields_ms / 1000 <= asked_s:
            return True
        for reply, ttl_ms in zip(self.values, self.ttls, strict=False):
            if ttl_ms == -2 and reply != self.missing:
                return True
            if ttl_ms >= 0 and self.sent_s + ttl_ms / 1000 <= asked_s:
                return True
        return False

    def _learn_fields(self, frame: bytes) -> None:
        """Field TTLs, in the order of the fields asked for. Source: Redis HPTTL."""
        if frame[:1] != b"*":
            self.dirty.update(self.keys)  # wrong type, or no permission: no deadline is known
            return
        values = elements(self.values[0]) if self.name == b"HMGET" and self.values else self.values
        for i, one in enumerate(elements(frame)):
            ttl_ms = integer(one)
            if ttl_ms is None:
                self.dirty.update(self.keys)
            elif ttl_ms >= 0:
                self.fields_ms = ttl_ms if self.fields_ms is None else min(self.fields_ms, ttl_ms)
            elif ttl_ms == -2 and i < len(values) and values[i] not in (NIL, ZERO):
                self.dirty.update(self.keys)  # it expired between the two

    def __repr__(self) -> str:
        return f"<Flight {self.number} {self.name!r} at {self.at} of {len(self.steps)}>"


def check(number: int, now_s: float) -> tuple[Flight, bytes]:
    """A flight that only proves the cache current, and its bytes."""
    return Flight(number, now_s, _CHECK), PING


def swap_check(number: int, now_s: float) -> tuple[Flight, bytes]:
    """As `check`; the reply also tells whether databases were swapped."""
    return Flight(number, now_s, _SWAP_CHECK), INFO


def single(number: int, now_s: float, plan: Plan, hash_ttls: bool) -> tuple[Flight, bytes]:
    """The fill of one key's read, and its bytes. `hash_ttls`: the server knows field TTLs."""
    steps, key = _SINGLE, plan.keys[0]
    data = CACHING + plan.canonical + request((b"PTTL", key))
    if hash_ttls and plan.hash_read is HashRead.FIELDS:
        steps = (*steps, Step.FIELDS)
        count = b"%d" % len(plan.fields)
        data += request([b"HPTTL", key, b"FIELDS", count, *plan.fields])
    elif hash_ttls and plan.hash_read is HashRead.WHOLE:
        steps = (*steps, Step.ENCODING)
        data += request([b"OBJECT", b"ENCODING", key])
    flight = Flight(number, now_s, steps)
    flight.name = plan.name
    flight.keys = plan.keys
    flight.canonicals = (plan.canonical,)
    flight.missing = plan.missing
    flight.hash_read = plan.hash_read if hash_ttls else HashRead.NONE
    flight.joinable_as = plan.canonical
    return flight, data


def pieces(number: int, now_s: float, plan: Plan, wanted: list[int]) -> tuple[Flight, bytes]:
    """The fill of some keys of MGET or EXISTS (indexes into plan.keys), and its bytes.

    One MGET brings an atomic picture of all of them; EXISTS only adds up, so several are queued in
    a transaction, which the CACHING flag covers as a whole (exp 4).
    """
    keys = tuple(plan.keys[i] for i in wanted)
    read = read_of_pieces(plan, wanted)
    steps, data = [Step.CACHING], [CACHING]
    if plan.name == b"MGET" or len(keys) == 1:
        steps.append(Step.READ)
        data.append(read)
    else:
        steps += [Step.QUEUED] * (1 + len(keys)) + [Step.READ]
        data += [_MULTI, *(plan.pieces[i] for i in wanted), _EXEC]
    steps += [Step.TTL] * len(keys)
    data += [request([b"PTTL", key]) for key in keys]
    flight = Flight(number, now_s, tuple(steps))
    flight.name = plan.name
    flight.keys = keys
    flight.canonicals = tuple(plan.pieces[i] for i in wanted)
    flight.missing = plan.missing
    flight.joinable_as = read
    return flight, b"".join(data)


def read_of_pieces(plan: Plan, wanted: list[int]) -> bytes:
    """The read that `pieces` sends for these keys; flights of equal reads are one."""
    return request([plan.name, *(plan.keys[i] for i in wanted)])


def invalidated(push: bytes) -> list[bytes] | None:
    """The keys of an invalidation push; None when it says: all of them (FLUSHALL, a full resync).

    Raises PeerProtocolError for any other push: tracking-redir-broken, say, ends every promise.
    """
    parts = elements(b"*" + push[1:])
    if len(parts) != 2 or bulk(parts[0]) != b"invalidate":
        raise PeerProtocolError("an unknown push on the tracking link", Reason.UPSTREAM_PROTOCOL)
    return None if parts[1] == NIL else [bulk(part) for part in elements(parts[1])]
