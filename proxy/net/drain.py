"""What a dead link still has to say, and what it never sent.

Both questions are asked inside `connection_lost`, where the socket is still open: uvloop 0.23 and
asyncio (3.11 to 3.14) call `protocol.connection_lost` first and close the descriptor afterwards. So
no second descriptor per link is needed.

Last words. A server that ends a session writes its FATAL, then closes. If we write after that, the
peer's kernel answers RST. Seen on Linux 6.18, TCP and Unix sockets, both loops
(tests/unit/net/test_drain.py):

- the RST does not discard what the receive queue holds: `recv` returns those bytes, also after
  `send` failed with EPIPE or ECONNRESET, and only then the error or the end;
- a transport whose *write* fails (uvloop: in `write` itself; asyncio: in `write` or in the writer
  callback) stops reading and goes to connection_lost. Nobody reads the FATAL: this is how it gets
  lost, and what `read_rest` repairs;
- a transport whose *read* fails had the bytes before the error: both loops read until the error;
- a paused transport does not notice the end at all until it writes or resumes: `read_rest` then
  returns everything the kernel kept, at most the receive buffer (net.ipv4.tcp_rmem, 6 MiB).

Where it cannot help: the FATAL was still in the peer's send queue when the peer's kernel sent its
RST (the peer closed with our bytes unread while our receive window was full, or while Nagle's
algorithm held the segment back: seen here, but PostgreSQL and Redis set TCP_NODELAY); or the
segment was lost on the way, in which case the RST arrives alone.

What left. `transport.write` on uvloop 0.23 calls write(2) at once when nothing is queued, else at
the end of the turn; asyncio the same, else when the socket is writable. In connection_lost
`get_write_buffer_size()` proves nothing: after a failed write both loops have emptied their buffer
and say 0 although no byte left. So we ask the kernel, which keeps its counts after a reset:
accepted = TCP_INFO.tcpi_bytes_acked + SIOCOUTQ, never sent = SIOCOUTQNSD (tcp(7); they read
sequence numbers, not buffers, so they survive the purge of the queue). What the kernel has accepted
counts as unsent only once the connection is in TCP_CLOSE (reset, timed out): before that, also
after our own abort, it goes on sending. On Unix sockets and other systems the answer is the
conservative 0.
"""

import fcntl
import os
import socket
import struct
import sys
from asyncio import BaseTransport

REST_BYTES_MAX = 8 * 1024 * 1024  # more than tcp_rmem lets a receive queue hold by default
_READ_BYTES = 64 * 1024

_SIOCOUTQ = 0x5411  # linux/sockios.h: bytes accepted and not acknowledged
_SIOCOUTQNSD = 0x894B  # bytes accepted and never sent
_TCP_CLOSE = 7  # netinet/tcp.h
_BYTES_ACKED_OFFSET = 120  # struct tcp_info, linux/tcp.h (since 4.1)


class LastWords:
    """One per link: made in connection_made, asked inside connection_lost, at no other time.

    Outside these calls it holds no resource; asked after the transport closed its socket, it
    answers "nothing".
    """

    __slots__ = ("_baseline", "_transport")

    def __init__(self, transport: BaseTransport) -> None:
        self._transport = transport
        self._baseline = _accepted_bytes(transport, at_least=True)

    def read_rest(self, bytes_max: int = REST_BYTES_MAX) -> bytes:
        """What the peer sent and nobody read, up to its end, an error, or `bytes_max`.

        Over TLS it is b"": the pump has delivered it by then (`proxy.net.tls`).
        """
        if self._transport.get_extra_info("ssl_object") is not None:
            return b""
        descriptor = _descriptor(self._transport)
        if descriptor < 0:
            return b""
        parts: list[bytes] = []
        size = 0
        try:
            while size < bytes_max:
                part = os.read(descriptor, min(_READ_BYTES, bytes_max - size))
                if not part:
                    break
                parts.append(part)
                size += len(part)
        except OSError:
            pass  # EAGAIN: nothing more; else the error that the loop already reported
        return b"".join(parts)

    def unsent_bytes(self, given_bytes: int) -> int:
        """How many of the last bytes given to `transport.write` surely never left this machine.

        `given_bytes`: all bytes given to write since this object was made. A lower bound: 0 means
        "everything may have left", not "everything left". Over TLS it counts plaintext of the
        latest write only.
        """
        over_tls = getattr(self._transport, "unsent_bytes", None)
        if over_tls is not None:
            answer: int = over_tls()
            return answer
        accepted = _accepted_bytes(self._transport, at_least=False)
        if self._baseline is None or accepted is None:
            return 0
        return min(max(given_bytes - (accepted - self._baseline), 0), given_bytes)


def _descriptor(transport: BaseTransport) -> int:
    """The open descriptor of a transport, or -1."""
    try:
        sock = transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())
    except (OSError, RuntimeError):  # uvloop: "unable to perform operation; the handler is closed"
        return -1


def _accepted_bytes(transport: BaseTransport, at_least: bool) -> int | None:
    """Bytes the kernel ever accepted for sending, minus those it can never send. None: unknown.

    The two counts are not read in one instant. If an acknowledgement comes between them, the result
    is too small when `at_least`, else too big: whoever asks says which error is harmless.
    """
    if sys.platform != "linux":
        return None
    descriptor = _descriptor(transport)
    if descriptor < 0:
        return None
    try:
        borrowed = socket.socket(fileno=descriptor)
        try:
            if borrowed.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            queued = 0 if at_least else _count(descriptor, _SIOCOUTQ)
            info = borrowed.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            queued = _count(descriptor, _SIOCOUTQ) if at_least else queued
        finally:
            borrowed.detach()
        (acked,) = struct.unpack_from("=Q", info, _BYTES_ACKED_OFFSET)
        dead = info[0] == _TCP_CLOSE
        never_sent = _count(descriptor, _SIOCOUTQNSD) if dead else 0
    except (OSError, struct.error):
        return None
    return int(acked) + queued - never_sent


def _count(descriptor: int, request: int) -> int:
    """The answer of one of the queue ioctls."""
    (answer,) = struct.unpack("=i", fcntl.ioctl(descriptor, request, b"\0\0\0\0"))
    return int(answer)
