"""What a session is made of: its state, its client's transport, the reasons not to read from it.

Owns: the fields, and the vocabulary of phases. What is done with them stands in `session_send` (the
queue towards the link), `session_end` (its ends) and `session` (attaching, losing).
"""

import asyncio
from collections import deque
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from proxy.postgres.protocol import messages
from proxy.postgres.protocol.expected import IDLE, Expected
from proxy.postgres.protocol.lessons import told
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.protocol.units import Gatherer, Kind, Unit
from proxy.postgres.runtime.sampling import SAMPLE_EVERY, Sample

if TYPE_CHECKING:
    from proxy.core.reasons import Reason
    from proxy.postgres.protocol.keys import CancelKey
    from proxy.postgres.runtime.link import Link
    from proxy.postgres.runtime.pool import Pool, Startup
    from proxy.postgres.runtime.route import PostgresRoute


class Phase(Enum):
    JOINING = auto()  # logged in, waiting for its first link
    READY = auto()
    LEAVING = auto()  # the client is gone, its last unit is still running
    CLOSED = auto()


READY: Final = Phase.READY  # for the hot path: compiled, a member of an Enum is a look-up

LEGAL: dict[Phase, frozenset[Phase]] = {
    Phase.JOINING: frozenset({Phase.READY, Phase.CLOSED}),
    Phase.READY: frozenset({Phase.LEAVING, Phase.CLOSED}),
    Phase.LEAVING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


class Lost(Enum):
    """What became of the transaction the client believes to be in."""

    NO = auto()
    UNTOLD = auto()  # it died with its link, and the client does not know yet
    TOLD = auto()  # the client has had its error: 25P02 until ROLLBACK
    AGAIN = auto()  # it has run nothing but settings: it is begun again before the next unit
    FAILED = auto()  # the client has its error, and only a server knows what its next unit does


class Entry:
    """One place in the queue: a unit, and its bytes that wait."""

    __slots__ = ("judged", "parts", "since_s", "unit")

    def __init__(self, unit: Unit, parts: list[bytes], judged: bool, since_s: float = 0.0) -> None:
        self.unit = unit
        self.parts = parts
        self.since_s = since_s  # when it came, by the pool's clock; 0: it had gone out before
        self.judged = judged  # the verdict on a loss put it here: not to be looked at again


# Most sessions are idle: what most of them have none of is shared, and made when it is needed.
NO_QUEUE: deque[Entry] = deque(maxlen=0)
NOT_PAUSED: frozenset[str] = frozenset()


def give(transport: asyncio.Transport | None, data: bytes) -> None:
    """Write to a transport of which nobody knows better than that it is open.

    Cheaper than to ask it first. uvloop raises on one that is closed, whose end will be told.
    """
    try:
        transport.write(data)  # type: ignore[union-attr]
    except RuntimeError:
        return


class SessionBase:
    """The fields of a session, and what needs nothing else.

    An asyncio.Protocol in all but name: a compiled class has no interpreted base.
    """

    __slots__ = (
        "_alert",
        "_attaching",
        "_client_full",
        "_direct",
        "_hold_timer",
        "_leave_timer",
        "_paused",
        "_queue",
        "_queued_bytes",
        "doomed",
        "ending",
        "expected",
        "gap",
        "gatherer",
        "idle_since_s",
        "joined_s",
        "key",
        "link",
        "lost",
        "lost_at_s",
        "minor",
        "number",
        "orphans",
        "owed_ready",
        "phase",
        "pool",
        "prologue",
        "route",
        "sample",
        "seen",
        "startup",
        "state",
        "told",
        "transport",
        "until_sample",
        "used_s",
    )

    def __init__(
        self, route: "PostgresRoute", pool: "Pool", startup: "Startup", number: int
    ) -> None:
        self.route = route
        self.pool = pool
        self.startup = startup
        self.number = number
        self.minor = 0  # protocol 3.minor, as the client negotiated it
        self.phase = Phase.JOINING
        self.state = SessionState()
        self.gatherer = Gatherer(route.classifier)
        self.expected = Expected(self.state, self.gatherer)
        self.transport: asyncio.Transport | None = None
        self.link: Link | None = None
        self.key: CancelKey | None = None
        self.lost = Lost.NO
        self.prologue: list[Unit] = []  # of the transaction to be begun again
        self.orphans: tuple[tuple[int, str], ...] = ()  # pid and start of backends to be ended
        self.doomed = ""  # what cannot be rebuilt: told at the next message
        self.gap = False  # nobody has heard for a while what it LISTENs to; it is told behind that
        self.ending = False  # told to end at the next boundary
        self.owed_ready: int | None = None  # the next Sync closes a unit answered already
        self.lost_at_s = 0.0
        self.idle_since_s = 0.0
        self.used_s = 0.0  # when the sweep last saw that it had done something
        self.joined_s = 0.0  # the loop's time of its login
        self.seen = -1
        self.told = False  # since it lost its link, its client has had an error for that
        self.until_sample = number % SAMPLE_EVERY  # chunks until one is measured
        self.sample: Sample | None = None  # ... while its answer is owed
        self._direct = False  # attached, nothing waits, nothing is odd: the hot path is open
        self._alert = False  # the next boundary has something to do
        self._client_full = False  # the client reads slower than the server writes
        self._queue: deque[Entry] = NO_QUEUE
        self._queued_bytes = 0
        self._attaching: asyncio.Task[None] | None = None
        self._hold_timer: asyncio.TimerHandle | None = None
        self._leave_timer: asyncio.TimerHandle | None = None
        self._paused = NOT_PAUSED

    @property
    def waits(self) -> bool:
        """Something of the client has not gone out."""
        return bool(self._queue)

    @property
    def is_direct(self) -> bool:
        """True while units of the client go straight to the link."""
        return self._direct

    def become(self, phase: Phase) -> None:
        """The one place where the phase changes."""
        assert phase in LEGAL[self.phase], f"{self.phase} → {phase}"
        self.phase = phase

    def own_query(self, text: bytes) -> Unit:
        """A Query of the proxy's own."""
        unit = Unit(Kind.QUERY, messages.query(text))
        unit.complete = unit.skip = True
        unit.script = self.gatherer.script(text)
        return unit

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def pause_writing(self) -> None:
        self._client_full = True
        link = self.link
        if link is not None and link.transport is not None and not link.closed:
            link.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client_full = False
        link = self.link
        if link is not None and link.transport is not None and not link.closed:
            link.transport.resume_reading()

    def pause(self, why: str) -> None:
        """Read nothing from the client, for this reason and until all reasons are gone."""
        if not self._paused and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._paused |= {why}

    def resume(self, why: str) -> None:
        if why not in self._paused:
            return
        self._paused -= {why}
        if not self._paused and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def say(self, data: bytes) -> None:
        """Bytes for the client, unless it is gone."""
        transport = self.transport
        if self.phase is not Phase.LEAVING and transport is not None:
            if transport.is_closing():
                return  # uvloop raises on a closed one; connection_lost follows
            transport.write(data)

    @property
    def rests(self) -> bool:
        """Nothing is under way, and no unit has begun: it can end without anybody losing work."""
        idle = not self.expected.inflight and self.expected.status == IDLE and not self._queue
        free = self._attaching is None and self.phase is Phase.READY
        return idle and free and not self.gatherer.in_unit

    def _link_writable(self, yes: bool) -> None:
        if yes:
            self.resume("link")
        else:
            self.pause("link")

    def _tell_changes(self, link: "Link") -> None:
        """ParameterStatus for what the new server reports otherwise."""
        seen = self.expected.client_params
        for name, value in link.params.items():
            if seen.get(name) != value:
                told(self.expected, name, value)
                self.say(messages.parameter_status(name, value))

    def put_first(self, entries: list[Entry]) -> None:
        """What the verdict wants to happen next, before everything that waits."""
        if entries:
            self._queue = deque([*entries, *self._queue])
        self._queued_bytes += sum(len(part) for entry in entries for part in entry.parts)

    def waits_since_s(self) -> float:
        """Since when a session that has been let in has waited for a link; 0: not known."""
        return self._queue[0].since_s if self._queue and self.key is not None else 0.0

    def waits_first(self) -> Unit:
        """The unit at the head of the queue."""
        return self._queue[0].unit

    def waits_in_doubt(self) -> bool:
        """True if some of what waits ran before, and may have written: by a function that it
        called, or so that its end is known to the proxy alone so far."""
        return any(
            entry.unit.in_doubt or (entry.judged and entry.unit.say is not None)
            for entry in self._queue
        )

    def give_up_transaction(self, lost: Lost = Lost.UNTOLD) -> None:
        """It is not begun again: what waits for it meets a failed transaction."""
        self.lost = lost
        self.expected.prologue = None
        for entry in self._queue:
            entry.judged = entry.judged and entry.unit.say is not None

    def listen_again(self) -> None:
        """Nobody hears what it LISTENs to: it gets a link, though it has nothing to send."""
        if self.gap and self.link is None and self.lost is Lost.NO and not self.doomed:
            self._attach()

    def _stop_holding(self) -> None:
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None

    # -- what the layers above do

    def end_with(self, last_words: bytes, reason: "Reason") -> None:
        """Tell the client why and end the session."""
        raise NotImplementedError

    def _attach(self) -> None:
        """Get a link, unless that is under way."""
        raise NotImplementedError

    def take_first(self) -> Entry:
        """The head of the queue, which is the caller's from now on."""
        raise NotImplementedError

    def _enter(self) -> None:
        """Put the link into the transaction that the client believes to be in."""
        raise NotImplementedError

    def _maybe_end(self) -> bool:
        """End the session if the client has asked for that."""
        raise NotImplementedError

    def _finish(self, reason: "Reason") -> None:
        """The session is over: the route forgets it."""
        raise NotImplementedError
