"""The smallest runtime that obeys the cache's rules, over blocking sockets to a real server.

One client at a time, so that a test reads like a conversation. `T` is the tracking link, `D` a data
link per RESP version; `upstream_reads` counts what left on either.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import (
    Answer,
    Bypass,
    CacheOptions,
    Fault,
    Out,
    Phase,
    Server,
    Wait,
)
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.partitions import Partitions
from proxy.redis.protocol.swaps import swaps_of
from tests.wire_redis import RedisWire, command


class Driver:
    """One partition of one route, and a RESP2 and a RESP3 client."""

    def __init__(
        self,
        server: RedisServer,
        options: CacheOptions | None = None,
        login: tuple[str, str] = ("default", ""),
        cache: type[Cache] = Cache,
    ) -> None:
        self.server = server
        self.login = login
        self.partitions = Partitions(options or CacheOptions(), lambda: 0.5)
        self.partitions.make_cache = cache
        self.cache = self.partitions.partition(login[0], 0)
        self.data = {2: self._connect(2), 3: self._connect(3)}
        self.readers = {resp: self.partitions.reader(self.cache, resp) for resp in (2, 3)}
        self.fills = 0
        self.forwarded = 0
        self.last = ""  # how the last read was answered: hit, answer, T, or the bypass reason
        self._answers: dict[object, bytes] = {}
        self._direct: list[object] = []
        self.tracking: RedisWire | None = None
        self.open_tracking()

    def close(self) -> None:
        for wire in (*self.data.values(), self.tracking):
            if wire is not None:
                wire.close()

    def _connect(self, resp: int) -> RedisWire:
        wire = RedisWire.connect(("127.0.0.1", self.server.port))
        name, password = self.login
        login = ("AUTH", name, password) if password else ()
        reply = wire.ask("HELLO", resp, *login)
        assert reply[:1] in (b"*", b"%"), reply
        return wire

    def open_tracking(self) -> None:
        """Set T up as the runtime must, and tell the cache what came out."""
        wire = self._connect(3)
        refused = wire.ask("CLIENT", "TRACKING", "ON", "OPTIN")
        if refused != b"+OK\r\n":
            wire.close()
            self.cache.refused(refused[1:-2].decode())
            return
        hash_ttls = wire.ask("COMMAND", "INFO", "HPTTL") != b"*1\r\n_\r\n"
        self.tracking = wire
        asked_s = self.now_s
        swaps = swaps_of(wire.ask("INFO", "commandstats"))
        self.cache.link_up(Server((7, 0, 0), hash_ttls, swaps, asked_s), self.now_s)

    @property
    def now_s(self) -> float:
        return time.monotonic()

    # ---- T ----

    def _to_tracking(self, data: bytes) -> None:
        if data:
            assert self.tracking is not None
            self.fills += data.count(b"CACHING")
            self.tracking.send(data)

    def _obey(self, out: Out) -> None:
        self._to_tracking(out.write)
        self._answers.update(out.answers)
        self._direct += out.direct
        if out.fault is not None:
            self.lose_tracking(out.fault)

    def lose_tracking(self, fault: Fault | None = None) -> None:
        """T is closed; the cache hears of it."""
        if self.tracking is not None:
            self.tracking.close()
            self.tracking = None
            self._obey(self.cache.link_lost())
        if fault is Fault.REFUSED:
            self.cache.refused(fault.value)

    def hear(self, seconds: float = 5.0) -> None:
        """One frame from T, if it comes in time."""
        assert self.tracking is not None
        self._obey(self.cache.frames([self.tracking.read(seconds)], self.now_s))

    def settle(self) -> None:
        """Everything that T has to say until now; the lease is fresh afterwards."""
        if self.tracking is None:
            return
        number, data = self.cache.fence(self.now_s)
        self._to_tracking(data)
        while self.tracking is not None and self.cache.traffic.done_number < number:
            self.hear()

    def settle_for(self, seconds: float) -> None:
        """Listen to T for so long, keeping the lease."""
        end_s = self.now_s + seconds
        while self.now_s < end_s:
            self._obey(self.cache.tick(self.now_s))
            with suppress(TimeoutError):
                self.hear(0.02)

    # ---- the clients ----

    def read(self, *words: str | bytes, resp: int = 3) -> bytes:
        """What a client gets for this read."""
        raw = command(*words)
        argv = [word if isinstance(word, bytes) else word.encode() for word in words]
        reader = self.readers[resp]
        reply = reader.hit(raw, self.now_s)
        if reply is not None:
            self.last = "hit"
            return reply
        waiter = object()
        match reader.read(raw, argv, waiter, self.now_s):
            case Answer(reply):
                self.last = "answer"
                return reply
            case Wait(data):
                self._to_tracking(data)
                while waiter not in self._answers and waiter not in self._direct:
                    self.hear()
                if waiter in self._answers:
                    self.last = "T"
                    return self._answers.pop(waiter)
                self._direct.remove(waiter)
                self.last = "fell back"
            case Bypass(reason):
                self.last = str(reason)
        self.forwarded += 1
        self.data[resp].send(raw)
        reply = self.data[resp].read()
        reader.direct(raw, argv, reply)
        return reply

    def write(self, *words: str | bytes, keys: tuple[bytes, ...] = ()) -> bytes:
        """A write through the proxy, W1 before and W3 after."""
        self.partitions.writing(0, keys)
        reply = self.data[3].ask(*words)
        self.partitions.written(0, keys)
        return reply

    @property
    def upstream_reads(self) -> int:
        return self.fills + self.forwarded

    @property
    def caching(self) -> bool:
        return self.cache.phase is Phase.READY


@contextmanager
def driving(
    server: RedisServer,
    options: CacheOptions | None = None,
    login: tuple[str, str] = ("default", ""),
    cache: type[Cache] = Cache,
) -> Iterator[Driver]:
    """A driver that is closed at the end."""
    driver = Driver(server, options, login, cache)
    try:
        yield driver
    finally:
        driver.close()
