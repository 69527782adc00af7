"""Peers for the network tests: blocking ones driven step by step, and protocols that record."""

import asyncio
import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import trustme

from proxy.net.drain import LastWords

OPENED: list[asyncio.Transport] = []  # aborted at the end of each test
PEERS: list[socket.socket] = []  # closed then


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """(ours, the peer's), connected over loopback; the peer's end is blocking.

    The peer sends without delay, as PostgreSQL and Redis do: what Nagle's algorithm still holds
    back in the peer's kernel is thrown away by its RST, and nobody can read it.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    PEERS.append(peer)
    ours.setblocking(False)
    peer.settimeout(10)
    return ours, peer


def unix_pair() -> tuple[socket.socket, socket.socket]:
    """As tcp_pair, over a Unix socket."""
    ours, peer = socket.socketpair()
    PEERS.append(peer)
    ours.setblocking(False)
    peer.settimeout(10)
    return ours, peer


def reset(sock: socket.socket) -> None:
    """Closes with RST in place of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def turns(count: int = 3) -> None:
    """Lets the loop run a few turns."""
    for _ in range(count):
        await asyncio.sleep(0)


@dataclass
class Certificates:
    """One CA, a server certificate for localhost and a client certificate."""

    ca: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.server = self.ca.issue_cert("localhost", "127.0.0.1")
        self.client = self.ca.issue_cert("app@example.test")

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.configure_cert(context)
        return context

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@cache
def certificates() -> Certificates:
    """Made once per test process: keys take a while."""
    return Certificates()


class PemFiles:
    """The certificates as files: paths of each."""

    def __init__(self, directory: Path) -> None:
        made = certificates()
        self.ca = str(directory / "ca.pem")
        self.server = str(directory / "server.pem")  # key and chain
        self.client = str(directory / "client.pem")
        self.client_key = str(directory / "client.key")
        made.ca.cert_pem.write_to_path(self.ca)
        made.server.private_key_and_cert_chain_pem.write_to_path(self.server)
        made.client.cert_chain_pems[0].write_to_path(self.client)
        made.client.private_key_pem.write_to_path(self.client_key)


class Recorder(asyncio.Protocol):
    """Remembers everything; reads the last words as a link does."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.rest = b""  # what nobody had read when the connection was lost
        self.chunks = 0
        self.calls: list[str] = []
        self.error: Exception | None = None
        self.made = asyncio.Event()
        self.lost = asyncio.Event()
        self.changed = asyncio.Event()
        self.eof_answer = False
        self.transport: Any = None
        self.given_bytes = 0
        self.unsent_bytes = 0
        self.buffered_at_loss = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("connection_made")
        self.transport = transport
        self.words = LastWords(transport)
        self.made.set()

    def write(self, data: bytes) -> None:
        if self.lost.is_set():
            return
        self.given_bytes += len(data)
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert not self.lost.is_set(), "data after connection_lost"
        self.chunks += 1
        self.received += data
        if not self.calls or self.calls[-1] != "data_received":
            self.calls.append("data_received")
        self._notify()

    def eof_received(self) -> bool:
        self.calls.append("eof_received")
        self._notify()
        return self.eof_answer

    def pause_writing(self) -> None:
        self.calls.append("pause_writing")
        self._notify()

    def resume_writing(self) -> None:
        self.calls.append("resume_writing")
        self._notify()

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("connection_lost")
        self.error = exc
        with contextlib.suppress(AttributeError):  # lost before it was made
            self.buffered_at_loss = self.transport.get_write_buffer_size()
            self.unsent_bytes = self.words.unsent_bytes(self.given_bytes)
            self.rest = self.words.read_rest()
        self.lost.set()
        self._notify()

    @property
    def everything(self) -> bytes:
        return bytes(self.received) + self.rest

    async def until(self, size: int) -> None:
        """Waits until `size` bytes have come, or the connection is lost."""
        while len(self.received) < size and not self.lost.is_set():
            self.changed.clear()
            await self.changed.wait()

    async def until_called(self, name: str) -> None:
        while name not in self.calls:
            self.changed.clear()
            await self.changed.wait()

    def _notify(self) -> None:
        self.changed.set()


class BlockingTls:
    """The other end of a TLS connection, driven step by step over a blocking socket."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_side: bool = True):
        self.sock = sock
        self._incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        name = None if server_side else "localhost"
        self.tls = context.wrap_bio(self._incoming, self.outgoing, server_side, name)

    def flush(self) -> None:
        data = self.outgoing.read()
        if data:
            self.sock.sendall(data)

    def _until(self, act: Any, *arguments: Any) -> Any:
        while True:
            try:
                return act(*arguments)
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError from None
                self._incoming.write(data)
            finally:
                self.flush()

    def handshake(self) -> None:
        self._until(self.tls.do_handshake)

    def read(self, size: int) -> bytes:
        result = b""
        while len(result) < size:
            part = self._until(self.tls.read, size - len(result))
            if not part:
                break
            result += part
        return result

    def encrypt(self, data: bytes) -> bytes:
        """Ciphertext of `data`, not sent."""
        view = memoryview(data)
        while view:
            view = view[self.tls.write(view) :]
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        """close_notify, not sent."""
        with contextlib.suppress(ssl.SSLError):
            self.tls.unwrap()
        return self.outgoing.read()


async def over_loop(sock: socket.socket, protocol: asyncio.Protocol) -> asyncio.Transport:
    """The running loop's plain transport over `sock`."""
    loop = asyncio.get_running_loop()
    if sock.family is socket.AF_UNIX:
        transport, _ = await loop.create_unix_connection(lambda: protocol, sock=sock)
    else:
        transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
    OPENED.append(transport)
    return transport
