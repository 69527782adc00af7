"""Socket options that find out about dead peers. Must not know: whose sockets they are.

Keepalive notices a peer that vanished while the link is idle; TCP_USER_TIMEOUT one that vanished
while our bytes are unacknowledged, when keepalive probes are not sent. The second is derived from
the first, half a second shorter, so that both give up at about the same time and the kernel's
retransmission backoff cannot stretch it (as Odyssey does; tcp(7)).
"""

import socket
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keepalive:
    """First probe after `idle_s`, then every `interval_s`; dead after `count` unanswered ones."""

    idle_s: int = 15
    interval_s: int = 5
    count: int = 3

    @property
    def user_timeout_ms(self) -> int:
        """How long sent bytes may stay unacknowledged."""
        return (self.idle_s + self.interval_s * self.count) * 1000 - 500


def tune(sock: socket.socket, keepalive: Keepalive | None) -> None:
    """Sets TCP_NODELAY, and keepalive if wanted, on a TCP socket.

    On a listening socket too: Linux hands them on to the sockets it accepts.
    None: the system's defaults.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, keepalive.user_timeout_ms)
    elif sys.platform == "darwin":
        sock.setsockopt(socket.IPPROTO_TCP, 0x10, keepalive.idle_s)  # TCP_KEEPALIVE, netinet/tcp.h
    if sys.platform in ("linux", "darwin"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.count)
