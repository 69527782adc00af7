"""Listening sockets: opened from a spec, handed to the loop, closed without touching sessions.

Specs: `host:port`, `[::1]:port`, `*:port` (every interface), or a path (anything with a slash): a
directory, in which the socket gets `ListenOptions.unix_name` (PostgreSQL's `.s.PGSQL.6432`), or the
socket itself. systemd's sockets come from `inherited_sockets`.

Must not know: protocols, settings.
"""

import asyncio
import contextlib
import errno
import ipaddress
import os
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from proxy.core.errors import ConfigError
from proxy.net.keepalive import Keepalive, tune

_FIRST_INHERITED_FD = 3  # SD_LISTEN_FDS_START: sd_listen_fds(3)
_INHERITED_MAX = 64
_REST_MAX = 4096  # connections taken over from the kernel at close

ProtocolFactory = Callable[[], asyncio.Protocol]
LINGER_S = 1.0


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """`keepalive` and TCP_NODELAY apply to the accepted sockets. `unix_mode`: permission bits.

    `reuse_port`: others may listen here later, if they say so, too. `replace`: somebody may listen
    here already. A port is then shared, a socket's file changes hands when the listener starts.
    """

    backlog: int = 1024
    reuse_port: bool = False
    replace: bool = False
    keepalive: Keepalive | None = None
    unix_mode: int = 0o777
    unix_name: str = "backstay.sock"


class UnixSocket(socket.socket):
    """A listening Unix socket: bound under another name until it takes the place of `path`."""

    path = ""
    inode = 0  # of the file that is ours, once it is in place

    def put_in_place(self, backlog: int) -> None:
        """Atomically: whoever connects reaches the old process or this one, never nobody."""
        bound = os.fsdecode(self.getsockname())
        if bound != self.path:
            self.listen(backlog)
            os.rename(bound, self.path)
        self.inode = os.stat(self.path).st_ino

    def unlink(self) -> None:
        """Takes the file away, unless it is another process's by now."""
        name = self.path if self.inode else os.fsdecode(self.getsockname())
        with contextlib.suppress(OSError):
            if not self.inode or os.stat(name).st_ino == self.inode:
                os.unlink(name)


class Listener:
    """Sockets that are bound, and, from `start` on, give each connection a protocol of its own.

    `addresses`: `host:port` or path of each socket, ports resolved. `inherited`: their files are
    not ours, nor (unless it `drains`) who waits in their queues.
    """

    def __init__(
        self,
        socks: list[socket.socket],
        factory: ProtocolFactory,
        *,
        inherited: bool = False,
        drains: bool = False,
    ) -> None:
        self._socks = socks
        self._factory = factory
        self._inherited = inherited
        self._drains = drains or not inherited
        self._started = False
        self.leaves = False  # another process accepts from the same queues, too
        self._servers: list[asyncio.AbstractServer] = []
        self._late: set[asyncio.Task[Any]] = set()
        self.addresses = [describe(sock) for sock in socks]

    @property
    def port(self) -> int:
        """The first TCP port. For tests, which listen on port 0."""
        return next(int(a.rpartition(":")[2]) for a in self.addresses if "/" not in a)

    def close(self) -> None:
        """Stops accepting. Connections already accepted live on. Idempotent.

        Clients whose connection the kernel has already completed are served, too: closing would
        reset them. Unless the socket is inherited, where they wait for the next process, or lent
        (`leaves`), where that process serves them.
        """
        for sock in self._socks if self._started and self._servers else ():
            if isinstance(sock, UnixSocket) and not self._inherited:
                sock.unlink()
        servers, self._servers = self._servers, []
        if servers:
            for sock in self._socks:
                if self._drains and not self.leaves:
                    self._accept_rest(sock)
        for server in servers:
            server.close()
        if not self._started:
            self._give_up()

    def _give_up(self) -> None:
        """It never accepted: the sockets are still ours alone."""
        socks, self._socks = self._socks, []
        for sock in socks:
            if isinstance(sock, UnixSocket) and not self._inherited:
                sock.unlink()
            sock.close()

    def sockets(self) -> list[socket.socket]:
        """Its TCP sockets, listening, to be lent to another process; none once it is closed."""
        return [s for s in self._socks if s.family != socket.AF_UNIX] if self._servers else []

    def swap(self, name: str, socks: Sequence[socket.socket]) -> None:
        """Before it starts: sockets that listen at `name` already, instead of one just bound."""
        assert not self._started
        for sock in [sock for sock in self._socks if describe(sock) == name]:
            self._socks.remove(sock)
            sock.close()
        self._socks += socks

    def retarget(self, factory: ProtocolFactory) -> None:
        """Connections from now on get another protocol."""
        self._factory = factory

    def tune(self, keepalive: Keepalive | None) -> None:
        """Connections from now on have this keepalive."""
        for sock in self._socks:
            if sock.family != socket.AF_UNIX:
                tune(sock, keepalive)

    def _accept_rest(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_REST_MAX):
            try:
                accepted, _ = sock.accept()
            except OSError:
                return  # nobody waits any more
            accepted.setblocking(False)
            task = loop.create_task(loop.connect_accepted_socket(self._factory, accepted))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def start(self, options: ListenOptions) -> None:
        """Begin to accept."""
        self._started = True
        for sock in self._socks:
            if isinstance(sock, UnixSocket) and not self._inherited:
                sock.put_in_place(options.backlog)
            self._servers.append(await _serve(sock, self._made, options))

    def _made(self) -> asyncio.Protocol:
        return self._factory()


