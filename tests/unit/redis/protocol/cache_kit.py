"""A cache with a link and two clients, and short words for what T says."""

from __future__ import annotations

from proxy.redis.protocol.actions import Answer, Bypass, CacheOptions, Out, Server, Wait
from proxy.redis.protocol.insight import Bypassed
from proxy.redis.protocol.partitions import Partitions
from tests.wire_redis import command

OK = b"+OK\r\n"
NIL = b"_\r\n"
PONG = b"+PONG\r\n"
SERVER = Server((7, 0, 15), hash_field_ttls=False)


def text(value: str) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), value.encode())


def push(*keys: str) -> bytes:
    names = b"".join(text(key) for key in keys)
    return b">2\r\n$10\r\ninvalidate\r\n*%d\r\n%b" % (len(keys), names)


FLUSHED = b">2\r\n$10\r\ninvalidate\r\n_\r\n"


class Kit:
    """One partition with its link up at time 0. Two RESP3 clients `a`, `b`, and `old` (RESP2)."""

    def __init__(self, options: CacheOptions | None = None, server: Server | None = SERVER) -> None:
        self.partitions = Partitions(options or CacheOptions(), lambda: 0.5)
        self.cache = self.partitions.partition("user", 0)
        self.a = self.partitions.reader(self.cache, 3)
        self.b = self.partitions.reader(self.cache, 3)
        self.old = self.partitions.reader(self.cache, 2)
        self.now_s = 0.0
        if server is not None:
            self.cache.link_up(server, 0.0)

    def read(self, reader: object, line: str, waiter: object = "w") -> Answer | Wait | Bypass:
        words = line.split()
        argv = [word.encode() for word in words]
        return reader.read(command(*words), argv, waiter, self.now_s)  # type: ignore[attr-defined]

    def hit(self, reader: object, line: str) -> bytes | None:
        return reader.hit(command(*line.split()), self.now_s)  # type: ignore[attr-defined]

    def tell(self, *frames: bytes) -> Out:
        return self.cache.frames(frames, self.now_s)

    def fill(self, line: str, reply: bytes, ttl: int = -1) -> None:
        """Cached, and read by `a`."""
        assert isinstance(self.read(self.a, line), Wait)
        out = self.tell(OK, reply, b":%d\r\n" % ttl)
        assert out.answers == [("w", reply)]

    @property
    def bypassed(self) -> dict[Bypassed, int]:
        return self.partitions.insight.bypassed
