"""What model clients send: commands with unique marks, on few keys, so that clients meet.

Owns: arguments, bytes, chance. Must not know: answers (`books`), connections (`client`).
"""

import random
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.redis.resp import Simple, command

STRINGS = (b"k0", b"k1", b"k2", b"k3")
PAIR = (b"p0", b"p1")
COUNTERS = (b"n0", b"n1")
QUEUE, LIST, HIDDEN = b"q", b"l", b"e"
CHANNELS = (b"news", b"talk")
READS = ("get", "mget", "exists", "llen", "lrange", "pttl", "echo", "ping")
TAKES = ("lpop", "blpop")
_FOCUSED = {"pair": 0.4, "hidden": 0.4, "whole": 0.15}  # of writes
OK, QUEUED = Simple(b"OK"), Simple(b"QUEUED")


@dataclass(eq=False)
class Ask:
    """One command and what is known of it. `expected`: the whole answer, where one is right."""

    verb: str
    args: list[bytes]
    keys: list[bytes] = field(default_factory=list)
    mark: bytes = b""
    expected: Any = None
    number: int = 0
    db: int = 0
    user: bytes = b""
    exact: bool = False  # never from the cache
    sent_s: float = 0.0
    answered_s: float = 0.0
    losses: int = 0
    faults: int = 0
    later_write: bool = False
    refused: bool = False
    floors: dict[bytes, int] = field(default_factory=dict)
    parts: list["Ask"] = field(default_factory=list)  # of EXEC
    before: list["Ask"] = field(default_factory=list)  # MULTI and what was queued
    watches: list["Ask"] = field(default_factory=list)
    frames: int = 1

    @property
    def reads(self) -> bool:
        """May be sent again."""
        return self.verb in READS

    @property
    def wire(self) -> bytes:
        return command(*self.args)

    @property
    def text(self) -> str:
        """For people."""
        return f"#{self.number} {b' '.join(self.args)[:80].decode('latin-1')} (db {self.db})"