async def listen(
    spec: str | socket.socket, protocol_factory: ProtocolFactory, options: ListenOptions
) -> Listener:
    """A listener that gives each connection a protocol of its own.

    A socket as spec is an inherited one: it is used as it is, and its file is not removed.
    Raises ConfigError if it cannot listen there.
    """
    inherited = isinstance(spec, socket.socket)
    socks = [spec] if isinstance(spec, socket.socket) else await open_sockets(spec, options)
    listener = Listener(socks, protocol_factory, inherited=inherited)
    try:
        await listener.start(options)
    except BaseException:
        listener.close()
        for sock in socks:
            sock.close()
        raise
    return listener


async def _serve(
    sock: socket.socket, factory: ProtocolFactory, options: ListenOptions
) -> asyncio.AbstractServer:
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        tune(sock, options.keepalive)
        return await loop.create_server(factory, sock=sock, backlog=options.backlog)
    # From 3.13 on a server removes its file when it closes; ours is removed by the Listener, and
    # an inherited one belongs to systemd.
    keep_file: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
    return await loop.create_unix_server(factory, sock=sock, backlog=options.backlog, **keep_file)


async def open_sockets(spec: str, options: ListenOptions) -> list[socket.socket]:
    """Bound sockets for a spec, one per address its host resolves to. Raises ConfigError."""
    if "/" in spec:
        return [_open_unix(unix_path(spec, options.unix_name), options)]
    host, port = split_host_port(spec)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ConfigError([f"cannot listen on {spec}: {error.strerror or error}"]) from error
    addresses = list(dict.fromkeys((family, sockaddr) for family, _, _, _, sockaddr in found))
    if port == 0:
        del addresses[1:]  # a chosen port would differ from one address to the next
    socks: list[socket.socket] = []
    try:
        for family, sockaddr in addresses:
            sock = _open_tcp(family, sockaddr, options)
            if sock is not None:
                socks.append(sock)
    except OSError as error:
        for sock in socks:
            sock.close()
        raise ConfigError([f"cannot listen on {spec}: {_explain(error)}"]) from error
    if not socks:
        raise ConfigError([f"cannot listen on {spec}: no such address on this machine"])
    return socks


def split_host_port(spec: str) -> tuple[str, int]:
    """(host, port) of `host:port`, `[v6]:port` or `*:port`; host "" is every interface.

    Raises ConfigError."""
    host, colon, port_text = spec.rpartition(":")
    expected = f"cannot listen on {spec!r}: expected host:port, [::1]:port, *:port or a path"
    if not colon or not (port_text.isascii() and port_text.isdigit()) or int(port_text) > 65535:
        raise ConfigError([expected])
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host or not host:
        raise ConfigError([expected])
    return "" if host == "*" else host, int(port_text)


def unix_path(spec: str, name: str) -> str:
    """The path of the socket: `spec` itself, or `name` in it if it is a directory."""
    return os.path.join(spec, name) if spec.endswith("/") or os.path.isdir(spec) else spec


