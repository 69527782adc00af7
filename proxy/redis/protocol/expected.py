"""What an exclusive link still owes its client, and which state the client has on it.

Pure. `sent` is told each command in order, `received` each whole frame; together they know when
the link holds nothing of the client's any more (`is_clean`), and, when the link dies, what becomes
of each command (`settle`). State changes count from the moment they are sent, because the commands
behind them are pipelined. Source: reference/redis.md, sections 3 and 4; Redis pub/sub and
transactions documentation.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol import say
from proxy.redis.protocol.commands import CommandTable
from proxy.redis.protocol.session_state import SessionState
from proxy.redis.protocol.values import ErrorReply, decode, encode_command
from proxy.redis.protocol.verdict import Action, Circumstances, Kind, Phase, verdict

Effect = Callable[[SessionState], None]


class Sort(Enum):
    """How replies to a command are counted and what losing them means."""

    PLAIN = auto()
    OWN = auto()  # sent by the proxy itself: the reply is dropped
    MULTI = auto()
    QUEUED = auto()  # inside MULTI
    EXEC = auto()
    DISCARD = auto()
    SUBSCRIPTION = auto()  # one frame per channel
    BLOCKING = auto()
    WAIT = auto()  # WAIT and WAITAOF: about the offset of one link


@dataclass(slots=True)
class Expected:
    """One command whose reply is due. `frames` < 0: as many as there are subscriptions then."""

    sort: Sort
    request: bytes
    name: bytes
    frames: int = 1
    muted: bool = False
    effect: Effect | None = None
    queued: "list[Effect | None] | None" = None
    deadline_s: float | None = None
    attempts: int = 1
    canned: bytes | None = None
    release: Callable[[], None] | None = None  # called once: answered, or given up
    channels: list[bytes] | None = None  # those that a (UN)SUBSCRIBE names

    def only_unconfirmed(self) -> None:
        """Names no channel any more that has been confirmed: each is confirmed once."""
        if self.channels and 0 < self.frames < len(self.channels):
            self.channels = self.channels[-self.frames :]
            self.request = encode_command(self.name, *self.channels)

    def let_go(self) -> None:
        """Calls `release`, once."""
        release, self.release = self.release, None
        if release is not None:
            release()


SUBSCRIBING: Final = {b"SUBSCRIBE": 0, b"PSUBSCRIBE": 1, b"SSUBSCRIBE": 2}
UNSUBSCRIBING: Final = {b"UNSUBSCRIBE": 0, b"PUNSUBSCRIBE": 1, b"SUNSUBSCRIBE": 2}
_CONFIRMED: Final = {
    **{name.lower(): (group, True) for name, group in SUBSCRIBING.items()},
    **{name.lower(): (group, False) for name, group in UNSUBSCRIBING.items()},
}
_MESSAGES: Final = (b"message", b"pmessage", b"smessage")
_BLOCKERS_OF_NONE: Final = frozenset((b"XREAD",))


class ExclusiveState:
    """One client's state on its exclusive link."""

    def __init__(self) -> None:
        self.expected: deque[Expected] = deque()
        self.multi = False
        self.watching = False
        self.broken = False  # a link that took its place refused what lasts
        self.opaque = False  # MONITOR and the like: raw bytes from here on, cannot be restored
        # Channels, patterns and shard channels, as confirmed; dicts keep their order.
        self.subscriptions: tuple[dict[bytes, None], ...] = ({}, {}, {})
        self.kept: dict[bytes, bytes] = {}  # settings to send again: CLIENT TRACKING and so on
        self._queued: list[Effect | None] = []

    # -- questions ---------------------------------------------------------------------------

    @property
    def subscribed(self) -> bool:
        return any(self.subscriptions)

    @property
    def lasts(self) -> bool:
        """There is state that outlives the commands."""
        return self.multi or self.watching or self.opaque or self.subscribed or bool(self.kept)

    @property
    def is_clean(self) -> bool:
        """Nothing is owed and nothing is held: the link may go back."""
        return not self.expected and not self.lasts

    # -- sending -----------------------------------------------------------------------------

    def sent(self, request: bytes, args: list[bytes], *, muted: bool, blocking: bool) -> Expected:
        """Notes a command that goes out now. The caller may set `effect` and `deadline_s`."""
        name = args[0].upper()
        entry = Expected(Sort.PLAIN, request, name, muted=muted)
        if self.multi and name not in (b"EXEC", b"DISCARD", b"MULTI", b"WATCH"):
            entry.sort = Sort.QUEUED
            self._queued.append(None)
            if name in SUBSCRIBING or name in UNSUBSCRIBING:
                self.opaque = True  # confirmations inside an EXEC reply: nobody can count these
        elif name in SUBSCRIBING:
            entry.sort, entry.frames = Sort.SUBSCRIPTION, max(1, len(args) - 1)
            entry.channels = args[1:]
        elif name in UNSUBSCRIBING:
            entry.sort, entry.frames = Sort.SUBSCRIPTION, len(args) - 1 or -1
            entry.channels = args[1:]
        elif name in (b"WAIT", b"WAITAOF"):
            entry.sort = Sort.WAIT
        elif blocking:
            entry.sort = Sort.BLOCKING
        else:
            self._transaction(entry, name)
        self.expected.append(entry)
        return entry

    def _transaction(self, entry: Expected, name: bytes) -> None:
        if name == b"MULTI" and not self.multi:
            entry.sort = Sort.MULTI
            self.multi, self._queued = True, []
        elif name == b"EXEC" and self.multi:
            entry.sort, entry.queued = Sort.EXEC, self._queued
            self.multi = self.watching = False
        elif name == b"DISCARD" and self.multi:
            entry.sort = Sort.DISCARD
            self.multi = self.watching = False
        elif name == b"WATCH" and not self.multi:
            self.watching = True
        elif name == b"UNWATCH":
            self.watching = False
        elif name == b"MONITOR":
            self.opaque = True

    def give_effect(self, entry: Expected, effect: Effect) -> None:
        """`effect` is applied when the command succeeds: at once, or with its EXEC."""
        if entry.sort is Sort.QUEUED:
            self._queued[-1] = effect
        entry.effect = effect  # of a queued one: should it turn out not to be

    def own(self, request: bytes, name: bytes = b"", frames: int = 1) -> None:
        """Notes a command of the proxy's own; `name` if it restores what must not go missing (a
        resubscription with its number of `frames`, a CLIENT setting).
        """
        self.expected.append(Expected(Sort.OWN, request, name, frames=frames))

    # -- receiving ---------------------------------------------------------------------------

    def received(self, frame: bytes, session: SessionState) -> bool:
        """Takes note of a whole frame; False if it is not for the client."""
        # Since RESP3 what nobody asked for says so itself; before, only its words tell it.
        resp2 = session.resp == 2
        if resp2 or frame[:1] == b">":
            confirmation = self._confirmation(frame)
            if confirmation is not None:
                return self._confirm(*confirmation)
        if frame[:1] == b">" or (resp2 and self.subscribed and _is_message(frame)):
            return True
        if not self.expected:
            return True
        entry = self.expected.popleft()
        entry.let_go()
        failed = frame[:1] in (b"-", b"!")
        if entry.sort is Sort.EXEC:
            _apply_queued(frame, entry.queued or [], session)
        elif entry.sort is Sort.MULTI and failed:
            self._nothing_queued()
        elif entry.sort is Sort.OWN and failed and entry.name:
            self.broken = True
        elif entry.effect is not None and not failed and entry.sort is not Sort.QUEUED:
            entry.effect(session)
        return entry.sort is not Sort.OWN and not entry.muted

    def _nothing_queued(self) -> None:
        """MULTI was refused: what was sent behind it, up to its EXEC, runs command by command."""
        for entry in self.expected:
            if entry.sort in (Sort.EXEC, Sort.DISCARD):
                entry.sort = Sort.PLAIN
                return
            if entry.sort is Sort.QUEUED:
                entry.sort = Sort.PLAIN
        self.multi = False

    def _confirmation(self, frame: bytes) -> tuple[bytes, bytes | None, int] | None:
        """(kind, channel, count) if the frame confirms a change of subscriptions."""
        if frame[:1] not in (b">", b"*"):
            return None
        head = self.expected[0] if self.expected else None
        asked = head is not None and head.sort is Sort.SUBSCRIPTION
        if frame[:1] == b"*" and not self.subscribed and not asked:
            return None
        kind = frame[frame.find(b"\n", 4) + 1 : frame.find(b"\r\n", 8)]
        if kind not in _CONFIRMED:
            return None
        value = decode(frame)[0]
        if not isinstance(value, list) or len(value) != 3 or not isinstance(value[2], int):
            return None
        channel = value[1] if isinstance(value[1], bytes) else None
        return kind, channel, value[2]

    def _confirm(self, kind: bytes, channel: bytes | None, count: int) -> bool:
        group, joined = _CONFIRMED[kind]
        names = self.subscriptions[group]
        before = len(names)
        if channel is not None:
            if joined:
                names[channel] = None
            else:
                names.pop(channel, None)
        head = self.expected[0] if self.expected else None
        if head is None or head.sort is Sort.PLAIN or head.name.lower() != kind:
            return head is None or head.sort is not Sort.OWN
        if head.frames < 0:
            head.frames = max(1, before)
        head.frames -= 1
        if head.frames == 0:
            self.expected.popleft().let_go()
        return head.sort is not Sort.OWN

    # -- loss --------------------------------------------------------------------------------

    def settle(self, table: CommandTable, why: str, given: "LossTerms") -> list[Expected]:
        """What takes the place of the unanswered commands, in order: canned replies, or requests
        to send again. Then `multi` and `watching` still say what is broken (the caller tells the
        session and calls `forget_transaction`).
        """
        unsent_from = _unsent_from(self.expected, given.unsent_bytes)
        outcome: list[Expected] = []
        later_write = False
        for position in range(len(self.expected) - 1, -1, -1):
            entry = self.expected[position]
            phase = Phase.UNSENT if position >= unsent_from else Phase.SENT
            if position == 0 and given.cut:
                phase = Phase.CUT
            writes = entry.canned is None and entry.sort not in (Sort.OWN, Sort.SUBSCRIPTION)
            self._decide(entry, phase, _Context(table, why, given, later_write))
            if writes and phase is not Phase.UNSENT and _kind_of(entry, table) is not Kind.READ:
                later_write = True
            if entry.canned is not None:
                entry.let_go()
            if entry.sort is not Sort.OWN and not (entry.muted and entry.canned is not None):
                outcome.append(entry)
        self.expected.clear()
        outcome.reverse()
        return outcome

    def _decide(self, entry: Expected, phase: Phase, context: "_Context") -> None:
        """Sets `canned`, or leaves it None: send again."""
        if entry.canned is not None or entry.sort is Sort.OWN:
            return
        if entry.sort is Sort.SUBSCRIPTION:
            entry.only_unconfirmed()
        elif entry.sort is Sort.MULTI:
            entry.canned = say.OK
        elif entry.sort is Sort.QUEUED:
            # Queued behind it comes its EXEC, whose reply tells the rest, or nothing any more.
            entry.canned = say.EXECABORT if self._is_open_multi(entry) else say.QUEUED
        elif entry.sort is Sort.DISCARD:
            entry.canned = say.OK  # the transaction is gone either way
        elif entry.sort is Sort.EXEC and phase is Phase.UNSENT:
            entry.canned = say.EXECABORT
        else:
            self._by_verdict(entry, phase, context)

    def _is_open_multi(self, entry: Expected) -> bool:
        """True if no EXEC or DISCARD has been sent behind the queued command."""
        behind = False
        for other in self.expected:
            if other is entry:
                behind = True
            elif behind and other.sort in (Sort.EXEC, Sort.DISCARD):
                return False
        return True

    def _by_verdict(self, entry: Expected, phase: Phase, context: "_Context") -> None:
        kind = _kind_of(entry, context.table)
        given = Circumstances(context.terms.replay_reads, entry.attempts, context.later_write)
        if entry.sort is Sort.WAIT or entry.sort is Sort.EXEC:
            decided = Action.SAY_LOST
        else:
            decided = verdict(kind, phase, given)
        if decided is Action.SEND:
            entry.attempts += 1
            return
        entry.canned = say.upstream_lost(f"{context.why} before the reply; it may have run")

    def forget_transaction(self) -> None:
        """MULTI and WATCH are gone with the link."""
        self.multi = self.watching = False
        self._queued = []


