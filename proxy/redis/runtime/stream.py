"""A client's byte stream: commands cut from what it sends, replies gathered into one write.

The base of `client.py`. Owns buffers, pauses and the transport; knows nothing of lanes or sessions.
"""

from typing import TYPE_CHECKING, Final

from proxy.core.reasons import Reason
from proxy.redis.protocol.framing import EMPTY, INLINE, CommandScanner
from proxy.redis.protocol.inline import split_inline
from proxy.redis.protocol.values import encode_command, split_args
from proxy.redis.runtime.options import Limits

if TYPE_CHECKING:
    import asyncio

WRITE_HIGH_BYTES: Final = 1024 * 1024
READ_AHEAD_BYTES_MAX: Final = 256 * 1024  # read from a client while it has to wait


class ClientStream:
    """Bytes of one client, both ways. An asyncio.Protocol in all but name (see `net.stream`).

    `marks` are the scanned commands of `buf` (see CommandScanner), `at` the first of them that has
    not been dealt with; `chunks` is what has been read behind `buf` and not been looked at.
    """

    def __init__(self, limits: Limits) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.limits = limits
        self.buf = b""
        self.marks: list[int] = []
        self.at = 0
        self.scanner = CommandScanner()
        self._chunks: list[bytes] = []
        self._chunk_bytes = 0
        self._out: list[bytes] = []
        self._pauses: set[str] = set()
        self.is_slow = False  # it has not read what it was sent: no more is made for it

    # -- in ----------------------------------------------------------------------------------

    @property
    def has_unread(self) -> bool:
        """Commands, or bytes that may be some, have been read and not dealt with."""
        return bool(self.marks or self._chunks)

    def read_ahead(self, chunk: bytes) -> None:
        """Keeps bytes for later; reading pauses when they become many."""
        self._chunks.append(chunk)
        self._chunk_bytes += len(chunk)
        if self._chunk_bytes > READ_AHEAD_BYTES_MAX:
            self.pause("waiting")

    def gather(self, chunk: bytes) -> bool:
        """Adds a chunk to the command in progress. False: its end is not there yet."""
        self._chunks.append(chunk)
        self._chunk_bytes += len(chunk)
        return len(self.buf) + self._chunk_bytes >= self.scanner.need

    @property
    def is_oversized(self) -> bool:
        """The command in progress is larger than allowed."""
        return len(self.buf) + self._chunk_bytes > self.limits.command_bytes_max

    @property
    def can_scan(self) -> bool:
        """Scanning may find something new."""
        return bool(self._chunks) or len(self.buf) >= self.scanner.need

    def scan(self, chunk: bytes | None = None) -> None:
        """Finds the commands in all that has been read (or in `chunk`, if that is all).

        Raises: PeerProtocolError with Redis's own text.
        """
        self.resume("waiting")
        if chunk is None:
            chunk = b"".join([self.buf, *self._chunks])
            self._chunks, self._chunk_bytes = [], 0
        self.buf = chunk
        self.marks = self.scanner.feed(chunk)
        self.at = 0

    def drop_consumed(self) -> None:
        """All marks are dealt with: keep only the bytes behind them."""
        consumed = self.scanner.start
        if consumed:
            self.buf = self.buf[consumed:]
            self.scanner.rebase(consumed)
        self.marks = []
        self.at = 0

    def drop_unread(self) -> None:
        """Nothing more of what was read will be dealt with."""
        self.drop_consumed()
        self._chunks, self._chunk_bytes = [], 0

    def next_command(self) -> tuple[bytes, list[bytes]]:
        """Takes the command at `at`: its bytes (array form) and arguments; none if it is empty.

        Raises: PeerProtocolError on an inline command with unbalanced quotes.
        """
        marks, at = self.marks, self.at
        self.at = at + 4
        start, name_start, end = marks[at], marks[at + 1], marks[at + 3]
        if name_start == EMPTY:
            return b"", []
        if name_start == INLINE:
            args = split_inline(self.buf[start:end])
            return encode_command(*args), args
        data = self.buf[start:end]
        return data, split_args(data, 0, len(data))

    # -- out ---------------------------------------------------------------------------------

    def deliver(self, data: bytes) -> None:
        """Bytes for the client, written at the next `write_out`."""
        self._out.append(data)

    def write(self, data: bytes) -> None:
        """Bytes for the client, written now: only while nothing is delivered and unwritten."""
        if self.transport is not None:
            self.transport.write(data)

    def write_out(self) -> None:
        """Writes what was delivered, as one."""
        out = self._out
        if not out:
            return
        self._out = []
        if self.transport is not None:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            if self.is_slow and self.unread_bytes > self.limits.client_output_bytes_max:
                self.close_for(Reason.CLIENT_TOO_SLOW)

    @property
    def unread_bytes(self) -> int:
        """Written, and not yet taken by the client's socket."""
        return self.transport.get_write_buffer_size() if self.transport is not None else 0

    def close_for(self, reason: Reason) -> None:
        """Closes the connection: what was delivered is sent first, unless it would never end."""
        if self.closed:
            return
        self.closed = True
        transport = self.transport
        if transport is None:
            return
        if reason is Reason.CLIENT_TOO_SLOW:
            transport.abort()
            return
        if self._out:
            transport.write(b"".join(self._out))
            self._out = []
        transport.close()

    # -- pauses ------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self.is_slow = True
        self.pause("slow reader")

    def resume_writing(self) -> None:
        self.is_slow = False
        self.resume("slow reader")

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
