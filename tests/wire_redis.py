"""A raw Redis client for byte-exact tests: commands out, whole replies in as raw bytes."""

import socket
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.wire import DEADLINE_S, Address, WireClosed

_SIMPLE = b"+-:_,#("
_BLOB = b"$=!"
_AGGREGATE = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2, ord("|"): 2}


def command(*words: str | bytes | int) -> bytes:
    """One command as an array of bulk strings."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    body = b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n" % len(parts) + body


def reply_end(buffer: bytes | bytearray, at: int = 0) -> int | None:
    """Offset after the reply that begins at `at`, None while it is incomplete.

    An attribute (`|`) is counted with the reply it precedes.
    """
    todo = 1
    while todo:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        kind, text = buffer[at], bytes(buffer[at + 1 : line_end])
        at = line_end + 2
        todo -= 1
        if kind in _BLOB and text != b"-1":
            at += int(text) + 2
            if at > len(buffer):
                return None
        elif kind in _AGGREGATE and text != b"-1":
            todo += int(text) * _AGGREGATE[kind] + (kind == ord("|"))
        elif kind not in _SIMPLE and kind not in _BLOB and kind not in _AGGREGATE:
            raise AssertionError(f"not a reply type: {chr(kind)!r}")
    return at


@dataclass(eq=False)
class RedisWire:
    """One connection. Reads raise TimeoutError after `deadline_s`, WireClosed at the end."""

    sock: socket.socket
    deadline_s: float = DEADLINE_S
    chop_bytes: int = 0
    """Write in pieces of this size, each its own segment; 0: whole."""
    _buffer: bytearray = field(default_factory=bytearray)

    @classmethod
    def connect(cls, address: Address, deadline_s: float = DEADLINE_S) -> Self:
        """TCP or Unix socket connected, nothing sent."""
        if isinstance(address, Path):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(deadline_s)
            sock.connect(str(address))
        else:
            sock = socket.create_connection(address, deadline_s)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(sock, deadline_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def start_tls(self, context: ssl.SSLContext, server_name: str = "localhost") -> None:
        """Continue under TLS."""
        self.sock = context.wrap_socket(self.sock, server_hostname=server_name)

    def send(self, data: bytes) -> None:
        """Write all, chopped if so set."""
        if not self.chop_bytes:
            self.sock.sendall(data)
            return
        for at in range(0, len(data), self.chop_bytes):
            self.sock.sendall(data[at : at + self.chop_bytes])

    def read(self, deadline_s: float | None = None) -> bytes:
        """The next whole reply (or push), raw."""
        end_s = time.monotonic() + (self.deadline_s if deadline_s is None else deadline_s)
        while True:
            if self._buffer and (end := reply_end(self._buffer)) is not None:
                raw = bytes(self._buffer[:end])
                del self._buffer[:end]
                return raw
            self._fill(end_s)

    def replies(self, count: int) -> list[bytes]:
        """The next `count` replies."""
        return [self.read() for _ in range(count)]

    def ask(self, *words: str | bytes | int) -> bytes:
        """Send one command, read one reply."""
        self.send(command(*words))
        return self.read()

    def quiet(self, seconds: float = 0.05) -> bool:
        """Whether nothing (more) comes for that long."""
        try:
            self.read(seconds)
        except TimeoutError:
            return True
        return False

    def until_closed(self) -> list[bytes]:
        """Replies up to the peer's FIN. Raises WireClosed if it came within a reply."""
        found: list[bytes] = []
        while True:
            try:
                found.append(self.read())
            except WireClosed as closed:
                if closed.rest or closed.reset:
                    raise
                return found

    def _fill(self, end_s: float) -> None:
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"no reply in time; {len(self._buffer)} bytes of one")
        self.sock.settimeout(left_s)
        try:
            data = self.sock.recv(262144)
        except ssl.SSLEOFError:
            raise WireClosed(bytes(self._buffer)) from None
        except ConnectionError:
            raise WireClosed(bytes(self._buffer), reset=True) from None
        finally:
            self.sock.settimeout(self.deadline_s)
        if not data:
            raise WireClosed(bytes(self._buffer))
        self._buffer += data