def describe(sock: socket.socket) -> str:
    """The address of a listening socket as users write it."""
    if isinstance(sock, UnixSocket):
        return sock.path
    if sock.family == socket.AF_UNIX:
        return os.fsdecode(sock.getsockname())
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def close_gently(transport: asyncio.Transport) -> None:
    """Closes so that what was written arrives, even if the peer is still sending.

    A socket closed with bytes unread answers the peer with RST, which takes our last words with
    it. So: end our half, let the protocol discard what comes, close when the peer has closed or
    after LINGER_S. Over TLS our half ends with close_notify.
    """
    if transport.is_closing():
        return
    if not transport.can_write_eof():
        transport.close()
        return
    transport.write_eof()
    transport.resume_reading()
    asyncio.get_running_loop().call_later(LINGER_S, transport.close)


def is_local(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer is on this machine: a Unix socket or a loopback address."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family == socket.AF_UNIX:
        return True
    peer = transport.get_extra_info("peername")
    return isinstance(peer, tuple) and _is_loopback(peer[0])


@lru_cache(maxsize=1024)
def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def inherited_sockets(environ: Mapping[str, str]) -> dict[str, list[socket.socket]]:
    """Listening sockets that systemd opened for this process, by FileDescriptorName=.

    Empty when there are none, or when they were meant for another process. To be called once: each
    call would wrap the descriptors anew. Source: sd_listen_fds_with_names(3).
    """
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count_text = environ.get("LISTEN_FDS", "")
    count = int(count_text) if count_text.isascii() and count_text.isdigit() else 0
    if count > _INHERITED_MAX:
        raise ConfigError([f"LISTEN_FDS={count}: at most {_INHERITED_MAX} sockets are taken over"])
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    result: dict[str, list[socket.socket]] = {}
    for index in range(count):
        descriptor = _FIRST_INHERITED_FD + index
        try:
            sock = socket.socket(fileno=descriptor)
        except OSError as error:
            raise ConfigError(
                [f"LISTEN_FDS: descriptor {descriptor}: {_explain(error)}"]
            ) from error
        sock.set_inheritable(False)
        name = names[index] if index < len(names) else ""
        result.setdefault(name or "unknown", []).append(sock)
    return result


def _open_tcp(family: int, sockaddr: object, options: ListenOptions) -> socket.socket | None:
    """A bound socket; None if the machine does not have this address family. Raises OSError."""
    if options.reuse_port and not options.replace:
        # The kernel would let us share with whoever else runs under our user: a second start by
        # mistake would take half of the connections.
        probe = _open_tcp(family, sockaddr, replace(options, reuse_port=False))
        if probe is None:
            return None
        probe.close()
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(sockaddr)  # type: ignore[arg-type]
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
            return None  # "localhost" on a machine whose IPv6 is off
        raise
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(path: str, options: ListenOptions) -> socket.socket:
    """A bound Unix socket with the wanted mode. A file left by a dead process is removed."""
    sock = UnixSocket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.path = path
    try:
        # Before bind, so that the file never has more permissions than wanted, not even shortly.
        os.fchmod(sock.fileno(), options.unix_mode)
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            path = _beside(path, options)
            sock.bind(path)
        os.chmod(path, options.unix_mode)  # what the umask took away
    except OSError as error:
        sock.close()
        raise ConfigError([f"cannot listen on {path}: {_explain(error)}"]) from error
    return sock


def _beside(path: str, options: ListenOptions) -> str:
    """Where to bind instead of a path that exists. Raises OSError if it is to be respected."""
    if not stat.S_ISSOCK(os.stat(path).st_mode) or (
        not options.replace and not _remove_stale(path)
    ):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    if not os.path.exists(path):
        return path
    beside = os.path.join(os.path.dirname(path), f".{os.getpid():x}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    return beside


def _remove_stale(path: str) -> bool:
    """Removes a socket file behind which nobody listens. False: somebody does, or no socket."""
    if not stat.S_ISSOCK(os.stat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a full backlog must not stop us: it is an answer, too
        if probe.connect_ex(path) != errno.ECONNREFUSED:
            return False
    os.unlink(path)
    return True


def _explain(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
