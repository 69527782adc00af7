"""RESP framing: where commands and replies end. Owns offsets, knows no command and no socket.

Two resumable scanners, one per direction. Both look at each byte of a header once, at no payload
byte at all, and keep their place between chunks, so a chunk that ends anywhere costs nothing extra.

The command side accepts exactly what Redis accepts (`processMultibulkBuffer` and
`processInlineBuffer`): commands of many clients share one link, so a boundary on which we and the
server disagree would let one client speak in another's name. Hence strict canonical numbers, and
Redis's own error texts (reference/redis.md, section 4, last paragraphs; exp 19).

Source: RESP2 and RESP3 protocol specification, redis.io/docs/reference/protocol-spec.
"""

from typing import Final

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason

COMPILED = not __file__.endswith(".py")  # by mypyc; the whole data path then is

INLINE_BYTES_MAX: Final = 64 * 1024
ARGS_MAX: Final = 2**31 - 1
BULK_BYTES_MAX: Final = 512 * 1024 * 1024
LINE_BYTES_MAX: Final = 1024 * 1024
DEPTH_MAX: Final = 4096
UNAUTHENTICATED_ARGS_MAX: Final = 10
UNAUTHENTICATED_BULK_BYTES_MAX: Final = 16384

# Values of `name_start` in the marks of CommandScanner that are not offsets.
INLINE: Final = -1
EMPTY: Final = -2

_STREAMED: Final = 1 << 60
_SIMPLE: Final = b"+-:_,#("
_BLOB: Final = b"$=!"
_AGGREGATE: Final = b"*%~>|"


def read_number(buf: bytes, start: int, end: int) -> int:
    """Decimal number in buf[start:end]; -2**62 if it is not written the one way Redis accepts.

    No plus sign, no leading zero, no blanks (`string2ll`). Never raises.
    """
    size = end - start
    if size < 1 or size > 19:
        return -(1 << 62)
    first = buf[start]
    if first == 45:  # '-'
        if size == 1 or not 49 <= buf[start + 1] <= 57:
            return -(1 << 62)
        return -read_number(buf, start + 1, end)
    if first == 48:  # '0' stands alone only
        return 0 if size == 1 else -(1 << 62)
    value = 0
    for index in range(start, end):
        digit = buf[index] - 48
        if digit < 0 or digit > 9:
            return -(1 << 62)
        value = value * 10 + digit
    return value


