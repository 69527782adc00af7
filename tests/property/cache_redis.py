"""A simulated Redis in virtual time: keys with every version they had, tracking, links that reorder
nothing.

Each direction of a link keeps order and delays at random; the commands of one batch reach the
server apart from each other; expiry is lazy and sends its push late, as real servers do (exp 2,
2b).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

FOREVER_S = float("inf")


class Clock:
    """Virtual time: a heap of events."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when_s: float, act: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (max(when_s, self.now_s), self._count, act))

    def after(self, delay_s: float, act: Callable[[], None]) -> None:
        self.at(self.now_s + delay_s, act)

    def run(self, until_s: float) -> None:
        while self._events and self._events[0][0] <= until_s:
            self.now_s, _, act = heapq.heappop(self._events)
            act()
        self.now_s = until_s


@dataclass
class Version:
    """One value of a key (None: missing), valid from start_s until before end_s."""

    value: bytes | None
    start_s: float
    end_s: float = FOREVER_S
    expires_s: float = FOREVER_S  # its own TTL, whatever ended it


class Redis:
    """Executes one command at a time and remembers every version of every key."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.versions: dict[bytes, list[Version]] = {}
        self.tracked: dict[Link, set[bytes]] = {}
        self.executed_s: dict[object, float] = {}
        self.reads = 0
        self._pushes: list[tuple[Link, bytes]] = []
        self._lazy: set[bytes] = set()  # keys whose expiry nobody has noticed yet

    def history(self, key: bytes) -> list[Version]:
        return self.versions.setdefault(key, [Version(None, -1.0)])

    def current(self, key: bytes) -> bytes | None:
        versions = self.history(key)
        if versions[-1].end_s <= self.clock.now_s:  # it expired
            versions.append(Version(None, versions[-1].end_s))
            self._lazy.add(key)
        return versions[-1].value

    def receive(self, link: Link, argv: list[bytes], token: object) -> None:
        """Execute, answer, then send the pushes it caused: a command's own come after its reply."""
        reply = self._execute(link, argv)
        if token is not None:
            self.executed_s[token] = self.clock.now_s
        link.say(reply)
        pushes, self._pushes = self._pushes, []
        for to, frame in pushes:
            to.say(frame)

    def _execute(self, link: Link, argv: list[bytes]) -> bytes:
        match argv:
            case [b"CLIENT", b"CACHING", b"YES"]:
                link.caching = True
                return b"+OK\r\n"
            case [b"MULTI"]:
                link.queue = []
                return b"+OK\r\n"
            case [b"EXEC"]:
                queue, link.queue = link.queue or [], None
                tracked, link.caching = link.caching, False
                replies = [self._run(link, one, tracked) for one in queue]
                return b"*%d\r\n" % len(replies) + b"".join(replies)
        if link.queue is not None:
            link.queue.append(argv)
            return b"+QUEUED\r\n"
        tracked, link.caching = link.caching, False
        return self._run(link, argv, tracked)

    def _run(self, link: Link, argv: list[bytes], tracked: bool) -> bytes:
        match argv:
            case [b"PING"]:
                return b"+PONG\r\n"
            case [b"GET", key]:
                return self._bulk(link, self._read(link, key, tracked))
            case [b"MGET", *keys]:
                values = [self._read(link, key, tracked) for key in keys]
                return b"*%d\r\n" % len(keys) + b"".join(self._bulk(link, v) for v in values)
            case [b"EXISTS", *keys]:
                return b":%d\r\n" % sum(self._read(link, k, tracked) is not None for k in keys)
            case [b"PTTL", key]:
                return self._pttl(key)
            case [b"SET", key, value]:
                self._write(key, value, FOREVER_S)
            case [b"SET", key, value, b"PX", ttl_ms]:
                self._write(key, value, int(ttl_ms) / 1000)
            case [b"DEL", key]:
                if self.current(key) is not None:
                    self._write(key, None, FOREVER_S)
                return b":1\r\n"
            case [b"MSET", *pairs]:
                for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                    self._write(key, value, FOREVER_S)
            case [b"SCRIPT", key, value]:  # stands for EVAL that writes a key it did not declare
                self._write(key, value, FOREVER_S)
            case [b"FLUSHALL"]:
                self._flush()
            case _:
                raise AssertionError(f"not simulated: {argv}")
        return b"+OK\r\n"

    def _bulk(self, link: Link, value: bytes | None) -> bytes:
        if value is None:
            return b"_\r\n" if link.resp == 3 else b"$-1\r\n"
        return b"$%d\r\n%b\r\n" % (len(value), value)

    def _read(self, link: Link, key: bytes, tracked: bool) -> bytes | None:
        self.reads += 1
        value = self.current(key)
        if key in self._lazy:
            self._lazy.discard(key)
            self._invalidate(key)
        if tracked and link in self.tracked:
            self.tracked[link].add(key)
        return value

    def _pttl(self, key: bytes) -> bytes:
        if self.current(key) is None:
            return b":-2\r\n"
        end_s = self.history(key)[-1].end_s
        return b":-1\r\n" if end_s == FOREVER_S else b":%d\r\n" % ((end_s - self.clock.now_s) * 1e3)

    def _write(self, key: bytes, value: bytes | None, ttl_s: float) -> None:
        self.current(key)
        self._lazy.discard(key)
        versions = self.history(key)
        versions[-1].end_s = self.clock.now_s
        expires_s = self.clock.now_s + ttl_s
        versions.append(Version(value, self.clock.now_s, expires_s, expires_s))
        self._invalidate(key)

    def _invalidate(self, key: bytes) -> None:
        frame = b">2\r\n$10\r\ninvalidate\r\n*1\r\n$%d\r\n%b\r\n" % (len(key), key)
        for link, keys in self.tracked.items():
            if key in keys:
                keys.discard(key)
                self._pushes.append((link, frame))

    def _flush(self) -> None:
        for key in list(self.versions):
            if self.current(key) is not None:
                self.versions[key][-1].end_s = self.clock.now_s
                self.versions[key].append(Version(None, self.clock.now_s))
        for link, keys in self.tracked.items():
            keys.clear()
            self._pushes.append((link, b">2\r\n$10\r\ninvalidate\r\n_\r\n"))


