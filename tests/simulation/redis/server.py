"""A model Redis: sessions as a server keeps them, on connections of the simulated network.

Owns: one process with its connections, logins, transactions, subscriptions, tracking, blocking.
Commands on data are in `commands`, the data in `data`. Must not know: the proxy.
"""

import asyncio
import itertools
import random
from collections import deque
from typing import Any

from tests.simulation.network import Network
from tests.simulation.redis.commands import OK, OTHERS, READS, WRITES, pop
from tests.simulation.redis.data import Keyspace, Where
from tests.simulation.redis.resp import NIL_ARRAY, Err, Push, Reader, Simple, encode

PASSWORDS = {b"ann": b"secret a", b"bob": b"secret b"}
LOADING = Err(b"LOADING Redis is loading the dataset in memory")
READONLY = Err(b"READONLY You can't write against a read only replica.")
WRONGPASS = Err(b"WRONGPASS invalid username-password pair or user is disabled.")
EXECABORT = Err(b"EXECABORT Transaction discarded because of previous errors.")
FULL = Err(b"ERR max number of clients reached")
_NOT_QUEUED = (b"EXEC", b"DISCARD", b"MULTI", b"WATCH", b"RESET", b"QUIT")
_WHILE_LOADING = (
    *_NOT_QUEUED,
    *(b"HELLO", b"AUTH", b"SELECT", b"CLIENT", b"INFO", b"COMMAND", b"PUBLISH"),
    *(b"SUBSCRIBE", b"UNSUBSCRIBE", b"UNWATCH"),
)
_LATER = object()  # the reply comes when the wait is over


