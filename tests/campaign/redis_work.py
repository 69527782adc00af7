"""The Redis side of a campaign: increments in a ledger, and reads of a key that others write."""

import time
from collections import deque
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.demo.servers import RedisServer
from tests.campaign.kit import Crew

COUNTERS = 3
READERS = 3
LEASE_S = 0.5  # redis.cache.lease_ms: a read this long after a write sees it
WATCHED = "watched"
NAMED = ("UPSTREAMLOST", "UPSTREAMDOWN")
PAUSE_S = 0.002
ANSWER_S_MAX = 30.0
WRITES_KEPT = 100_000


def client(port: int) -> "redis.Redis":
    """One connection through the proxy, which repeats nothing by itself."""
    retry = Retry(NoBackoff(), 0)
    return redis.Redis(port=port, retry=retry, socket_timeout=ANSWER_S_MAX, decode_responses=True)


def named(error: redis.ResponseError) -> str:
    """The code of an error the proxy may give; any other is raised."""
    code = str(error).partition(" ")[0]
    if code not in NAMED:
        raise error
    return code


class Counter:
    """INCR of a key of its own: what was acknowledged counts once, the unknown at most once."""

    def __init__(self, port: int, crew: Crew, number: int) -> None:
        self._port, self._crew, self._key = port, crew, f"redis:{number}"

    def run(self) -> None:
        books, last = self._crew.books, 0
        with client(self._port) as own:
            while not self._crew.over.wait(PAUSE_S):
                try:
                    value = int(own.incr(self._key))
                except redis.ResponseError as error:
                    code = named(error)
                    books.refused(code)
                    with books.lock:
                        books.hits_open[self._key] += code == "UPSTREAMLOST"
                    continue
                with books.lock:
                    books.hits_known[self._key] += 1
                    known, unknown = books.hits_known[self._key], books.hits_open[self._key]
                if not (last < value and known <= value <= known + unknown):
                    books.not_right(f"INCR: {value} after {last}, {known} + {unknown} expected")
                last = value
                books.served("INCR")


class Outsider:
    """Somebody else who raises the watched key, straight in the server."""

    def __init__(self, server: RedisServer, crew: Crew) -> None:
        self._server, self._crew = server, crew
        self.sent = 0
        self.acknowledged: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=WRITES_KEPT)
        """When the server said so, and which value."""

    def run(self) -> None:
        direct = self._server.connect(retry=Retry(NoBackoff(), 0))
        while not self._crew.over.wait(0.03):
            self.sent += 1
            while not self._crew.over.is_set():
                try:
                    direct.set(WATCHED, self.sent)  # the same value again: no harm
                    break
                except redis.RedisError:
                    self._crew.over.wait(0.02)
            else:
                return
            self.acknowledged.append((time.monotonic(), self.sent))

    def least(self, at_s: float) -> int:
        """What a read that begins at that moment must see at least."""
        old = (value for when_s, value in reversed(self.acknowledged.copy()) if when_s <= at_s)
        return next(old, 0)


class Reader:
    """Reads the watched key again and again, mostly from the proxy's cache."""

    def __init__(self, port: int, crew: Crew, outsider: Outsider) -> None:
        self._port, self._crew, self._outsider = port, crew, outsider

    def run(self) -> None:
        books = self._crew.books
        with client(self._port) as own:
            while not self._crew.over.wait(PAUSE_S):
                begun_s = time.monotonic()
                try:
                    value = int(own.get(WATCHED) or 0)
                except redis.ResponseError as error:
                    books.refused(named(error))
                    continue
                least, most = self._outsider.least(begun_s - LEASE_S), self._outsider.sent
                if not least <= value <= most:
                    books.not_right(f"GET: {value}, expected {least} to {most}")
                books.served("GET")


def hire(server: RedisServer, port: int, crew: Crew) -> None:
    """Start everybody."""
    outsider = Outsider(server, crew)
    crew.hire("outsider", outsider.run)
    for number in range(COUNTERS):
        crew.hire(f"INCR {number}", Counter(port, crew, number).run)
    for number in range(READERS):
        crew.hire(f"GET {number}", Reader(port, crew, outsider).run)


def settle(server: RedisServer) -> dict[str, int]:
    """The counters, read behind the proxy's back."""
    with server.connect(decode_responses=True) as direct:
        names = [f"redis:{number}" for number in range(COUNTERS)]
        values: list[Any] = direct.mget(names)
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}
