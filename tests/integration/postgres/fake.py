"""A PostgreSQL server that says what it is told to: for outages and nonsense no real one gives.

It listens in a thread; each connection is handled by `script(self, sock)`, in a thread of its own,
or, for many connections, by FakeMany in one loop.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from typing import Self, cast

import uvloop

from tests.wire import message, zero

PID = 4711
IDLE = message(b"Z", b"I")


def failure(sqlstate: str, text: str, severity: str = "FATAL") -> bytes:
    """An ErrorResponse."""
    fields = {"S": severity, "V": severity, "C": sqlstate, "M": text}
    return message(b"E", b"".join(k.encode() + zero(v) for k, v in fields.items()) + b"\0")


def data_row(*values: str | None) -> bytes:
    """A DataRow."""
    body = struct.pack("!H", len(values))
    for value in values:
        raw = (value or "").encode()
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(raw)) + raw
    return message(b"D", body)


REPORTED = {
    "application_name": "",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "default_transaction_read_only": "off",
    "in_hot_standby": "off",
    "integer_datetimes": "on",
    "IntervalStyle": "postgres",
    "is_superuser": "on",
    "scram_iterations": "4096",
    "server_encoding": "UTF8",
    "server_version": "17.4 (Debian 17.4-1.pgdg120+2)",
    "session_authorization": "postgres",
    "standard_conforming_strings": "on",
    "TimeZone": "Etc/UTC",
}
WELCOME = (
    message(b"R", struct.pack("!I", 0))
    + b"".join(message(b"S", zero(name) + zero(value)) for name, value in REPORTED.items())
    + message(b"K", struct.pack("!II", PID, 1))
    + IDLE
)
IDENTITY = data_row(
    str(PID),
    "2026-01-01 00:00:00.000000+00",
    "7123456789012345678",
    "2026-01-01 00:00:00.000000+00",
    "170004",
    "f",
) + message(b"C", zero("SELECT 1"))
ONE = (
    message(b"T", struct.pack("!H", 1) + zero("n") + struct.pack("!IHIHIH", 0, 0, 23, 4, 0, 0))
    + data_row("1")
    + message(b"C", zero("SELECT 1"))
    + IDLE
)


def answer(kind: bytes, body: bytes) -> bytes:
    """What a good server says to one message after the login."""
    if kind == b"Q" and body.startswith(b"BEGIN"):
        return message(b"C", zero("BEGIN")) + message(b"Z", b"T")
    if kind == b"Q":
        return IDENTITY + IDLE if b"pg_backend_pid" in body else ONE
    return IDLE if kind == b"S" else b""


class FakePostgres:
    """One connection at a time is of interest; all are served."""

    def __init__(self, script: Callable[["FakePostgres", socket.socket], None]) -> None:
        self.script = script
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.close_all()

    def close_all(self) -> None:
        """End every connection."""
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._open.clear()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/app?sslmode=disable"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.script(self, sock)
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def read_startup(sock: socket.socket) -> bytes:
    (size,) = struct.unpack("!I", exactly(sock, 4))
    return exactly(sock, size - 4)


def read(sock: socket.socket) -> tuple[bytes, bytes]:
    """The next message: (type, body)."""
    head = exactly(sock, 5)
    return head[:1], exactly(sock, struct.unpack("!I", head[1:])[0] - 4)


def log_in(sock: socket.socket) -> None:
    """Take the login and the identity question."""
    read_startup(sock)
    sock.sendall(WELCOME)
    sock.sendall(answer(*read(sock)))


class FakeMany:
    """Good answers for thousands of connections, in one loop of a thread."""

    class _One(asyncio.Protocol):
        def __init__(self, open_: set[asyncio.Transport]) -> None:
            self._rest = b""
            self._in = False
            self._open = open_

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast("asyncio.Transport", transport)
            self._open.add(self._transport)

        def connection_lost(self, _: Exception | None) -> None:
            self._open.discard(self._transport)

        def data_received(self, data: bytes) -> None:
            self._rest += data
            while True:
                at = 1 if self._in else 0
                if len(self._rest) < at + 4:
                    return
                size = at + int.from_bytes(self._rest[at : at + 4])
                if len(self._rest) < size:
                    return
                whole, self._rest = self._rest[:size], self._rest[size:]
                said = answer(whole[:1], whole[5:]) if self._in else WELCOME
                self._in = True
                if said:
                    self._transport.write(said)

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._transports: set[asyncio.Transport] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._over = asyncio.Event()
        server = await self._loop.create_server(
            lambda: self._One(self._transports), "127.0.0.1", 0, backlog=2048
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        for transport in list(self._transports):
            transport.abort()
        while self._transports:
            await asyncio.sleep(0.01)
