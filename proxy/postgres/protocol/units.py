"""Client bytes gathered into units: the smallest thing that is sent, answered, replayed or refused.

A *unit* is one Query, one FunctionCall, or the extended-protocol messages up to their Sync; each
is answered by exactly one ReadyForQuery (PostgreSQL documentation, "Message Flow"). A unit that
fits the cap is kept whole until it is answered, which is the journal that a replay needs; a larger
one is passed on in pieces and cannot be sent a second time.

Owns: the cutting of the client's stream, and what each unit will do (statements prepared, used,
closed and executed). Must not know: sockets, links, whether the server is there.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol.classify import Classifier
from proxy.postgres.protocol.framing import Mark, scan, whole_bytes
from proxy.postgres.protocol.statement import Class, Opaque, Script, Tx

UNIT_BYTES_MAX = 1 << 20  # not Final: tests set it
RAW_HEAD_BYTES = 8 << 10  # of a longer message, seen before it is passed on: names stand there

_NOT_ROWS = bytes(code != ord("d") for code in range(256))
_QUERY, _CALL, _SYNC, _FLUSH = b"QFSH"
_PARSE, _BIND, _DESCRIBE, _CLOSE, _EXECUTE = b"PBDCE"
_COPY = frozenset(b"dcf")  # "d" comes in bulk and is seen as the gap between two marks
_TERMINATE = ord("X")
_ENDS = frozenset(b"QFS")
_KNOWN = frozenset(b"QFSHPBDCEdcfX")
_LONG = frozenset(b"QFPBd")  # the server takes more than 10 kB of these only
_ROWS = ord("d")


class Kind(Enum):
    """What ends the unit, and so how its errors are skipped."""

    QUERY = auto()
    CALL = auto()
    BATCH = auto()


class Unit:
    """One unit: its bytes, what it does, and how far its answer has come.

    `pieces` is the journal: the unit's bytes so far, or None once they are no longer kept. Few
    units exist at a time and most change few of these, so the defaults stand in the class: that
    makes a unit four times cheaper to make than with slots.
    """

    complete = False  # its last byte has been gathered
    owed = 0  # extended-protocol messages in it: each gets a reply
    flushed = False  # a Flush stands in it: the client waits before its Sync
    # What it does. For a Query `script` says it all; a batch has lists.
    script: Script | None = None
    parses: list[tuple[bytes, bytes]] | None = None
    uses: list[bytes] | None = None
    closes: list[tuple[int, bytes]] | None = None
    executes: list[tuple[Script | None, bytes]] | None = None
    watch = False  # its CommandCompletes have something to teach
    bare = True  # nothing but Flush and Sync stands in it
    rows_ended = False  # CopyDone or CopyFail came within it, before its Sync
    mixed = False  # a batch that a Query ends instead of a Sync
    # Where its answer stands.
    started = False  # some of its bytes were handed to a link
    begins_at = 0  # where its bytes lie among all that its link was given
    ends_at = 0
    unsent = False  # its last byte never left this machine
    untouched = False  # none of its bytes did
    skip = False  # sent by the proxy: no byte of the answer is for the client
    read_only = False  # runs inside the proxy's BEGIN READ ONLY
    injected: dict[int, bytes] | None = None  # which of its ParseCompletes answer the proxy
    parses_seen = 0
    sent_parses = 0  # how many of `parses` and `uses` stand in what was sent
    sent_uses = 0
    next_parse = 0
    next_close = 0
    next_execute = 0
    errored = False
    answered = False  # a CommandComplete was seen
    counted = False  # among those whose answers are read message by message
    copying = False  # CopyInResponse was seen: the client is sending rows
    copied = False  # ... and it has sent CopyDone or CopyFail
    given_up = False  # ... and it was CopyFail: nothing of the unit is saved
    needs_sync = False  # its Sync was swallowed by a COPY; the next one counts
    replies = 0  # ... of which so many have reached the client
    delivered = False  # all of them had when the link died: only its Sync is to be answered
    released = False  # some of its answer has reached the client
    rows = 0
    held: tuple[bytes, ...] | None = None  # its answer's start; None once it may not be held
    held_bytes = 0
    attempts = 0
    say: bytes | None = None  # what the proxy answers itself, instead of sending it
    on_done: Callable[[int], None] | None = None

    def __init__(self, kind: Kind, data: bytes | None = None) -> None:
        self.kind = kind
        self.pieces: list[bytes] | None = [] if data is None else [data]
        self.size = 0 if data is None else len(data)

    @property
    def data(self) -> bytes:
        """The journal as one byte string. Only for a unit that is still kept."""
        assert self.pieces is not None
        return self.pieces[0] if len(self.pieces) == 1 else b"".join(self.pieces)

    def restart(self) -> None:
        """Forget how far the answer had come: the unit goes out again."""
        self.started = self.errored = self.answered = self.copying = self.needs_sync = False
        self.released = self.counted = self.copied = self.unsent = self.untouched = False
        self.given_up = False
        self.next_parse = self.next_close = self.next_execute = 0
        self.parses_seen = self.sent_parses = self.sent_uses = 0
        self.injected = self.held = None
        self.begins_at = self.ends_at = 0
        self.rows = self.held_bytes = self.replies = 0
        self.attempts += 1

    def rows_end(self, end: bytes) -> None:
        """`end`, CopyDone or CopyFail, goes out behind it.

        What comes behind the first of them the server ignores, and so it does while it has not
        come to the COPY.
        """
        if self.copying and not self.copied:
            self.given_up = end.startswith(b"f")
        self.copied = True

    def scripts(self) -> tuple[Script | None, ...]:
        """The scripts it executes, in order; None where the text was not analysed."""
        if self.kind is Kind.BATCH:
            return tuple(script for script, _ in self.executes or ())
        return (self.script,)

    @property
    def in_doubt(self) -> bool:
        """True if it is to run again as a read, and its first run called what may have written."""
        scripts = [script for script in self.scripts() if script is not None]
        return self.read_only and any(
            one.opaque is not Opaque.NONE for script in scripts for one in script.statements
        )

    def writes(self) -> bool:
        """True if it may run a write, or something that is not known."""
        if self.kind is Kind.QUERY:
            return self.script is None or self.script.kind is not Class.READ
        if self.kind is Kind.CALL:
            return True
        for script, _ in self.executes or ():  # asked of every unit: no generator
            if script is None or script.kind is not Class.READ:
                return True
        return False

    def class_of(self) -> Class:
        """The class of the whole unit for the verdict (reference, section 2).

        A batch is one implicit transaction: reads stay reads, reads and writes are one write,
        anything that steers transactions or is not known makes it OTHER.
        """
        scripts = self.scripts()
        if not scripts:
            return Class.READ  # only Parse, Describe, Close: nothing was executed
        if len(scripts) == 1:
            return scripts[0].kind if scripts[0] is not None else Class.OTHER
        kinds = {script.kind if script is not None else Class.OTHER for script in scripts}
        if kinds == {Class.READ}:
            return Class.READ
        if kinds <= {Class.READ, Class.WRITE, Class.SEQUENCE}:
            return Class.WRITE
        return Class.OTHER

    def tx(self) -> Tx:
        """The one transaction verb of a unit of one statement, NONE otherwise."""
        scripts = self.scripts()
        if len(scripts) == 1 and scripts[0] is not None and len(scripts[0].statements) == 1:
            return scripts[0].statements[0].tx
        return Tx.NONE

    def steers(self) -> bool:
        """True if any statement in it begins or ends a transaction, or is not known."""
        return any(
            script is None or any(one.tx is not Tx.NONE for one in script.statements)
            for script in self.scripts()
        )


QUERY: Final = Kind.QUERY  # for the hot path: compiled, a member of an Enum is a look-up
BATCH: Final = Kind.BATCH

# Of feed(): bytes, their unit (None: COPY rows, a Terminate), and whether they complete it.
Piece = tuple[Unit | None, bytes, bool]


class Gatherer:
    """Cuts one client's stream into pieces of units. See feed()."""

    __slots__ = (
        "_gathered",
        "_open",
        "_raw_ends",
        "_raw_left",
        "_raw_unit",
        "_tail",
        "classifier",
        "conforming",
        "fault",
        "names",
        "portals",
        "terminated",
    )

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.conforming = True  # the client's standard_conforming_strings
        self._open: Unit | None = None  # the unit being gathered
        self._gathered: list[bytes] = []  # its bytes that are in no piece yet
        self._tail = b""  # a message that is not whole yet
        self._raw_left = 0  # bytes still to come of a message too long to gather
        self._raw_unit: Unit | None = None  # ... the unit it is in, None for COPY rows
        self._raw_ends = False  # ... and whether it ends that
        self.names: dict[bytes, Script | None] = {}  # prepared statements as the client sees them
        self.portals: dict[bytes, tuple[Script | None, bytes]] = {}
        self.terminated = False
        self.fault: PeerProtocolError | None = None  # the client broke the protocol

    @property
    def pending_bytes(self) -> int:
        """Bytes kept that are in no piece yet. At most UNIT_BYTES_MAX and one chunk."""
        return len(self._tail) + sum(map(len, self._gathered))

    def feed(self, data: bytes) -> list[Piece]:
        """Pieces to send, in order; what is not a whole unit yet stays here.

        The caller sends each piece, or queues it while there is no link. Then it looks at
        `terminated` and at `fault` (a type or length that no client sends): either way the client
        is to be closed when what it sent before has been answered.
        """
        pieces: list[Piece] = []
        try:
            self._feed(data, pieces)
        except PeerProtocolError as error:
            self.fault = error
        return pieces

    def _feed(self, data: bytes, pieces: list[Piece]) -> None:
        """Appends to pieces; raises behind those that are good."""
        if self._raw_left:
            data = self._pass_raw(data, pieces)
            if not data:
                return
        data = self._tail + data
        marks: list[Mark] = []
        try:
            end, rows = scan(data, 0, _NOT_ROWS, marks, Reason.CLIENT_PROTOCOL)
        except PeerProtocolError as error:
            # The units before the nonsense were meant, and are answered first.
            self.fault = error
            data = data[: marks[-1][2]] if marks else b""
            end, rows = len(data), 0
        if rows:
            marks.append((0, end, end))
        begin = 0  # first byte that is in no piece and not in _gathered
        seen = 0  # where the last marked message ended
        for kind, start, stop in marks:
            if start > seen:
                begin = self._copy(data, begin, seen, start, pieces)
            seen = stop
            if start == end:
                break
            if kind not in _KNOWN:
                raise PeerProtocolError(f"invalid frontend message type {kind}")
            if kind in _ENDS:
                self._end(kind, data, start, stop)
                begin = self._cut(data, begin, stop, True, pieces)
            elif kind == _FLUSH:
                self._opened().flushed = True
                begin = self._cut(data, begin, stop, False, pieces)
            elif kind in _COPY:
                begin = self._copy(data, begin, start, stop, pieces)
            elif kind == _TERMINATE:
                begin = self._cut(data, begin, start, False, pieces)
                self.terminated = True
                return
            else:
                self._track(kind, data, start, stop)
        if begin < end:
            self._gathered.append(data[begin:end])
        self._tail = data[end:]
        self._spill(pieces)

    def script(self, text: bytes) -> Script:
        """What this SQL text is, as the server would read it in this session."""
        return self.classifier.script(text, self.conforming)

    @property
    def between_units(self) -> bool:
        """True if all that was fed is in pieces of units that are complete."""
        return self._open is None and not self._tail and not self._raw_left

    def script_of(self, parse: bytes) -> Script | None:
        """What a kept Parse message says; None if its text is not here."""
        name_end = parse.find(b"\0", 5)
        text_end = parse.find(b"\0", name_end + 1)
        return self.script(parse[name_end + 1 : text_end]) if text_end > 0 else None

    @property
    def in_unit(self) -> bool:
        """True while the client has sent a part of a unit only."""
        return self._open is not None or self._raw_left > 0

    # -- cutting

    def _opened(self) -> Unit:
        if self._open is None:
            self._open = Unit(Kind.BATCH)
        return self._open

    def _cut(self, data: bytes, begin: int, stop: int, last: bool, pieces: list[Piece]) -> int:
        """Put everything up to stop into a piece of the open unit; returns stop."""
        unit = self._open
        part = data[begin:stop] if begin or stop < len(data) else data
        if self._gathered:
            self._gathered.append(part)
            part = b"".join(self._gathered)
            self._gathered.clear()
        if unit is None:
            assert not part
            return stop
        if part or last:
            self._journal(unit, part)
            unit.complete = last
            pieces.append((unit, part, last))
        if last:
            self._open = None
        return stop

    @staticmethod
    def _journal(unit: Unit, part: bytes) -> None:
        unit.size += len(part)
        if unit.pieces is not None:
            if unit.size > UNIT_BYTES_MAX:
                unit.pieces = None
            else:
                unit.pieces.append(part)

    def _copy(self, data: bytes, begin: int, start: int, stop: int, pieces: list[Piece]) -> int:
        """COPY rows (or their end): never gathered, never kept."""
        if self._open is not None and (begin < start or self._gathered):
            self._cut(data, begin, start, False, pieces)
        if self._open is not None:
            self._open.pieces = None
            self._open.rows_ended = self._open.rows_ended or data[start] != _ROWS
        # CopyDone and CopyFail end the rows.
        pieces.append((None, data[start:stop], data[start] != ord("d")))
        return stop

    def _spill(self, pieces: list[Piece]) -> None:
        """Send on what is over the cap, in the middle of a unit or even of a message."""
        tail = self._tail
        if tail and tail[0] not in _KNOWN:
            raise PeerProtocolError(f"invalid frontend message type {tail[0]}")
        size = whole_bytes(tail, 0, Reason.CLIENT_PROTOCOL)
        if size > UNIT_BYTES_MAX and tail[0] not in _LONG:
            raise PeerProtocolError(f"invalid message length {size}")
        if size > UNIT_BYTES_MAX and (tail[0] == _ROWS or len(tail) >= RAW_HEAD_BYTES):
            self._tail = b""
            self._raw_left = size - len(tail)
            self._begin_raw(tail, pieces)
        elif self._gathered and self.pending_bytes > UNIT_BYTES_MAX:
            self._opened().pieces = None
            self._cut(b"", 0, 0, False, pieces)

    def _begin_raw(self, head: bytes, pieces: list[Piece]) -> None:
        """The first part of a message too long to gather: it is passed on as it comes."""
        kind = head[0]
        self._raw_ends = kind in _ENDS
        if kind == _ROWS:
            self._raw_unit = None
            self._copy(head, 0, 0, len(head), pieces)
            return
        if self._raw_ends:
            self._end(kind, head, 0, -1)
        else:
            self._track(kind, head, 0, -1)
        self._raw_unit = unit = self._opened()
        unit.pieces = None
        self._cut(head, 0, len(head), False, pieces)

    def _pass_raw(self, data: bytes, pieces: list[Piece]) -> bytes:
        part, rest = data[: self._raw_left], data[self._raw_left :]
        self._raw_left -= len(part)
        unit = self._raw_unit
        if unit is None:  # COPY rows
            pieces.append((None, part, False))
            return rest
        ended = self._raw_ends and not self._raw_left
        unit.complete = ended
        unit.size += len(part)
        pieces.append((unit, part, ended))
        if ended:
            self._open = None
        return rest

    # -- what the unit does

    def _end(self, kind: int, data: bytes, start: int, stop: int) -> None:
        """A message that ends a unit. stop = -1: only its first part is here."""
        if kind == _SYNC:
            self._opened()
            return
        script: Script | None = None
        if kind == _QUERY and stop > 0:
            # A Query without a body is no text; a compiled slice must not end before it begins.
            script = self.script(data[start + 5 : max(stop - 1, start + 5)])
        if self._open is not None:
            # A Query behind extended messages without a Sync: one unit, one ReadyForQuery.
            unit = self._open
            unit.executes = unit.executes or []
            unit.executes.append((script, b""))
            unit.mixed = unit.watch = True
        else:
            unit = self._open = Unit(Kind.QUERY if kind == _QUERY else Kind.CALL)
            unit.script = script
        unit.watch = unit.watch or script is None or not script.plain
        self.names.pop(b"", None)
        self.portals.pop(b"", None)

    def _track(self, kind: int, data: bytes, start: int, stop: int) -> None:
        """Note what an extended-protocol message will do; the server judges malformed ones.

        stop = -1: only the first part of the message is here. Raises PeerProtocolError if that
        does not even hold its names.
        """
        unit = self._opened()
        unit.bare = False
        unit.owed += 1
        limit = stop if stop > 0 else len(data)
        pos = start + 5
        if kind in (_CLOSE, _DESCRIBE):
            pos += 1
        first_end = data.find(b"\0", pos, limit)
        second_end = data.find(b"\0", first_end + 1, limit)
        if first_end < 0 or (kind == _BIND and second_end < 0):
            if stop < 0:
                raise PeerProtocolError("name too long")
        elif kind == _PARSE:
            self._parse(unit, data, (start, pos, first_end, second_end, stop))
        elif kind == _BIND:
            self._bind(unit, data, (start, pos, first_end, second_end, stop))
        elif kind == _EXECUTE:
            script, bind = self.portals.get(data[pos:first_end], (None, b""))
            if unit.executes is None:
                unit.executes = []
            unit.executes.append((script, bind))
            if script is None or not script.plain:
                unit.watch = True
        elif kind == _CLOSE:
            self._close(unit, data[pos - 1], data[pos:first_end])
        elif data[pos - 1] == 0x53:  # Describe of a statement
            self._use(unit, data[pos:first_end])

    def _parse(self, unit: Unit, data: bytes, at: tuple[int, int, int, int, int]) -> None:
        start, pos, name_end, text_end, stop = at
        name = data[pos:name_end]
        whole = stop > 0 and text_end >= 0
        script = self.script(data[name_end + 1 : text_end]) if whole else None
        self.names[name] = script
        if unit.parses is None:
            unit.parses = []
        unit.parses.append((name, data[start:stop] if whole else b""))

    def _bind(self, unit: Unit, data: bytes, at: tuple[int, int, int, int, int]) -> None:
        start, pos, portal_end, name_end, stop = at
        name = data[portal_end + 1 : name_end]
        script = self.names.get(name)
        keep = script is None or not script.plain
        self.portals[data[pos:portal_end]] = (
            script,
            data[start:stop] if keep and stop > 0 else b"",
        )
        self._use(unit, name)

    @staticmethod
    def _use(unit: Unit, name: bytes) -> None:
        if unit.parses is not None and any(name == parsed for parsed, _ in unit.parses):
            return
        if unit.uses is None:
            unit.uses = []
        unit.uses.append(name)

    def _close(self, unit: Unit, what: int, name: bytes) -> None:
        if unit.closes is None:
            unit.closes = []
        unit.closes.append((what, name))
        if what == 0x53:
            self.names.pop(name, None)
        else:
            self.portals.pop(name, None)