class Numbers:
    """1, 2, 3…: one for all of a run."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        self._last += 1
        return self._last


class Author:
    """Makes the commands of one client."""

    def __init__(self, rng: random.Random, name: str, numbers: Numbers, focus: str) -> None:
        self.rng, self.name, self.numbers, self.focus = rng, name, numbers, focus
        self.keys = STRINGS[: 1 if focus == "stalled" else rng.randrange(1, 5)]
        self.written = 0.05 if focus == "stalled" else rng.choice((0.1, 0.35, 0.6))

    def _new(self, verb: str, *args: bytes, **more: Any) -> Ask:
        ask = Ask(verb, list(args), number=self.numbers.next(), **more)
        return ask

    def _mark(self) -> bytes:
        return b"%s#%d" % (self.name.encode(), self.numbers.next())

    # -- reads

    def read(self) -> Ask:
        """A read that the cache may answer."""
        rng = self.rng
        if self.focus == "pair" and rng.random() < 0.6:
            return self.keyed("mget", *PAIR) if rng.random() < 0.5 else self.keyed("get", PAIR[0])
        if self.focus == "hidden" and rng.random() < 0.6:
            return self.keyed("get", HIDDEN)
        match rng.randrange(12):
            case 0:
                return self.keyed("mget", *PAIR)
            case 1:
                some = rng.sample((*STRINGS, *PAIR), rng.randrange(1, 4))
                return self.keyed(rng.choice(("mget", "exists")), *some)
            case 2:
                return self.keyed("get", rng.choice(COUNTERS))
            case 3:
                return self.keyed("get", HIDDEN)
            case 4:
                return self._new("lrange", b"LRANGE", LIST, b"0", b"-1", keys=[LIST])
            case 5:
                return self.keyed("llen", LIST)
            case 6:
                return self.keyed("get", rng.choice(PAIR))
        return self.keyed("get", rng.choice(self.keys))

    def keyed(self, verb: str, *keys: bytes) -> Ask:
        """A command of nothing but keys."""
        name = verb.upper() if self.rng.random() < 0.9 else verb
        return self._new(verb, name.encode(), *keys, keys=list(keys))

    def other(self) -> Ask:
        """A command that the cache has nothing to do with."""
        rng = self.rng
        match rng.randrange(6):
            case 0:
                mark = self._mark()
                return self._new("echo", b"ECHO", mark, expected=mark)
            case 1:
                return self._new("whoami", b"ACL", b"WHOAMI")
            case 2:
                return self.keyed("pttl", rng.choice(STRINGS))
            case 3:
                return self._new("ping", b"PING", expected=Simple(b"PONG"))
            case 4:
                mark = self._mark()
                return self._new("publish", b"PUBLISH", rng.choice(CHANNELS), mark)
        return self.keyed("lpop", QUEUE)

    # -- writes

    def set(self, key: bytes) -> Ask:
        mark = self._mark()
        expiry = []
        if self.rng.random() < 0.3:
            expiry = [b"PX", b"%d" % self.rng.choice((3, 30, 300, 3000))]
        return self._new("set", b"SET", key, mark, *expiry, keys=[key], mark=mark)

    def write(self) -> Ask:
        rng = self.rng
        if rng.random() < _FOCUSED.get(self.focus, 0.0):
            return self._in_focus()
        match rng.randrange(16):
            case 0 | 1:
                return self.keyed("incr", rng.choice(COUNTERS))
            case 2:
                key = b"once:" + self._mark()
                return self._new("once", b"INCR", key, keys=[key], mark=key)
            case 3:
                return self.keyed("del", rng.choice((*self.keys, LIST)))
            case 4 | 5:
                return self._pair()
            case 6:
                ms = b"%d" % rng.choice((5, 50, 500))
                key = rng.choice(self.keys)
                return self._new("pexpire", b"PEXPIRE", key, ms, keys=[key])
            case 7:
                return self.push(rng.choice((LIST, QUEUE)))
            case 8 | 9:
                return self._script()
            case 10 if rng.random() < 0.6:
                return self._whole()
        return self.set(rng.choice(self.keys))

    def _in_focus(self) -> Ask:
        """What this run has more of than others."""
        return {"pair": self._pair, "hidden": self._script, "whole": self._whole}[self.focus]()

    def _pair(self) -> Ask:
        mark = self._mark()
        args = (PAIR[0], mark, PAIR[1], mark)
        return self._new("mset", b"MSET", *args, keys=list(PAIR), mark=mark)

    def _script(self) -> Ask:
        """It writes a key that it does not always name."""
        mark = self._mark()
        head = (b"1", HIDDEN) if self.rng.random() < 0.3 else (b"0",)
        args = (b"EVAL", b"script", *head, HIDDEN, mark)
        return self._new("eval", *args, keys=[HIDDEN], mark=mark)

    def _whole(self) -> Ask:
        """A database, or two."""
        if self.rng.random() < 0.6:
            return self._new("flushdb", b"FLUSHDB")
        return self._new("swapdb", b"SWAPDB", *self.rng.sample((b"0", b"1", b"2"), 2))

    def push(self, key: bytes) -> Ask:
        """An element with a mark of its own, at times a long one."""
        mark = self._mark() + b"." * (self.rng.choice((0, 0, 3000)) if key == LIST else 0)
        return self._new("rpush", b"RPUSH", key, mark, keys=[key], mark=mark)

    def take(self) -> Ask:
        """Waits for an element."""
        seconds = self.rng.choice((b"0.05", b"0.4", b"2"))
        return self._new("blpop", b"BLPOP", QUEUE, seconds, keys=[QUEUE])

    def plain(self) -> Ask:
        """One ordinary command."""
        if self.rng.random() < 0.15:
            return self.other()
        return self.write() if self.rng.random() < self.written else self.read()

    # -- sessions

    def session(self, verb: str, *args: bytes, expected: Any = OK) -> Ask:
        """A command about the connection."""
        return self._new(verb, *args, expected=expected)

    def transaction(self) -> list[Ask]:
        """[WATCH, a read,] MULTI … EXEC or DISCARD."""
        rng = self.rng
        asks: list[Ask] = []
        watches = []
        if rng.random() < 0.5:
            keys = rng.sample(STRINGS, rng.randrange(1, 3))
            watches = [self._new("watch", b"WATCH", *keys, keys=keys, expected=OK)]
            asks += watches
            if rng.random() < 0.6:
                asks.append(self.read())
        multi = self._new("multi", b"MULTI", expected=OK)
        parts = [self.read() if rng.random() < 0.3 else self.set(rng.choice(self.keys))]
        count = rng.randrange(3)
        parts += [self.read() if rng.random() < 0.3 else self.write() for _ in range(count)]
        parts = [one for one in parts if one.verb not in ("flushdb", "swapdb")]
        queued = [self._new("queued", *one.args, expected=QUEUED) for one in parts]
        if rng.random() < 0.15:
            end = self._new("discard", b"DISCARD", expected=OK, parts=parts)
            return [*asks, multi, *queued, end]
        end = self._new("exec", b"EXEC", parts=parts, before=[multi, *queued], watches=watches)
        return [*asks, multi, *queued, end]
