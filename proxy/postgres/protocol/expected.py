"""The replies still owed to one session, and what of the server's bytes the client gets.

Every unit sent upstream waits here until its ReadyForQuery. Its answer is for the client, or SKIP
(the proxy sent it). The link is at a boundary when nothing is owed.

Bytes pass in chunks: headers are scanned, bodies are opened only where they teach something. The
start of an answer is held back until its ReadyForQuery, HELD_BYTES_MAX, or the runtime's 20 ms
(design, section 4.2), so that a small answer is delivered whole or not at all.

Owns: the queue, the hold-back, what the answers teach (statements, settings, status). Must not
know: sockets, timers, how a loss is judged.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages
from proxy.postgres.protocol.framing import (
    EVERY_REPLY,
    FEW_REPLIES,
    READY_BYTES,
    Mark,
    ends_in_ready,
    scan,
    whole_bytes,
)
from proxy.postgres.protocol.joined import ends_with_sync, is_broken_row, merge
from proxy.postgres.protocol.lessons import (
    REPLIES,
    at_its_query,
    bound,
    closed,
    executed,
    extend_prologue,
    farewell,
    flush_is_over,
    only_parses,
    parsed,
    replies_in,
    told,
    unlearn,
)
from proxy.postgres.protocol.session_state import SessionState
from proxy.postgres.protocol.units import Gatherer, Kind, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

HELD_BYTES_MAX = 64 << 10
RAW_BYTES_MIN = 256 << 10  # a longer message is not kept until it is whole
NEWS_BYTES_MAX = 16 << 20  # a longer message that must be opened is a fault

IDLE: Final = 0x49
IN_TRANSACTION: Final = 0x54
FAILED: Final = 0x45

_ERROR, _NOTICE, _PARAMETER, _NOTIFICATION = b"ENSA"
_READY: Final = 0x5A
_COPY_IN, _COPY_BOTH, _NEGOTIATE, _KEY, _AUTHENTICATION = b"GWvKR"
_PARSED, _CLOSED, _COMPLETE, _EMPTY, _SUSPENDED = b"13CIs"
_LONG = frozenset(b"DdTNAV")  # messages that may be passed on before they are whole
_NEWS = frozenset((_ERROR, _NOTICE, _PARAMETER, _NOTIFICATION, _COPY_IN))
_NEVER = frozenset((_COPY_BOTH, _NEGOTIATE, _KEY, _AUTHENTICATION))
_ANSWERS = frozenset((_COMPLETE, _EMPTY))
_LESSONS = frozenset((_PARSED, _CLOSED, _COMPLETE, _EMPTY, _SUSPENDED))
_PARSE_COMPLETE: Final = messages.message(b"1")
_READY_IDLE = messages.ready_for_query(IDLE)
_STATUSES: Final = frozenset((IDLE, IN_TRANSACTION, FAILED))
_NONE: frozenset[bytes] = frozenset()  # one for all: an empty one takes 216 bytes


class Expected:
    """The queue of one session. `feed` is the hot path."""

    __slots__ = (
        "_carry",
        "_marks",
        "_raw_left",
        "_raw_skip",
        "_watching",
        "client_params",
        "fatal",
        "fatal_wire",
        "fault",
        "gatherer",
        "guarded",
        "inflight",
        "learned",
        "link_params",
        "missing",
        "on_refused_read_only",
        "prologue",
        "state",
        "status",
        "transactions",
        "unsure",
        "warning",
    )

    def __init__(self, state: SessionState, gatherer: Gatherer) -> None:
        self.state = state
        self.gatherer = gatherer
        self.inflight: deque[Unit] = deque()
        self.status = IDLE  # of the session, as the client was told
        self.client_params: dict[bytes, bytes] = {}  # ParameterStatus the client has seen
        self.link_params: dict[bytes, bytes] = {}  # ... and what holds on the link
        self.missing: set[bytes] = set()  # prepared statements that are not on this link yet
        self.unsure = _NONE  # ... of which nobody knows whether the client has them
        self.prologue: list[Unit] | None = None  # all the open transaction has run, if begun again
        self.fatal: dict[str, str] | None = None  # the server's last words
        self.fatal_wire = b""  # ... byte for byte
        self.fault: PeerProtocolError | None = None  # the server broke the protocol
        self.warning: dict[str, str] | None = None
        self.transactions = 0
        self.learned = False  # since the runtime last looked, something may want its attention
        self.guarded = False  # a transaction of the proxy's own is not closed yet
        self.on_refused_read_only: Callable[[], bytes] | None = None
        self._watching = 0
        self._carry = b""
        self._raw_left, self._raw_skip = 0, False
        self._marks: list[Mark] = []

    # -- towards the link

    def push(self, unit: Unit, hold: bool) -> None:
        """A unit goes out: an answer is owed from now on. `hold`: its start may be held back."""
        unit.started = True
        if hold:
            unit.held = ()
        self.count(unit)
        if not self.inflight or not self._merged(self.inflight[-1], unit):
            self.inflight.append(unit)

    def _merged(self, previous: Unit, unit: Unit) -> bool:
        """True if the server takes the unit for a part of the one before it."""
        if previous.copying and not previous.copied and is_broken_row(previous, unit):
            self._swallow(unit)
        elif previous.needs_sync and not unit.skip:
            self._join(previous, unit)
        else:
            return False
        return True

    def _swallow(self, unit: Unit) -> None:
        """Nothing of an answer to it need be read any more."""
        if unit.counted:
            unit.counted = False
            self._watching -= 1

    def count(self, unit: Unit) -> None:
        """Have the unit's answer read message by message, if that teaches anything.

        To be called again when a unit under way has grown by another piece.
        """
        if not unit.counted and (unit.watch or unit.parses or unit.closes or unit.injected):
            unit.counted = True
            self._watching += 1

    def _join(self, head: Unit, unit: Unit) -> None:
        """A unit behind one that lacks its Sync: both have one answer."""
        self._swallow(unit)
        if head.errored:  # the server skips all of it, but for a Sync
            unlearn(self, unit)
            head.needs_sync = not ends_with_sync(unit)
        else:
            head.needs_sync = False
            merge(head, unit)
            self.count(head)

    @property
    def mid_message(self) -> bool:
        """True while the client has got the first part of a message only."""
        return self._raw_left > 0 and not self._raw_skip

    def take_rest(self) -> bytes:
        """The start of a message that is not whole yet: somebody else will read its end."""
        rest, self._carry = self._carry, b""
        return rest

    @property
    def holding(self) -> bool:
        """True while bytes for the client are held back."""
        return bool(self.inflight and self.inflight[0].held)

    def release(self) -> tuple[bytes, ...]:
        """Stop holding the head's answer back; returns what was held."""
        if not self.inflight or self.inflight[0].held is None:
            return ()
        unit = self.inflight[0]
        held, unit.held = unit.held, None
        assert held is not None
        if held:
            unit.released = True
            marks: list[Mark] = []
            unit.rows += sum(scan(part, 0, EVERY_REPLY, marks)[1] for part in held)
            # Nobody else will see these: a CommandComplete may be the unit's commit marker.
            unit.answered = unit.answered or any(kind in _ANSWERS for kind, _, _ in marks)
            unit.replies += sum(kind in REPLIES for kind, _, _ in marks)
        return held

    def lost(self) -> list[Unit]:
        """The link is gone: returns the units owed, oldest first, and owes nothing any more."""
        units = list(self.inflight)
        self.inflight.clear()
        self._watching = 0
        self._carry = b""
        self._raw_left, self._raw_skip = 0, False
        self.fault = None
        self.guarded = False
        self.missing = set(self.state.statements)
        return units

    # -- from the link

    def whole_answer(self, data: bytes) -> bool:
        """True if the chunk is all of the one answer owed, and taught nothing: pass it on as it is.

        The commonest case, told cheaply; nothing has happened when it is False: then feed().
        """
        inflight = self.inflight
        if len(inflight) != 1 or self._carry or self._raw_left:
            return False
        unit = inflight[0]
        if unit.skip or unit.read_only or unit.held_bytes or unit.on_done is not None:
            return False
        if unit.counted and not (only_parses(unit) and data.startswith(_PARSE_COMPLETE)):
            return False
        status = ends_in_ready(data, FEW_REPLIES)
        if status not in (IDLE, IN_TRANSACTION, FAILED):
            return False
        inflight.popleft()
        if unit.counted:  # no error came, so its statements did
            self._swallow(unit)
            for _ in unit.parses or ():
                parsed(self, unit)
        self._finish(unit, status)
        self.status = status
        return True

    def feed(self, data: bytes) -> list[bytes]:
        """What the client gets now, in order. `data` is the next chunk of the server's bytes.

        The caller writes the result, then looks at `fatal` (the link is dying), `holding`
        (start the 20 ms), `inflight`, and `fault`: no server says such bytes, so the link is lost.
        """
        out: list[bytes] = []
        if self._raw_left:
            data = self._pass_raw(data, out)
            if not data:
                return out
        data, self._carry = self._carry + data, b""
        marks = self._marks
        marks.clear()
        inflight = self.inflight
        every = self._watching or (inflight and inflight[0].released)
        try:
            end, rows = scan(data, 0, EVERY_REPLY if every else FEW_REPLIES, marks)
        except PeerProtocolError as error:
            # What came before the nonsense is good, and may be all that somebody waits for.
            self.fault = error
            data = data[: marks[-1][2]] if marks else b""
            end, rows = len(data), 0
        try:
            self._walk(data, marks, (end, rows if every else 0), out)
        except PeerProtocolError as error:
            self.fault = error
        return out

    def _walk(
        self, data: bytes, marks: list[Mark], size: tuple[int, int], out: list[bytes]
    ) -> None:
        """Deal with the whole messages of a chunk, keep its rest. May raise behind any of them."""
        inflight = self.inflight
        end, rows = size
        begin = 0
        for kind, start, stop in marks:
            if kind == _READY:
                begin = self._ready(data, begin, (start, stop), out)
                rows = 0
            elif kind in _NEWS:
                begin = self._news(kind, data, begin, (start, stop), out)
            elif kind in _LESSONS:
                if inflight:
                    begin = self._lesson(kind, data, begin, (start, stop), out)
            elif kind in _NEVER:
                raise PeerProtocolError(f"unexpected message {kind}", Reason.UPSTREAM_PROTOCOL)
        if begin < end:
            if inflight and inflight[0].held is None:
                inflight[0].rows += rows
            self._part(data, begin, end, out)
        if end < len(data):
            self._keep(data[end:], out)

    def _ready(self, data: bytes, begin: int, at: tuple[int, int], out: list[bytes]) -> int:
        """ReadyForQuery: the head's answer is whole."""
        start, stop = at
        if not self.inflight:
            raise PeerProtocolError("ReadyForQuery without a query", Reason.UPSTREAM_PROTOCOL)
        status = data[stop - 1]
        if stop - start != READY_BYTES or status not in _STATUSES:
            raise PeerProtocolError("invalid transaction status", Reason.UPSTREAM_PROTOCOL)
        unit = self.inflight.popleft()
        if not unit.skip:
            out.extend(unit.held or ())
            if unit.read_only:
                if begin < start:
                    out.append(data[begin:start])
                out.append(_READY_IDLE)
                status = IDLE
            elif begin == 0 and stop == len(data):
                out.append(data)
            else:
                out.append(data[begin:stop])
            self._finish(unit, status)
            self.status = status
        self._swallow(unit)
        if unit.on_done is not None:
            unit.on_done(status)
        return stop

    def _finish(self, unit: Unit, status: int) -> None:
        """What the end of a client's unit teaches."""
        state = self.state
        self.transactions += 1
        if unit.watch or unit.errored or self.learned:
            self.learned = True
            state.ready(status)
        if not state.wrote and unit.writes():
            state.wrote = True  # a trigger may have changed the session
        if (unit.kind is Kind.QUERY or unit.mixed) and b"" in state.statements:
            state.simple_query_ran()
            self.missing.discard(b"")
        if status != IN_TRANSACTION:
            self.prologue = None
            if status == IDLE and self.gatherer.portals and not self.gatherer.in_unit:
                self.gatherer.portals.clear()  # but for what the client is binding already
        elif self.status == IDLE or self.prologue is not None:
            extend_prologue(self, unit)

    def _part(self, data: bytes, begin: int, end: int, out: list[bytes]) -> None:
        """Whole messages of an answer that is not at its end (or of none: then they go on)."""
        if not self.inflight:
            out.append(data[begin:end])
            return
        unit = self.inflight[0]
        if unit.skip:
            return
        if unit.held is None:
            unit.released = True
            if unit.owed:
                unit.replies += replies_in((data[begin:end],))
            out.append(data[begin:end])
            return
        unit.held = (*unit.held, data[begin:end])
        unit.held_bytes += end - begin
        if unit.held_bytes > HELD_BYTES_MAX or (unit.flushed and flush_is_over(unit)):
            out.extend(self.release())

    def _keep(self, rest: bytes, out: list[bytes]) -> None:
        """The first part of a message. A long one is passed on as it comes."""
        size = whole_bytes(rest)
        if size > RAW_BYTES_MIN and rest[0] in _LONG:
            unit = self.inflight[0] if self.inflight else None
            self._raw_skip = unit is not None and unit.skip
            self._raw_left = size - len(rest)
            if not self._raw_skip:
                out.extend(self.release())
                out.append(rest)
                if unit is not None:
                    unit.released = True
                    unit.rows += 1
            return
        if size > NEWS_BYTES_MAX:
            raise PeerProtocolError(f"message of {size} bytes", Reason.UPSTREAM_PROTOCOL)
        self._carry = rest

    def _pass_raw(self, data: bytes, out: list[bytes]) -> bytes:
        part, rest = data[: self._raw_left], data[self._raw_left :]
        self._raw_left -= len(part)
        if not self._raw_skip:
            out.append(part)
        return rest

    def _news(
        self, kind: int, data: bytes, begin: int, at: tuple[int, int], out: list[bytes]
    ) -> int:
        """A message that may change what we know. Returns where the unsent bytes begin."""
        start, stop = at
        unit = self.inflight[0] if self.inflight else None
        skip = unit is not None and unit.skip
        if kind == _PARAMETER:
            name, value = messages.read_parameter_status(data, start + 5, stop)
            self.link_params[name] = value
            self.learned = True
            if not skip:
                told(self, name, value)
                if unit is not None:
                    self.state.reported(name, value)
        elif kind == _NOTIFICATION and unit is not None:
            if skip or (begin == start and not unit.held):  # no part of the answer, none before it
                out.append(data[start:stop])
                return stop
        elif kind == _NOTICE:
            if data.find(b"C57P0", start, stop) >= 0:
                warning = farewell(data[start + 5 : stop])
                if warning is not None:
                    self.warning = warning
                    return self._without(data, begin, (start, stop), out)
        elif kind == _ERROR:
            return self._error(data, begin, (start, stop), out)
        elif unit is not None:  # CopyInResponse: the client must see it to go on
            self._copy_in(unit)
            if not skip:
                out.extend(self.release())
                unit.held = None
        return begin

    def _without(self, data: bytes, begin: int, at: tuple[int, int], out: list[bytes]) -> int:
        """Leave the message out; what stands before it goes its way."""
        if begin < at[0]:
            self._part(data, begin, at[0], out)
        return at[1]

    def _error(self, data: bytes, begin: int, at: tuple[int, int], out: list[bytes]) -> int:
        start, stop = at
        body = data[start + 5 : stop]
        if b"FATAL" in body or b"PANIC" in body:
            fields = messages.error_fields(body)
            if messages.is_fatal(fields):
                self.fatal = fields
                self.fatal_wire = data[start:stop]
                return self._without(data, begin, at, out)
        unit = self.inflight[0] if self.inflight else None
        if unit is None:
            return begin
        unit.errored = True
        unit.copying = False
        if unit.mixed and not at_its_query(unit):
            unit.needs_sync = True  # the server skips to a Sync, its Query included
        if unit.skip:
            return begin
        unlearn(self, unit)
        self.state.errored()
        if unit.read_only and b"C25006\0" in body and self.on_refused_read_only is not None:
            begin = self._without(data, begin, at, out)
            said = self.on_refused_read_only()
            if unit.held is None:
                out.append(said)
            else:
                unit.held = (*unit.held, said)
        return begin

    def _copy_in(self, unit: Unit) -> None:
        unit.copying = True
        unit.pieces = None
        following = self.inflight[1] if len(self.inflight) > 1 else None
        if following is not None and not unit.copied and is_broken_row(unit, following):
            del self.inflight[1]
            self._swallow(following)
            return
        if at_its_query(unit):
            return  # it needs no Sync: its ReadyForQuery comes by itself
        if unit.kind is Kind.BATCH and unit.complete and not unit.rows_ended:
            unit.needs_sync = True  # the Sync behind its Execute was one of the rows
            if following is not None and not following.skip:
                del self.inflight[1]
                self._join(unit, following)

    def _lesson(
        self, kind: int, data: bytes, begin: int, at: tuple[int, int], out: list[bytes]
    ) -> int:
        """A completion that may confirm something. Returns where the unsent bytes begin."""
        unit = self.inflight[0]
        if kind == _PARSED:
            unit.parses_seen += 1
            if unit.injected and unit.parses_seen - 1 in unit.injected:
                return self._without(data, begin, at, out)
            if not unit.skip:
                parsed(self, unit)
        elif kind == _CLOSED:
            if not unit.skip:
                closed(self, unit)
        else:
            unit.answered = True
            unit.copying = False
            if not unit.skip and unit.watch:
                self._ran(unit, kind, data, at)
        return begin

    def _ran(self, unit: Unit, kind: int, data: bytes, at: tuple[int, int]) -> None:
        """One statement of the unit has ended well: its effects on the session count."""
        unit.next_execute += 1
        if kind == _COMPLETE:
            statement, bind = executed(unit, unit.next_execute - 1)
            tag = messages.read_command_tag(data, at[0] + 5, at[1])
            self.state.ran(statement, tag, bound(bind, self.state.statements))