@dataclass(frozen=True, slots=True)
class LossTerms:
    """How the link died."""

    unsent_bytes: int
    cut: bool
    replay_reads: bool


@dataclass(frozen=True, slots=True)
class _Context:
    table: CommandTable
    why: str
    terms: LossTerms
    later_write: bool


def _kind_of(entry: Expected, table: CommandTable) -> Kind:
    if entry.sort is Sort.BLOCKING:
        return Kind.BLOCKING_READ if _takes_nothing(entry) else Kind.BLOCKING
    if entry.sort is Sort.PLAIN and entry.name in (b"WATCH", b"UNWATCH", b"SELECT"):
        return Kind.READ
    return Kind.READ if table.repeatable(entry.name) else Kind.WRITE


def _takes_nothing(entry: Expected) -> bool:
    """XREAD from explicit ids. With `$` the entries added meanwhile would be skipped."""
    if entry.name not in _BLOCKERS_OF_NONE:
        return False
    return b"\r\n$1\r\n$\r\n" not in entry.request and b"\r\n$1\r\n+\r\n" not in entry.request


def _unsent_from(expected: deque[Expected], unsent_bytes: int) -> int:
    """Index of the first command whose end surely never left."""
    position = len(expected)
    while position and unsent_bytes > 0:
        position -= 1
        unsent_bytes -= len(expected[position].request)
    return position


def _is_message(frame: bytes) -> bool:
    return frame[frame.find(b"\n", 4) + 1 : frame.find(b"\r\n", 8)] in _MESSAGES


def _apply_queued(frame: bytes, queued: list[Effect | None], session: SessionState) -> None:
    """Session changes queued in a transaction take effect with it (exp 50)."""
    if not any(queued) or frame[:1] != b"*":
        return
    try:
        value = decode(frame)[0]
    except PeerProtocolError:
        return  # too large to be held whole: its head is all there is
    if isinstance(value, list):
        for effect, result in zip(queued, value, strict=False):
            if effect is not None and not isinstance(result, ErrorReply):
                effect(session)
