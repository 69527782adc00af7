"""The Redis side of a campaign: increments in a ledger, and reads of a key that others write."""

import random
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from proxy.demo.servers import RedisServer
from tests.campaign.kit import BACK_S_MAX, PROXY_GONE, Books, Crew, Phase

COUNTERS = 6
READERS = 4
LEASE_S = 0.5  # redis.cache.lease_ms: a read this long after a write sees it
WATCHED = "watched"
# The last two are the server's own: after a failover its old primary refuses.
NOT_EXECUTED = ("UPSTREAMDOWN", "READONLY", "EXECABORT")
NAMED = ("UPSTREAMLOST", *NOT_EXECUTED)
PAUSE_S = 0.006
LAZY_S = 0.1
WRITE_S = 0.03
ANSWER_S_MAX = 30.0
WRITES_KEPT = 100_000


class Client:
    """One connection through the proxy, which repeats nothing by itself."""

    def __init__(self, port: int, books: Books) -> None:
        self._books = books
        self._life = self._next = books.lives
        retry = Retry(NoBackoff(), 0)
        self.redis = redis.Redis(
            port=port, retry=retry, socket_timeout=ANSWER_S_MAX, decode_responses=True
        )

    def code(self, error: redis.RedisError) -> str:
        """The code of an error that may come; any other is raised."""
        if isinstance(error, redis.ConnectionError) and not isinstance(error, redis.TimeoutError):
            if self._books.lives == self._life:
                raise error
            return PROXY_GONE
        if isinstance(error, redis.exceptions.ReadOnlyError):
            return "READONLY"
        if isinstance(error, redis.exceptions.ExecAbortError):
            return "EXECABORT"
        code = str(error).partition(" ")[0]
        if code not in NAMED:
            raise error
        return code

    def ready(self) -> None:
        """Before a command: wait while the proxy is dead."""
        self._next = self._books.lives  # before `back`: then it is this life's, or a later one
        self._books.back.wait(BACK_S_MAX)

    def answered(self) -> None:
        """After it: the connection is one of that life."""
        self._life = self._next


class Counter:
    """INCR of a key of its own: what was acknowledged counts once, the unknown at most once."""

    def __init__(self, client: Client, crew: Crew, number: int) -> None:
        self._client, self._crew, self._key = client, crew, f"redis:{number}"
        self._rng = random.Random(2000 + number)
        self._last = 0
        self._pause_s = LAZY_S if number == 0 else PAUSE_S  # one is mostly idle

    def run(self) -> None:
        ways: tuple[tuple[str, Callable[[], list[Any]]], ...] = (
            ("INCR", self._one),
            ("INCR, pipeline", self._pipeline),
            ("INCR, MULTI", self._multi),
        )
        with self._client.redis:
            while not self._crew.pause(self._pause_s):
                name, way = self._rng.choice(ways)
                self._client.ready()
                answers = way()
                if not any(isinstance(one, redis.RedisError) for one in answers):
                    self._client.answered()
                    self._crew.books.served(name, len(answers))
                for one in answers:
                    self._note(one)

    def _note(self, answer: Any) -> None:
        books = self._crew.books
        if isinstance(answer, redis.RedisError):
            code = self._client.code(answer)
            books.refused(code)
            with books.lock:
                books.hits_open[self._key] += code not in NOT_EXECUTED
            return
        with books.lock:
            books.hits_known[self._key] += 1
            known, unknown = books.hits_known[self._key], books.hits_open[self._key]
        value = int(answer)
        if not (self._last < value and known <= value <= known + unknown):
            books.not_right(f"INCR: {value} after {self._last}, {known} + {unknown} expected")
        self._last = value

    def _one(self) -> list[Any]:
        with self._crew.redis.doing(Phase.IN_FLIGHT):
            try:
                return [self._client.redis.incr(self._key)]
            except redis.RedisError as error:
                return [error]

    def _pipeline(self) -> list[Any]:
        return self._many(Phase.IN_PIPELINE, transaction=False)

    def _multi(self) -> list[Any]:
        return self._many(Phase.IN_TRANSACTION, transaction=True)

    def _many(self, phase: Phase, *, transaction: bool) -> list[Any]:
        """Three increments. The whole of it may fail as one: then each of them is unknown."""
        with (
            self._crew.redis.doing(phase),
            self._client.redis.pipeline(transaction=transaction) as pipeline,
        ):
            for _ in range(3):
                pipeline.incr(self._key)
            try:
                return pipeline.execute(raise_on_error=False)
            except redis.RedisError as error:
                return [error] * 3


class Outsider:
    """Somebody else who raises the watched key, straight in the server."""

    def __init__(self, server: Callable[[], RedisServer], crew: Crew) -> None:
        self._server, self._crew = server, crew
        self.sent = 0
        self.acknowledged: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=WRITES_KEPT)
        """When the server said so, and which value."""

    def run(self) -> None:
        while not self._crew.pause(WRITE_S):
            self.sent += 1
            while not self._crew.over.is_set():
                try:
                    with self._server().connect(retry=Retry(NoBackoff(), 0)) as direct:
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

    def __init__(self, client: Client, crew: Crew, outsider: Outsider) -> None:
        self._client, self._crew, self._outsider = client, crew, outsider

    def run(self) -> None:
        books, client = self._crew.books, self._client
        with client.redis:
            while not self._crew.pause(PAUSE_S):
                client.ready()
                begun_s = time.monotonic()
                try:
                    with self._crew.redis.doing(Phase.IN_FLIGHT):
                        value = int(client.redis.get(WATCHED) or 0)
                except redis.RedisError as error:
                    books.refused(client.code(error))
                    continue
                client.answered()
                least, most = self._outsider.least(begun_s - LEASE_S), self._outsider.sent
                if not least <= value <= most:
                    books.not_right(f"GET: {value}, expected {least} to {most}")
                books.served("GET")


def hire(server: Callable[[], RedisServer], ports: list[int], crew: Crew) -> None:
    """Start everybody; the ways to the server take turns. `server`: the primary of now."""
    outsider = Outsider(server, crew)
    crew.hire("outsider", outsider.run)

    def client(number: int) -> Client:
        return Client(ports[number % len(ports)], crew.books)

    for number in range(COUNTERS):
        crew.hire(f"INCR {number}", Counter(client(number), crew, number).run)
    for number in range(READERS):
        crew.hire(f"GET {number}", Reader(client(number), crew, outsider).run)


def settle(server: RedisServer) -> dict[str, int]:
    """The counters, read behind the proxy's back."""
    with server.connect(decode_responses=True) as direct:
        names = [f"redis:{number}" for number in range(COUNTERS)]
        values: list[Any] = direct.mget(names)
    return {name: int(value or 0) for name, value in zip(names, values, strict=True)}