class CommandScanner:
    """Finds the commands in a client's bytes.

    `feed(buf)` scans from where the last call stopped. `start` is the offset of the first byte not
    yet covered by a reported command, `need` the buffer length below which another call finds
    nothing new. After dropping a consumed prefix of `n` bytes call `rebase(n)`.
    """

    def __init__(self) -> None:
        self.start = 0
        self.need = 1
        self.authenticated = True
        self._pos = 0
        self._args_left = 0
        self._name_start = 0
        self._name_end = 0

    def rebase(self, dropped_bytes: int) -> None:
        """The buffer now begins `dropped_bytes` later; these belonged to reported commands."""
        assert dropped_bytes <= self.start
        self.start -= dropped_bytes
        self._pos -= dropped_bytes
        self.need -= dropped_bytes
        if self._name_start:  # 0: the command in progress has not come to its name yet
            self._name_start -= dropped_bytes
            self._name_end -= dropped_bytes

    def feed(self, buf: bytes) -> list[int]:
        """Whole commands as flat quadruples: start, name_start, name_end, end.

        name_start is INLINE for an inline command (buf[start:end] is its line) and EMPTY for what
        Redis skips in silence. Stops before an incomplete command; call again with a longer buffer.

        Raises: PeerProtocolError with Redis's own text. Commands before the fault are reported by
        this call first; the fault is raised by the next call.
        """
        marks: list[int] = []
        size = len(buf)
        try:
            while self._pos < size:
                if self._args_left == 0:
                    if not self._open(buf, size, marks):
                        break
                elif not self._arguments(buf, size, marks):
                    break
            else:
                self.need = size + 1
        except PeerProtocolError:
            if not marks:
                raise
        return marks

    def _open(self, buf: bytes, size: int, marks: list[int]) -> bool:
        """Reads a command's first line. False if the buffer ends inside it."""
        pos = self._pos
        if buf[pos] != 42:  # '*'
            return self._inline(buf, size, marks)
        end = buf.find(b"\r", pos)
        if end < 0 or end + 2 > size:
            if size - pos > INLINE_BYTES_MAX:
                raise PeerProtocolError("Protocol error: too big mbulk count string")
            self.need = size + 1
            return False
        count = read_number(buf, pos + 1, end)
        if count > ARGS_MAX or count == -(1 << 62):
            raise PeerProtocolError("Protocol error: invalid multibulk length")
        if count > UNAUTHENTICATED_ARGS_MAX and not self.authenticated:
            raise PeerProtocolError("Protocol error: unauthenticated multibulk length")
        self._pos = end + 2
        if count <= 0:
            self._report(marks, EMPTY, EMPTY)
        else:
            self._args_left = count
            self._name_start = 0
        return True

    def _arguments(self, buf: bytes, size: int, marks: list[int]) -> bool:
        """Steps over the arguments of a command. False if the buffer ends before the last."""
        pos = self._pos
        left = self._args_left
        while left:
            if pos >= size:
                break
            if buf[pos] != 36:  # '$'
                raise PeerProtocolError(_expected_dollar(buf[pos]))
            # Nearly every length has one digit or two: these are read in place.
            digit = buf[pos + 1] - 48 if pos + 5 < size else -1
            if 0 <= digit <= 9 and buf[pos + 2] == 13:
                end, length = pos + 2, digit
            elif 0 < digit <= 9 and buf[pos + 3] == 13 and 48 <= buf[pos + 2] <= 57:
                end, length = pos + 3, digit * 10 + buf[pos + 2] - 48
            else:
                end = buf.find(b"\r", pos)
                if end < 0 or end + 2 > size:
                    return self._cut_header(size, pos, left)
                length = self._length(buf, pos, end)
            following = end + 4 + length
            if following > size:
                self.need = following
                self._pos = pos
                self._args_left = left
                return False
            if self._name_start == 0:
                self._name_start = end + 2
                self._name_end = end + 2 + length
            pos = following
            left -= 1
        self._pos = pos
        self._args_left = left
        if left:
            self.need = size + 1
            return False
        self._report(marks, self._name_start, self._name_end)
        return True

    def _cut_header(self, size: int, pos: int, left: int) -> bool:
        """The buffer ends inside an argument's header at `pos`."""
        if size - pos > INLINE_BYTES_MAX:
            raise PeerProtocolError("Protocol error: too big bulk count string")
        self.need = size + 1
        self._pos = pos
        self._args_left = left
        return False

    def _length(self, buf: bytes, pos: int, end: int) -> int:
        """An argument's length, from its header buf[pos:end]."""
        length = read_number(buf, pos + 1, end)
        if length < 0 or length > BULK_BYTES_MAX:
            raise PeerProtocolError("Protocol error: invalid bulk length")
        if length > UNAUTHENTICATED_BULK_BYTES_MAX and not self.authenticated:
            raise PeerProtocolError("Protocol error: unauthenticated bulk length")
        return length

    def _inline(self, buf: bytes, size: int, marks: list[int]) -> bool:
        end = buf.find(b"\n", self._pos)
        if end < 0:
            if size - self._pos > INLINE_BYTES_MAX:
                raise PeerProtocolError("Protocol error: too big inline request")
            self.need = size + 1
            return False
        self._pos = end + 1
        blank = not buf[self.start : end].strip(b" \t\r\v\f\0")
        self._report(marks, EMPTY if blank else INLINE, 0)
        return True

    def _report(self, marks: list[int], name_start: int, name_end: int) -> None:
        marks.append(self.start)
        marks.append(name_start)
        marks.append(name_end)
        marks.append(self._pos)
        self.start = self._pos
        self._name_start = 0


def _expected_dollar(got: int) -> str:
    # Redis prints the byte itself, and blanks for CR and LF, which would break the error line.
    shown = " " if got in (10, 13) else chr(got)
    return f"Protocol error: expected '$', got '{shown}'"