class Connection(asyncio.Protocol):
    """One client of the server: mostly the proxy's links."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.id = next(server.ids)
        self.transport: Any = None
        self.reader = Reader()
        self.user, self.db, self.resp, self.name = b"default", 0, 2, b""
        self.queue: list[list[bytes]] | None = None
        self.spoilt = False  # a queued command was refused
        self.dirty = False  # a watched key has changed
        self.watching = False
        self.channels: dict[bytes, None] = {}
        self.tracking = self.optin = self.caching = False
        self.waits_for: list[bytes] = []
        self._wait: asyncio.TimerHandle | None = None
        self._todo: deque[list[bytes]] = deque()
        self._busy = self._running = False
        self._pushes: list[bytes] = []
        self._out: list[bytes] = []  # what leaves in one write

    @property
    def data(self) -> Keyspace:
        return self.server.data

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections[self.id] = self
        if self.server.full:
            self.transport.write(encode(FULL, 2))
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        self._todo += (value for value, _ in self.reader.feed(data))
        self.go_on()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.gone(self)

    # -- running

    def go_on(self) -> None:
        """Deal with what has come, unless somebody keeps the server or this client waiting."""
        server, outer = self.server, self._running
        self._running = server.gathers or outer
        while self._todo and not self.waits_for and not server.is_frozen:
            if self.id not in server.connections:
                break
            args = self._todo.popleft()
            self.data.record.seq += 1
            self._busy = True
            reply = self._run(args)
            self._busy = False
            if reply is not _LATER:
                self.say(reply)
            if args[0].upper() != b"CLIENT" and self.queue is None:
                self.caching = False
            for push in self._pushes:
                self._write(push)
            self._pushes.clear()
            server.serve_blocked()
        self._running = outer
        if not outer:
            self._flush()

    def say(self, value: Any) -> None:
        self._write(encode(value, self.resp))

    def _write(self, data: bytes) -> None:
        self._out.append(data)
        if not self._running:
            self._flush()

    def _flush(self) -> None:
        if self._out and not self.transport.is_closing():
            self.transport.write(b"".join(self._out))
        self._out.clear()

    def _run(self, args: list[bytes]) -> Any:
        name = args[0].upper()
        refused = self._refusal(name)
        if refused is not None:
            self.spoilt = self.spoilt or self.queue is not None
            return refused
        if self.queue is not None and name not in _NOT_QUEUED:
            self.queue.append(args)
            return Simple(b"QUEUED")
        return self.execute(name, args)

    def _refusal(self, name: bytes) -> Err | None:
        if self.server.loading and name not in _WHILE_LOADING:
            return LOADING
        if self.server.read_only and name in WRITES and name != b"SWAPDB":
            return READONLY
        if self.channels and self.resp == 2 and name in (*READS, *WRITES, b"MULTI"):
            return Err(b"ERR Can't execute: only (P|S)SUBSCRIBE / PING / QUIT are allowed")
        return None

    def execute(self, name: bytes, args: list[bytes]) -> Any:
        """Do it. Also for each command of an EXEC."""
        command = READS.get(name) or WRITES.get(name) or OTHERS.get(name)
        if command is not None:
            return command(self, args)
        method = getattr(self, f"do_{name.decode().lower()}", None)
        return Err(b"ERR unknown command") if method is None else method(args)

    # -- for commands

    def reads(self, keys: list[bytes]) -> None:
        """A command that only reads: its keys are tracked if that was asked for."""
        if self.tracking and (self.caching or not self.optin):
            self.data.track(self, keys)

    def block(self, keys: list[bytes], timeout_s: float) -> Any:
        """Wait for an element; inside EXEC nobody waits."""
        if self._in_exec:
            return NIL_ARRAY
        self.waits_for = keys
        if timeout_s < 1e9:
            self._wait = self.server.loop.call_later(timeout_s, self.unblock, NIL_ARRAY)
        return _LATER

    def unblock(self, reply: Any) -> None:
        self.waits_for = []
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
        self.say(reply)
        self.go_on()

    _in_exec = False

    def invalidate(self, keys: list[bytes] | None) -> None:
        """A tracked key has changed. What the client does itself is told behind its reply."""
        push = encode(Push([b"invalidate", keys]), 3)
        if self._busy:
            self._pushes.append(push)
        else:
            self._write(push)

    # -- sessions

    def do_hello(self, args: list[bytes]) -> Any:
        at = 2
        while at < len(args):
            if args[at].upper() == b"AUTH":
                refused = self.do_auth([b"AUTH", *args[at + 1 : at + 3]])
                if refused is not OK:
                    return refused
                at += 3
            else:
                self.name = args[at + 1]
                at += 2
        self.resp = int(args[1]) if len(args) > 1 else self.resp
        return {
            b"server": b"redis", b"version": b"7.2.4", b"proto": self.resp, b"id": self.id,
            b"mode": b"standalone", b"role": b"master", b"modules": [],
        }  # fmt: skip

    def do_auth(self, args: list[bytes]) -> Any:
        if PASSWORDS.get(args[1]) != args[-1]:
            return WRONGPASS
        self.user = args[1]
        return OK

    def do_select(self, args: list[bytes]) -> Any:
        if not 0 <= int(args[1]) < len(self.data.dbs):
            return Err(b"ERR DB index is out of range")
        self.db = int(args[1])
        return OK

    def do_reset(self, args: list[bytes]) -> Any:
        self.do_discard(args)
        self.user, self.db, self.resp, self.name = b"default", 0, 2, b""
        self.channels.clear()
        self.tracking = self.caching = False
        self.data.untrack(self)
        return Simple(b"RESET")

    def do_command(self, args: list[bytes]) -> Any:
        return [NIL_ARRAY] if len(args) > 2 else Err(b"ERR unknown command")

    def do_client(self, args: list[bytes]) -> Any:
        match args[1].upper():
            case b"ID":
                return self.id
            case b"SETNAME":
                self.name = args[2]
            case b"GETNAME":
                return self.name or None
            case b"TRACKING":
                self.tracking, self.optin = True, b"OPTIN" in args
                self.transport.lag_s = self.server.tracking_lag_s
                self.data.trackers[self] = None
            case b"TRACKINGINFO":
                flags = [b"on", b"optin"] if self.optin else [b"on" if self.tracking else b"off"]
                return {b"flags": flags, b"redirect": 0, b"prefixes": []}
            case b"CACHING":
                if not (self.tracking and self.optin):
                    return Err(b"ERR CLIENT CACHING can be called only when tracking is on")
                self.caching = True
            case _:
                return Err(b"ERR unknown subcommand")
        return OK

    # -- transactions

    def do_multi(self, args: list[bytes]) -> Any:
        if self.queue is not None:
            return Err(b"ERR MULTI calls can not be nested")
        self.queue, self.spoilt = [], False
        return OK

    def do_watch(self, args: list[bytes]) -> Any:
        if self.queue is not None:
            return Err(b"ERR WATCH inside MULTI is not allowed")
        for key in args[1:]:
            self.data.expire(self.db, key)
            self.data.watched.setdefault((self.db, key), {})[self] = None
        self.watching = True
        return OK

    def do_unwatch(self, args: list[bytes]) -> Any:
        if self.watching:
            for watchers in self.data.watched.values():
                watchers.pop(self, None)
        self.watching = self.dirty = False
        return OK

    def do_discard(self, args: list[bytes]) -> Any:
        if self.queue is None and args[0].upper() == b"DISCARD":
            return Err(b"ERR DISCARD without MULTI")
        self.queue = None
        self.do_unwatch(args)
        return OK

    def do_exec(self, args: list[bytes]) -> Any:
        if self.queue is None:
            return Err(b"ERR EXEC without MULTI")
        queue, dirty, spoilt = self.queue, self.dirty, self.spoilt
        self.do_discard(args)
        if spoilt:
            return EXECABORT
        if dirty:
            return NIL_ARRAY
        self._in_exec = True
        replies = []
        for queued in queue:
            self.data.record.seq += 1
            replies.append(self.execute(queued[0].upper(), queued))
        self._in_exec = False
        return replies

    # -- subscriptions

    def do_subscribe(self, args: list[bytes]) -> Any:
        for channel in args[1:]:
            self.channels[channel] = None
            self.say(Push([b"subscribe", channel, len(self.channels)]))
        return _LATER

    def do_unsubscribe(self, args: list[bytes]) -> Any:
        for channel in args[1:] or list(self.channels) or [None]:
            self.channels.pop(channel, None)  # type: ignore[arg-type]
            self.say(Push([b"unsubscribe", channel, len(self.channels)]))
        return _LATER


class Server:
    """One process. `data` outlives it where a restart keeps it."""

    def __init__(self, network: Network, data: Keyspace, rng: random.Random, number: int) -> None:
        self.network, self.loop, self.rng = network, network.loop, rng
        self.data = data
        self.ids = itertools.count(number * 1000 + 1)
        self.connections: dict[int, Connection] = {}
        self.loading = self.read_only = self.full = self.is_frozen = False
        self.gathers = rng.random() < 0.7  # the answers of one turn leave in one write
        self.tracking_lag_s = 0.0  # that much later than others hears a link that tracks
        self.swaps = 0
        self.replicas: list[Server] = []

    def accept(self) -> Connection:
        return Connection(self)

    def gone(self, conn: Connection) -> None:
        """A connection has ended."""
        self.connections.pop(conn.id, None)
        conn.waits_for = []
        if conn._wait is not None:
            conn._wait.cancel()
        self.data.untrack(conn)

    def publish(self, channel: bytes, text: bytes) -> int:
        """A message for whoever has subscribed; replicas get it too, uncounted."""
        self.data.record.published.append((self.loop.time(), channel, text))
        for replica in self.replicas:
            replica._tell(channel, text)
        return self._tell(channel, text)

    def swapped(self) -> None:
        """A SWAPDB has run, here and on the replicas: each counts it in its INFO."""
        for one in (self, *self.replicas):
            one.swaps += 1

    def _tell(self, channel: bytes, text: bytes) -> int:
        count = 0
        for conn in list(self.connections.values()):
            if channel in conn.channels:
                conn.say(Push([b"message", channel, text]))
                count += 1
        return count

    def serve_blocked(self) -> None:
        """Somebody who waits for a list that has got an element gets it."""
        data = self.data
        while data.pushed:
            where = data.pushed.pop(0)
            for conn in list(self.connections.values()):
                if self._waits(conn, where):
                    data.record.seq += 1
                    element = pop(conn, where[1])
                    if element is None:
                        break
                    conn.unblock([where[1], element])

    def _waits(self, conn: Connection, where: Where) -> bool:
        return conn.db == where[0] and where[1] in conn.waits_for

    # -- what befalls it

    def freeze(self, for_s: float) -> None:
        """Busy with something: nothing is read for a while."""
        self.is_frozen = True
        self.loop.call_later(for_s, self._thaw)

    def _thaw(self) -> None:
        self.is_frozen = False
        for conn in list(self.connections.values()):
            conn.go_on()

    def kill(self, conn: Connection) -> None:
        """CLIENT KILL: what was said leaves first."""
        self.gone(conn)
        conn.transport.close()

    def die(self) -> None:
        """kill -9: the kernel resets every connection."""
        for conn in list(self.connections.values()):
            self.gone(conn)
            conn.transport.abort()
            self.network.break_(conn.transport, "rst")
