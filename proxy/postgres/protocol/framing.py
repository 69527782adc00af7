"""Message boundaries in a chunk of PostgreSQL protocol bytes. Bodies are neither read nor copied.

Owns: the header layout (one type byte, a four byte length that counts itself; PostgreSQL
documentation, "Message Formats"). Must not know: what a message means, which side it came from
beyond the set of types worth a mark.

A *mark* is `(type, start, stop)`: the message lies at `chunk[start:stop]`.
"""

from struct import Struct
from typing import Final

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason

Mark = tuple[int, int, int]

HEADER_BYTES: Final = 5
MESSAGE_BYTES_MAX: Final = 0x4000_0000  # PostgreSQL refuses to build a longer one (MaxAllocSize)

_header = Struct(">BI").unpack_from

COMPILED: Final = not __file__.endswith(".py")  # by mypyc; the whole data path then is

READY_BYTES: Final = 6  # a whole ReadyForQuery
_READY: Final = 0x5A


def _interest(types: bytes) -> bytes:
    return bytes(1 if code in types else 0 for code in range(256))


# What must be seen of the server's messages: always, and when a unit has something to learn.
# Never marked: DataRow and CopyData, the two that come in bulk.
EVERY_REPLY: Final = _interest(bytes(code for code in range(256) if code not in b"Dd"))
FEW_REPLIES: Final = _interest(b"ZENSAGHWVvKR")


def scan(
    chunk: bytes,
    pos: int,
    interest: bytes,
    marks: list[Mark],
    reason: Reason = Reason.UPSTREAM_PROTOCOL,
) -> tuple[int, int]:
    """Offset after the last whole message in chunk[pos:], and how many messages had no mark.

    Appends a mark for each whole message whose type is in `interest` (a table of 256 flags).
    The caller keeps chunk[offset:] and puts the next bytes behind it.
    Raises PeerProtocolError with `reason` if a length field is below 4 or above the server's own
    limit; what stands before it is marked.
    """
    native = COMPILED
    unmarked = 0
    end = len(chunk)
    last = end - HEADER_BYTES
    while pos <= last:
        if native:  # machine code: much cheaper than a call
            kind = chunk[pos]
            high = chunk[pos + 1] << 24 | chunk[pos + 2] << 16
            size = high | chunk[pos + 3] << 8 | chunk[pos + 4]
        else:
            kind, size = _header(chunk, pos)
        stop = pos + size + 1
        if size < 4 or size > MESSAGE_BYTES_MAX:
            raise PeerProtocolError(f"invalid message length {size}", reason)
        if stop > end:
            break
        if interest[kind]:
            marks.append((kind, pos, stop))
        else:
            unmarked += 1
        pos = stop
    return pos, unmarked


def size_at(chunk: bytes, pos: int) -> int:
    """The length field at chunk[pos:pos + 4], which must be there."""
    if COMPILED:  # machine code: much cheaper than a call
        high = chunk[pos] << 24 | chunk[pos + 1] << 16
        return high | chunk[pos + 2] << 8 | chunk[pos + 3]
    return int.from_bytes(chunk[pos : pos + 4])


def ends_in_ready(chunk: bytes, interest: bytes) -> int:
    """The status in the ReadyForQuery that ends the chunk, if nothing else stands in it but whole
    messages of types outside `interest`. 0: something else does, and scan() is to be asked."""
    last = len(chunk) - READY_BYTES
    if last < 0 or chunk[last] != _READY or size_at(chunk, last + 1) != READY_BYTES - 1:
        return 0
    pos = 0
    while pos < last:
        size = size_at(chunk, pos + 1)
        if size < 4 or interest[chunk[pos]]:
            return 0
        pos += size + 1
    return chunk[pos + HEADER_BYTES] if pos == last else 0


def whole_bytes(chunk: bytes, pos: int = 0, reason: Reason = Reason.UPSTREAM_PROTOCOL) -> int:
    """Size in bytes of the message that starts at pos, 0 while its header is incomplete.

    Raises PeerProtocolError like scan().
    """
    if len(chunk) - pos < HEADER_BYTES:
        return 0
    _, size = _header(chunk, pos)
    if size < 4 or size > MESSAGE_BYTES_MAX:
        raise PeerProtocolError(f"invalid message length {size}", reason)
    return int(size) + 1
