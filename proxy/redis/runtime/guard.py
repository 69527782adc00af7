"""Writes on their way: what the caches must know before they leave and before they are answered.

One guard per batch (or per command on an exclusive link). Laws W1 to W5 of reference/redis.md, 2.6.
"""

from functools import partial
from typing import TYPE_CHECKING

from proxy.redis.protocol.cacheable import locks_or_counts, read_keys
from proxy.redis.protocol.commands import CACHEABLE, EFFECTS, FLUSHES, OPAQUE, WRITES

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.redis.runtime.client import ClientConnection

_OTHER_DATABASES = frozenset((b"MOVE", b"COPY"))


class Guard:
    """Collects what the commands of one batch may change; `begin` before, `end` after."""

    __slots__ = ("_client", "_counts", "_database", "_everywhere", "_fences", "_flushes", "_keys")

    def __init__(self, client: "ClientConnection", *, any_database: bool = False) -> None:
        """`any_database`: a SELECT may be on its way, so nobody knows yet where it writes."""
        self._client = client
        self._database = None if any_database else client.session.db
        self._keys: list[bytes] = []
        self._everywhere: list[bytes] = []  # keys of whatever database
        self._counts = False
        self._fences: str = ""
        self._flushes = False

    def add_key(self, key: bytes) -> None:
        """A write of just this key."""
        self._keys.append(key)

    def add_all(self) -> None:
        """It may write every key."""
        self._flushes = True

    def note(self, route: int, args: list[bytes]) -> None:
        """On an exclusive link: a write, or a read that a cache might have answered (W7)."""
        if route & EFFECTS:
            self.add(route, args)
        elif route & CACHEABLE:
            self._keys.extend(read_keys(args))

    def add(self, route: int, args: list[bytes]) -> None:
        """A command with one of the flags WRITES, OPAQUE, FLUSHES in its route."""
        table = self._client.route.table
        if route & FLUSHES:
            self._flushes = True
            return
        command = table.find(args[0], args[1] if len(args) > 1 else b"")
        keys = command.write_keys(args) if command is not None else None
        if keys is None or (route & OPAQUE and not keys):
            self._fences = "all"
        else:
            name = args[0].upper()
            (self._everywhere if name in _OTHER_DATABASES else self._keys).extend(keys)
            if route & OPAQUE and not self._fences:
                self._fences = "own"
        if route & WRITES and locks_or_counts(args):
            self._counts = True

    def begin(self) -> None:
        """W1, W5: before the first byte reaches a link."""
        caches = self._client.route.caches
        assert caches is not None
        if self._keys:
            caches.writing(self._database, self._keys, self._counts)
        if self._everywhere:
            caches.writing(None, self._everywhere, self._counts)
        if self._flushes:
            caches.flushing()

    def end(self) -> None:
        """W3, W4, W5: answered, and the reply not yet with the client; or lost."""
        route = self._client.route
        caches = route.caches
        assert caches is not None
        if self._keys:
            caches.written(self._database, self._keys)
        if self._everywhere:
            caches.written(None, self._everywhere)
        if self._flushes:
            caches.flushed()
        if self._fences == "own":
            self._client.fence()
        elif self._fences:
            route.fence_all()

    def at_once(self) -> None:
        """Both: for a command that waited, and was answered just now."""
        self.begin()
        self.end()


def guard_of(client: "ClientConnection", args: list[bytes]) -> Guard | None:
    """That of one command for a shared lane; None if no cache need hear of it."""
    route = client.route.table.route(args[0])
    if client.route.caches is None or not route & EFFECTS:
        return None
    guard = Guard(client)
    guard.add(route, args)
    return guard


def guard_keys(client: "ClientConnection", keys: list[bytes]) -> "Callable[[], None]":
    """As a Guard of writes of just these keys, begun already; to be called for its end."""
    caches, database = client.route.caches, client.session.db
    assert caches is not None
    caches.writing(database, keys)
    return partial(caches.written, database, keys)