class Pipe:
    """One direction: keeps order, delays at random, can stall."""

    def __init__(self, clock: Clock, delay_s: Callable[[], float]) -> None:
        self.stalled_until_s = 0.0
        self._clock = clock
        self.delay_s = delay_s
        self._last_s = 0.0

    def send(self, act: Callable[[], None]) -> None:
        when_s = max(self._clock.now_s + self.delay_s(), self.stalled_until_s)
        when_s = max(when_s, self._last_s + 1e-6)  # one after the other
        self._last_s = when_s
        self._clock.at(when_s, act)


class Link:
    """One connection to the simulated Redis. `on_frame` is the proxy's end."""

    def __init__(
        self, redis: Redis, resp: int, delay_s: Callable[[], float], tracking: bool = False
    ) -> None:
        self.resp = resp
        self.open = True
        self.caching = False
        self.queue: list[list[bytes]] | None = None
        self.on_frame: Callable[[bytes], None] = lambda frame: None
        self.up = Pipe(redis.clock, delay_s)
        self.down = Pipe(redis.clock, delay_s)
        self._redis = redis
        if tracking:
            redis.tracked[self] = set()

    def send(self, argv: list[bytes], token: object = None) -> None:
        self.up.send(lambda: self._redis.receive(self, argv, token))

    def stall(self, until_s: float) -> None:
        """Nothing moves, in either direction, until then."""
        self.up.stalled_until_s = self.down.stalled_until_s = until_s

    def cut(self) -> None:
        """Nothing comes down any more; what is on its way up may still be executed."""
        self.open = False
        self._redis.tracked.pop(self, None)

    def say(self, frame: bytes) -> None:
        self.down.send(lambda: self.on_frame(frame) if self.open else None)