class ReplyScanner:
    """Finds the ends of top-level replies in an upstream's bytes.

    `feed(chunk)` returns the ends as offsets into `held + chunk`, where `held` is what `feed` left
    in `self.carry` the time before: the bytes of one header line cut by the chunk's end. The caller
    joins `carry` and the new chunk before feeding (see `feed`). A frame in progress needs no other
    buffering: its payload may be passed on before its end is known.
    """

    def __init__(self) -> None:
        self.carry = b""
        self.errors: list[int] = []
        self.pushes: list[int] = []
        self._stack: list[int] = []
        self._skip_bytes = 0
        self._kind = 0

    @property
    def at_boundary(self) -> bool:
        """True if no frame is in progress."""
        return not self._stack and not self._skip_bytes and not self.carry and not self._kind

    def feed(self, chunk: bytes) -> list[int]:
        """Ends of whole frames in `chunk`, which must begin with the former `carry`.

        `errors` and `pushes` hold the indexes (into the result) of frames that are errors (`-`,
        `!`) or pushes (`>`), for this call only. Afterwards all of `chunk` but the `carry` at its
        end is consumed. Raises: PeerProtocolError on bytes no server sends.
        """
        ends: list[int] = []
        if self.errors:
            self.errors = []
        if self.pushes:
            self.pushes = []
        size = len(chunk)
        pos = self._skip_bytes
        if pos:
            if pos > size:
                self._skip_bytes = pos - size
                return ends
            self._skip_bytes = 0
            self._finish(ends, pos)
        self.carry = b""
        while pos < size:
            kind = chunk[pos]
            if not self._kind:
                following = _short_reply(chunk, kind, pos, size)
                if following:
                    ends.append(following)
                    pos = following
                    continue
                self._kind = kind
            end = chunk.find(b"\r\n", pos)
            if end < 0:
                if size - pos > LINE_BYTES_MAX:
                    raise _broken("reply line too long")
                self.carry = chunk[pos:]
                break
            pos = self._token(chunk, kind, pos, end, ends)
            if pos > size:
                self._skip_bytes = pos - size
                break
        return ends

    def _token(self, chunk: bytes, kind: int, pos: int, end: int, ends: list[int]) -> int:
        """Steps over one token; its end, which may lie beyond the chunk (payload still to come)."""
        following = end + 2
        if kind in _SIMPLE:
            self._finish(ends, following)
        elif kind in _BLOB:
            if chunk[pos + 1] == 63:  # '$?': a streamed string
                self._push(_STREAMED)
                return following
            length = read_number(chunk, pos + 1, end)
            if length >= 0:
                following += length + 2
                if following > len(chunk):
                    return following
            elif length != -1:
                raise _broken("bad bulk length")
            self._finish(ends, following)
        elif kind in _AGGREGATE:
            self._aggregate(chunk, kind, pos, end, ends)
        else:
            following = self._streamed(chunk, kind, pos, end, ends)
        return following

    def _aggregate(self, chunk: bytes, kind: int, pos: int, end: int, ends: list[int]) -> None:
        if chunk[pos + 1] == 63:
            self._push(_STREAMED)
            return
        count = read_number(chunk, pos + 1, end)
        if count < -1:
            raise _broken("bad aggregate length")
        if kind == 37 or kind == 124:  # '%' and '|' count pairs
            count *= 2
        if kind == 124:
            # An attribute annotates the value behind it and is not an element itself.
            if count > 0:
                self._push(-count)
            elif not self._stack:
                self._kind = 0
        elif count > 0:
            self._push(count)
        else:
            self._finish(ends, end + 2)

    def _streamed(self, chunk: bytes, kind: int, pos: int, end: int, ends: list[int]) -> int:
        """Parts of streamed types, which no server emits but the specification has."""
        if not self._stack or self._stack[-1] <= 1 << 59:
            raise _broken("unknown reply type")
        if kind == 46:  # '.' ends a streamed aggregate
            self._stack.pop()
            self._finish(ends, end + 2)
            return end + 2
        length = read_number(chunk, pos + 1, end)
        if kind != 59 or length < 0:  # ';'
            raise _broken("bad chunk of a streamed string")
        if length == 0:
            self._stack.pop()
            self._finish(ends, end + 2)
            return end + 2
        # The part's payload counts as an element of the endless count, which is harmless.
        following = end + 4 + length
        if following <= len(chunk):
            self._finish(ends, following)
        return following

    def _push(self, count: int) -> None:
        if len(self._stack) >= DEPTH_MAX:
            raise _broken("reply nested too deep")
        self._stack.append(count)

    def _finish(self, ends: list[int], end: int) -> None:
        """One element is complete; so may be the aggregates around it."""
        stack = self._stack
        while stack:
            left = stack[-1]
            if left < 0:
                stack[-1] = left + 1
                if left == -1:
                    stack.pop()
                    if not stack:
                        # The annotated value follows; its kind is the frame's kind.
                        self._kind = 0
                return
            if left > 1:
                stack[-1] = left - 1
                return
            stack.pop()
        if self._kind == 45 or self._kind == 33:
            self.errors.append(len(ends))
        elif self._kind == 62:
            self.pushes.append(len(ends))
        self._kind = 0
        ends.append(end)


def _short_reply(chunk: bytes, kind: int, pos: int, size: int) -> int:
    """End of the reply at `pos`, if it is a whole one of the commonest sorts; else 0."""
    if kind == 36:  # '$' with a length of one digit or two
        if pos + 5 > size:
            return 0
        digit = chunk[pos + 1] - 48
        if not 0 <= digit <= 9:
            return 0
        second = chunk[pos + 2]
        if second == 13:
            end = pos + 6 + digit
        elif digit and 48 <= second <= 57 and chunk[pos + 3] == 13:
            end = pos + 7 + digit * 10 + second - 48
        else:
            return 0
        return end if end <= size else 0
    if kind == 43 or kind == 58:  # '+' and ':'
        line_end = chunk.find(b"\r\n", pos)
        return line_end + 2 if line_end >= 0 else 0
    return 0


def _broken(what: str) -> PeerProtocolError:
    return PeerProtocolError(f"upstream broke RESP: {what}", Reason.UPSTREAM_PROTOCOL)
