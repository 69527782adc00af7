"""A network in memory: connections with delays, chunks, full buffers, and every way to break.

What the runtime asks of asyncio and of the kernel is here: transports with write limits, half-open
connections, resets that leave bytes unread, and the counts of what left (`proxy.net.drain`).

A connection is a pair of `Endpoint`s. Bytes written wait in `_out` (the kernel's part of it is
SNDBUF_BYTES, the rest is the transport's), leave in chunks while the peer's window has room, and
arrive in order after a seeded delay. Must not know: protocols.
"""

import asyncio
import errno
import itertools
import os
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

from proxy.net import dial, drain

SNDBUF_BYTES = 8 << 10
WINDOW_BYTES = 16 << 10
HIGH_BYTES, LOW_BYTES = 32 << 10, 8 << 10  # of a transport's own buffer
FIRST_DESCRIPTOR = 1 << 28  # no descriptor of this process is as high
SOCKET_NAMES = {name: getattr(socket, name) for name in dir(socket) if name.isupper()}

Trace = Callable[[str, object], None]


@dataclass
class Plan:
    """Break the connection when so many bytes have gone this way (`up`: from who dialled)."""

    up: bool
    after_bytes: int
    kind: str  # fin, rst, silence


class FakeSocket:
    """What the dialler makes: connected by the network, then given to the loop."""

    family = socket.AF_INET

    def __init__(self, network: "Network") -> None:
        self.network = network
        self.endpoint: Endpoint | None = None
        self.options: dict[tuple[int, int], int] = {}
        self.address: Any = None

    def setblocking(self, flag: bool) -> None:
        assert not flag

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options[level, option] = value

    @property
    def user_timeout_s(self) -> float:
        ms = self.options.get((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 900_000)
        return ms / 1000

    def fileno(self) -> int:
        return -1 if self.endpoint is None or self.endpoint.lost else self.endpoint.descriptor

    def getpeername(self) -> Any:
        return self.address

    def close(self) -> None:
        if self.endpoint is not None and self.endpoint.protocol is None:
            self.endpoint.close()


class Endpoint(asyncio.Transport):
    """One end of a connection, a transport of asyncio's kind."""

    def __init__(self, network: "Network", name: str, sock: FakeSocket) -> None:
        super().__init__()
        self.network, self.name, self.sock = network, name, sock
        self.descriptor = FIRST_DESCRIPTOR + next(network.numbers)
        self.protocol: Any = None
        self.peer: Endpoint = self
        self.plan: Plan | None = None
        self.lost = False  # connection_lost has been called: the socket is closed
        self.carried = 0  # bytes that have left
        self.heard_s = network.loop.time()  # when bytes have come last
        self.lag_s = 0.0  # of all that is sent, beside the delay that is everybody's
        self.silent = False  # what is sent vanishes, and nothing comes
        self.dead = False  # reset or timed out
        self._out = bytearray()
        self._inbox = bytearray()
        self._flying = 0
        self._arrive_s = 0.0
        self._closing = self._eof_out = self._fin_sent = False
        self._eof_in = self._eof_told = False
        self._paused = self._full = False
        self._losing = False
        self._read: asyncio.Future[None] | None = (
            None  # of whoever reads before there is a protocol
        )

    # -- asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "socket":
            return self.sock
        return ("127.0.0.1", self.descriptor & 0xFFFF) if name == "peername" else default

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_protocol(self) -> Any:
        return self.protocol

    def is_closing(self) -> bool:
        return self._closing

    def can_write_eof(self) -> bool:
        return True

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self.network.loop.call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Those of this network stay, whatever is wished for."""

    def get_write_buffer_size(self) -> int:
        return max(0, len(self._out) - SNDBUF_BYTES)

    def write(self, data: Any) -> None:
        assert not self._eof_out, "write after write_eof"
        if self._closing or not data:
            return
        if self.dead:
            self._lose(ConnectionResetError())
            return
        self._out += data
        self._carry()
        if len(self._out) > SNDBUF_BYTES + HIGH_BYTES and not self._full:
            self._full = True
            self.protocol.pause_writing()

    def write_eof(self) -> None:
        self._eof_out = True
        self._carry()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._carry()

    def abort(self) -> None:
        """The transport's buffer is dropped, the kernel goes on with its own."""
        if not self.lost:
            del self._out[SNDBUF_BYTES:]
            self._closing = True
            self._lose(None)

    # -- out

    def _carry(self) -> None:
        """Let go what the peer's window has room for."""
        if not (self._out or self._full or self._closing or self._eof_out):
            return
        network, peer = self.network, self.peer
        while self._out and not self.dead:
            room = WINDOW_BYTES - self._flying - len(peer._inbox)
            size = min(network.chunk(), len(self._out), room)
            if size <= 0:
                break
            plan = self.plan
            if plan is not None:
                size = min(size, max(plan.after_bytes - self.carried, 0))
            part = bytes(self._out[:size])
            del self._out[:size]
            self.carried += size
            if size and not self.silent:
                self._flying += size
                self._later(peer._receive, part)
            if plan is not None and self.carried >= plan.after_bytes:
                self.plan = None
                network.trace(self.name, f"cut by plan: {plan.kind} after {self.carried}")
                network.break_(self, plan.kind)
        if self._full and self.get_write_buffer_size() <= LOW_BYTES and not self._closing:
            self._full = False
            self.protocol.resume_writing()
        if not self._out and (self._closing or self._eof_out) and not self._fin_sent:
            self._fin_sent = True
            if not self.silent:
                self._later(peer._receive_fin)
        if self._closing and len(self._out) <= SNDBUF_BYTES:
            self._lose(None)

    def _later(self, callback: Callable[..., None], *args: Any) -> None:
        """In order, after a delay."""
        loop = self.network.loop
        arrive_s = loop.time() + self.lag_s + self.network.delay_s()
        # Never at the same time: timers of one time run in any order.
        self._arrive_s = max(self._arrive_s + 1e-7, arrive_s)
        loop.call_at(self._arrive_s, callback, *args)

    # -- in

    def _receive(self, data: bytes) -> None:
        self.peer._flying -= len(data)
        if self.dead or self.silent:
            return
        if self.lost:  # nobody is here any more
            self.peer._later_reset()
            return
        self.heard_s = self.network.loop.time()
        self._inbox += data
        if self.network.rng.random() < 0.03:  # the process is busy with others
            self.network.loop.call_later(self.network.delay_s() * 3, self._deliver)
        else:
            self._deliver()

    def _receive_fin(self) -> None:
        if not self.dead and not self.silent:
            self._eof_in = True
            self._deliver()

    async def readable(self) -> None:
        """Returns when there are bytes to read, or there will be none."""
        while not (self._inbox or self._eof_in or self.dead):
            self._read = self.network.loop.create_future()
            await self._read

    def _deliver(self) -> None:
        if self._read is not None:
            self._tell_reader()
        if self._paused or self._closing or self.lost or self.protocol is None or self._losing:
            return
        if self._inbox:
            data = bytes(self._inbox)
            self._inbox.clear()
            self.network.trace(self.name, data)
            try:
                self.protocol.data_received(data)
            except Exception as error:
                self.network.crashed(self.name, error)
                self.abort()
                return
            self.peer._carry()
        if self._eof_in and not self._eof_told and not self._inbox and not self._paused:
            self._eof_told = True
            if not self.protocol.eof_received():
                self.close()

    def _tell_reader(self) -> None:
        if self._read is not None and not self._read.done():
            self._read.set_result(None)

    # -- ends

    def _later_reset(self) -> None:
        if not self.dead and not self.silent:
            self.network.loop.call_later(self.network.delay_s(), self.reset)

    def reset(self, error: Exception | None = None) -> None:
        """The other side, or somebody between, has sent RST."""
        if not self.dead:
            self.dead = True
            self._tell_reader()
            self._lose(error or ConnectionResetError(errno.ECONNRESET, "reset"))

    def _lose(self, error: Exception | None) -> None:
        if not self._losing:
            self._losing = True
            self._closing = True
            self.network.loop.call_soon(self._end, error)

    def _end(self, error: Exception | None) -> None:
        self.network.trace(self.name, f"connection_lost {type(error).__name__}")
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(error)
        except Exception as bug:
            self.network.crashed(self.name, bug)
        self.lost = True
        self.network.ended(self)
        if self._inbox and not self.dead and not self.silent:
            self.peer._later_reset()  # a socket closed with bytes unread answers RST
        elif not self._fin_sent and not self.dead:
            self._carry()

    def read_rest(self, size: int) -> bytes:
        """What the kernel holds for us: os.read on this endpoint's descriptor."""
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        if not data and not self._eof_in:
            raise BlockingIOError(errno.EAGAIN, "nothing")
        return data

    def accepted_bytes(self) -> int:
        """As TCP_INFO and the queue ioctls tell it: all that may have left or may yet leave."""
        return self.carried if self.dead else self.carried + min(len(self._out), SNDBUF_BYTES)


class Network:
    """All connections of one run."""

    def __init__(self, loop: Any, rng: random.Random, trace: Trace) -> None:
        self.loop, self.rng, self.trace = loop, rng, trace
        self.numbers = itertools.count()
        self.endpoints: dict[int, Endpoint] = {}  # open ones, by descriptor
        self.upstreams: dict[int, Endpoint] = {}  # the proxy's ends of its links
        self.accept: Callable[[], Any] | None = None  # the server's protocol; None: refused
        self.accepts: dict[int, Callable[[], Any]] = {}  # ... of servers with ports of their own
        self.unreachable = False  # nobody answers a SYN
        self.plans: Callable[[], Plan | None] = lambda: None
        self.slow = rng.choice((1.0, 1.0, 1.0, 5.0, 30.0))
        self.sliced = rng.random() < 0.3
        self.crashes: list[str] = []

    # -- chance

    def delay_s(self) -> float:
        """Of one chunk."""
        return self.rng.uniform(0.0001, 0.001) * self.slow

    def chunk(self) -> int:
        """How many bytes leave at once."""
        return self.rng.randrange(1, 60) if self.sliced and self.rng.random() < 0.3 else 1 << 20

    # -- connecting

    def _pair(self, names: tuple[str, str], sock: FakeSocket) -> tuple[Endpoint, Endpoint]:
        near = Endpoint(self, names[0], sock)
        far = Endpoint(self, names[1], FakeSocket(self))
        far.sock.endpoint = far
        near.peer, far.peer = far, near
        for end in (near, far):
            self.endpoints[end.descriptor] = end
        return near, far

    async def sock_connect(self, sock: FakeSocket, address: Any) -> None:
        """The proxy dials the server."""
        sock.address = address
        await asyncio.sleep(self.delay_s() * 2)
        while self.unreachable:
            await asyncio.sleep(1.0)
        accept = self.accepts.get(address[1], self.accept)
        if accept is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
        number = next(self.numbers)
        near, far = self._pair((f"link {number}", f"server {number}"), sock)
        sock.endpoint = near
        plan = self.plans()
        if plan is not None:
            (near if plan.up else far).plan = plan
        self._made(far, accept())

    async def sock_sendall(self, sock: FakeSocket, data: bytes) -> None:
        """Bytes on a connection that no protocol has yet."""
        assert sock.endpoint is not None
        sock.endpoint.write(data)

    async def sock_recv(self, sock: FakeSocket, size: int) -> bytes:
        """The next bytes of one, b"" at its end. Raises ConnectionResetError."""
        assert sock.endpoint is not None
        await sock.endpoint.readable()
        if sock.endpoint.dead:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        return sock.endpoint.read_rest(size)

    def adopt(self, sock: FakeSocket, factory: Callable[[], Any]) -> tuple[Any, Any]:
        """loop.create_connection on a connected socket."""
        assert sock.endpoint is not None
        self.upstreams[sock.endpoint.descriptor] = sock.endpoint
        protocol = factory()
        self._made(sock.endpoint, protocol)
        sock.endpoint.resume_reading()
        self.loop.call_soon(sock.endpoint._deliver)
        return sock.endpoint, protocol

    def client(self, name: str, factory: Callable[[], Any], protocol: Any) -> Endpoint:
        """A client connects to the proxy, whose protocol comes from `factory`."""
        sock = FakeSocket(self)
        near, far = self._pair((name, f"{name}'s entry"), sock)
        sock.endpoint = near
        self._made(far, factory())
        self._made(near, protocol)
        return near

    def _made(self, end: Endpoint, protocol: Any) -> None:
        end.protocol = protocol
        protocol.connection_made(end)

    # -- breaking

    def break_(self, end: Endpoint, kind: str) -> None:
        """Somebody between the two ends loses the connection. `end`: whose bytes went last."""
        peer = end.peer
        if kind == "silence":
            for one in (end, peer):
                one.silent = True
                self.loop.call_later(one.sock.user_timeout_s, self._time_out, one)
        elif kind == "fin":
            end._later(peer._receive_fin)
            end._later(end.reset)
            end.plan = peer.plan = None
        else:
            end._later(peer.reset)
            end._later(end.reset)

    def calm(self) -> None:
        """Nothing breaks from now on, but for what has broken without anybody knowing yet."""
        self.plans = lambda: None
        for end in self.endpoints.values():
            end.plan = None

    def stall(self, end: Endpoint, for_s: float) -> None:
        """What this end sends from now on arrives later, in order."""
        end._arrive_s = max(end._arrive_s, self.loop.time()) + for_s

    def _time_out(self, end: Endpoint) -> None:
        if not end.lost:
            end.reset(TimeoutError(errno.ETIMEDOUT, "timed out"))

    def ended(self, end: Endpoint) -> None:
        """Its socket is closed."""
        self.endpoints.pop(end.descriptor, None)
        self.upstreams.pop(end.descriptor, None)

    def crashed(self, name: str, error: Exception) -> None:
        """A protocol has raised: a bug."""
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        where = f"{frame.tb_frame.f_code.co_filename}:{frame.tb_lineno}" if frame else ""
        self.crashes.append(f"{name}: {type(error).__name__}: {error} ({where})")


@contextmanager
def installed(network: Network) -> Iterator[None]:
    """The product's dialler and its questions to the kernel meet this network."""

    def read(descriptor: int, size: int) -> bytes:
        if descriptor >= FIRST_DESCRIPTOR:
            return network.endpoints[descriptor].read_rest(size)
        return os.read(descriptor, size)

    def accepted(transport: Any, at_least: bool) -> int | None:
        count: int = transport.accepted_bytes()
        return count

    sockets = SimpleNamespace(**SOCKET_NAMES, socket=lambda *_: FakeSocket(network))
    with (
        mock.patch.object(dial, "socket", sockets),
        mock.patch.object(drain, "os", SimpleNamespace(read=read)),
        mock.patch.object(drain, "_accepted_bytes", accepted),
    ):
        yield
