"""Between an old process and the one that replaces it: listening sockets, and cancels.

A listening socket that is closed takes with it who waits in its queue, and handshakes under way.
So the old process lends its sockets (SCM_RIGHTS): both accept from the same queue, and it lives on
in the new process when the old one closes its descriptor. A CancelRequest for a session of the
other process goes over the channel that stays between the two.

They meet at an abstract Unix socket, found in /proc/net/unix, of the same user and network
namespace. Where there is none (no Linux, an older version) ports are shared by SO_REUSEPORT alone.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from proxy.core.errors import ConfigError, LimitExceeded, ProxyError
from proxy.core.events import Events
from proxy.net.tasks import TaskSet
from proxy.postgres.protocol.keys import CancelKey
from proxy.service.channel import Body, Channel

Lent = dict[str, list[socket.socket]]

TALK_S = 3.0  # for one process to say what it has
CANCEL_S = 5.0
NAME_BYTES_MAX = 256
REQUEST_BYTES_MAX = 64 << 10
SOCKETS_MAX = 4096
PEERS_MAX = 16
_CHANNEL = b"\0"  # in place of an address: the descriptor is our end of the channel
_END = b"\1"
_LISTENING = "00010000"  # __SO_ACCEPTCON in /proc/net/unix
_SOURCE = Path("/proc/net/unix")
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Side(Protocol):
    """What a process does for its successor or predecessor."""

    async def lend(self, wanted: Sequence[str]) -> Lent:
        """Its listening TCP sockets at these addresses, duplicated; it leaves their queues."""

    def keep(self) -> None:
        """Nobody else has the sockets any more: who waits in their queues is ours again."""

    async def cancel_here(self, key: CancelKey) -> None:
        """Cancel what the session of this key runs, if it is one of ours."""


class Handover:
    """See the module. `open` to be found by a successor, `take` to be one."""

    def __init__(self, side: Side, events: Events) -> None:
        self._side = side
        self._events = events
        self._tasks = TaskSet(events, PEERS_MAX)
        self._peers: set[Channel] = set()
        self._takers: set[Channel] = set()
        self._door: socket.socket | None = None
        self._name = f"{_prefix()}{os.getpid()}.{secrets.token_hex(4)}"

    # -- the one that may be replaced

    def open(self) -> None:
        """Be found from now on."""
        if not _SOURCE.exists():
            return
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            door.setblocking(False)
            door.bind("\0" + self._name)
            door.listen(PEERS_MAX)
        except OSError as error:
            door.close()
            self._events("handover_closed", level="warning", error=os.strerror(error.errno or 0))
            return
        self._door = door
        asyncio.get_running_loop().add_reader(door.fileno(), self._knocked)

    def _knocked(self) -> None:
        assert self._door is not None
        try:
            conn, _ = self._door.accept()
        except OSError:
            return
        conn.setblocking(False)
        try:
            if _is_ours(conn):
                self._tasks.start(self._serve(conn), "hand sockets over")
                return
        except LimitExceeded:
            pass
        conn.close()

    async def _serve(self, conn: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with conn, contextlib.suppress(OSError, TimeoutError, ValueError, ProxyError):
            async with asyncio.timeout(TALK_S):
                wanted = json.loads(await loop.sock_recv(conn, REQUEST_BYTES_MAX))
                with contextlib.ExitStack() as copies:
                    lent = await self._side.lend(wanted)
                    for sock in (sock for socks in lent.values() for sock in socks):
                        copies.enter_context(sock)
                    if lent:
                        await self._give(conn, lent)
                await loop.sock_sendall(conn, _END)

    async def _give(self, conn: socket.socket, lent: Lent) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            channel = await self._meet(ours)
            self._takers.add(channel)
            _send(conn, _CHANNEL, theirs)
        for name, socks in lent.items():
            for sock in socks:
                _send(conn, name.encode(), sock)

    # -- the one that replaces

    async def take(self, wanted: Sequence[str]) -> Lent:
        """Listening sockets at these addresses, of whoever listens there and lends them."""
        asked = (asyncio.to_thread(_ask, name, wanted) for name in self._others())
        taken: Lent = {}
        for answer in await asyncio.gather(*asked):
            for name, socks in answer.items():
                if name == _CHANNEL.decode():
                    await self._meet(socks[0])
                else:
                    taken.setdefault(name, []).extend(socks)
        if taken:
            count = sum(map(len, taken.values()))
            self._events("sockets_taken_over", addresses=sorted(taken), sockets=count)
        return taken

    def _others(self) -> list[str]:
        try:
            lines = _SOURCE.read_text(errors="replace").splitlines()
        except OSError:
            return []
        prefix = f"@{_prefix()}"
        columns = [line.split() for line in lines if prefix in line]
        found = [c[7][1:] for c in columns if len(c) == 8 and c[3] == _LISTENING]
        return [name for name in found if name.startswith(prefix[1:]) and name != self._name]

    # -- cancels

    async def cancel(self, key: CancelKey) -> None:
        """A key of no session here: the other process may know it."""
        body = {"pid": key.pid, "secret": key.secret.hex()}
        with contextlib.suppress(ProxyError, ConfigError, TimeoutError):
            async with asyncio.timeout(CANCEL_S):
                await asyncio.gather(*(peer.ask("cancel", body) for peer in set(self._peers)))

    async def _meet(self, sock: socket.socket) -> Channel:
        made: list[Channel] = []

        def make() -> Channel:
            made.append(Channel(self._answer, self._events, lambda: self._gone(made[0])))
            return made[0]

        await asyncio.get_running_loop().create_connection(make, sock=sock)
        self._peers.add(made[0])
        return made[0]

    async def _answer(self, kind: str, body: Body) -> Body:
        if kind == "cancel":
            await self._side.cancel_here(CancelKey(body["pid"], bytes.fromhex(body["secret"])))
        return {}

    def _gone(self, channel: Channel) -> None:
        self._peers.discard(channel)
        if channel in self._takers:
            self._takers.discard(channel)
            if not self._takers:
                self._side.keep()

    # -- the end

    def close(self) -> None:
        """Not found any more; cancels still pass."""
        door, self._door = self._door, None
        if door is not None:
            asyncio.get_running_loop().remove_reader(door.fileno())
            door.close()

    async def stop(self) -> None:
        """End all talk."""
        self.close()
        await self._tasks.stop()
        for peer in set(self._peers):
            await peer.stop()


def _prefix() -> str:
    return f"backstay/{os.geteuid()}/"


def _is_ours(conn: socket.socket) -> bool:
    """Whether the other side is of our user: anybody may reach an abstract socket."""
    packed = conn.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(packed)
    return bool(user == os.geteuid())


def _send(conn: socket.socket, name: bytes, sock: socket.socket) -> None:
    socket.send_fds(conn, [name], [sock.fileno()])


def _ask(name: str, wanted: Sequence[str]) -> Mapping[str, list[socket.socket]]:
    """What one process lends. A thread's work: it may stand still."""
    taken: Lent = {}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as conn:
        conn.settimeout(TALK_S)
        try:
            conn.connect("\0" + name)
            if not _is_ours(conn):
                return {}
            conn.sendall(json.dumps(list(wanted)).encode())
            for _ in range(SOCKETS_MAX):
                word, descriptors, _, _ = socket.recv_fds(conn, NAME_BYTES_MAX, 1)
                if not descriptors:
                    break
                sock = socket.socket(fileno=descriptors[0])
                sock.set_inheritable(False)
                taken.setdefault(word.decode(), []).append(sock)
        except OSError:
            pass  # it has ended, or stands still: what it has given is ours all the same
    return taken
