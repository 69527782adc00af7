"""A model client: logs in, sends its commands, has the answers judged, leaves in some way.

Owns: one connection at a time, what it believes of its session, the choice of what comes next.
Must not know: the proxy.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.redis.books import Wrong
from tests.simulation.redis.resp import Err, Push, Reader, Simple, encode
from tests.simulation.redis.script import CHANNELS, Ask, Author
from tests.simulation.redis.server import FULL, PASSWORDS

if TYPE_CHECKING:
    from tests.simulation.redis.world import World

ANSWER_S_MAX = 60.0  # virtual: hold_s, silent links found out, the server's own time, and more
PROBE_S_MAX = 40.0  # until a subscriber hears again, whatever has happened


class Client(asyncio.Protocol):
    """One connection of a model client."""

    def __init__(self, world: "World", name: str, rng: random.Random) -> None:
        self.world, self.name, self.rng = world, name, rng
        self.author = Author(rng, name, world.numbers, world.focus)
        self.transport: Any = None
        self.owed: deque[Ask] = deque()
        self.resp, self.db, self.user, self.title = 2, 0, b"default", b""
        self.id = 0
        self.own: dict[tuple[int, bytes], int] = {}  # what it has seen and done itself
        self.channels: dict[bytes, float] = {}  # since when
        self.heard: list[tuple[bytes, bytes]] = []
        self.over = self.left = False
        self.may_watch = False  # a WATCH of unknown outcome: the next EXEC may say nil
        self._reader = Reader()
        self._news = asyncio.Event()
        self._confirming: bytes = b""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        for value, raw in self._reader.feed(data):
            try:
                if raw != encode(value, self._resp_of(value)):
                    raise Wrong(f"not as RESP{self.resp} writes it: {raw[:80]!r}")
                self._take(value)
            except Wrong as wrong:
                self.world.wrong(f"{self.name}: {wrong}")
        self._news.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._news.set()

    def _resp_of(self, value: Any) -> int:
        """HELLO is answered in the version that it asks for."""
        asked = self.owed[0].verb if self.owed else ""
        return int(self.owed[0].args[1]) if asked == "hello" and type(value) is dict else self.resp

    def _take(self, value: Any) -> None:
        if self.channels and self._is_message(value):
            self._message(value[1], value[2])
            return
        if isinstance(value, Push) and not (self.owed and self.owed[0].verb.endswith("subscribe")):
            raise Wrong(f"a push that nobody asked for: {value!r}")
        if not self.owed:
            if self.world.stopping and value == FULL:
                return
            raise Wrong(f"an answer that nobody asked for: {value!r}")
        ask = self.owed[0]
        if ask.verb.endswith("subscribe") and not isinstance(value, Err):
            self._confirm(ask, value)
            if ask.frames:
                return
            value = ask.expected
        self.owed.popleft()
        ask.answered_s = self.world.loop.time()
        ask.refused = isinstance(value, Err)
        self.world.trace(self.name, f"answered {ask.text} → {value!r}")
        if ask.refused:
            self.world.out.seen[f"error {value.code}"] += 1
        try:
            if ask.verb == "hello" and not ask.refused:
                self._welcome(ask, value)
            elif ask.verb == "id" and not ask.refused:
                self._told_id(value)
            else:
                self.world.books.judge(self, ask, value)
            if ask.verb in ("exec", "discard", "reset"):
                self.may_watch = False
        except Wrong as wrong:
            raise Wrong(f"{ask.text} sent at {ask.sent_s:.6f}: {wrong}") from None

    def _is_message(self, value: Any) -> bool:
        kind = Push if self.resp == 3 else list
        return type(value) is kind and len(value) == 3 and value[0] == b"message"

    def _welcome(self, ask: Ask, value: Any) -> None:
        asked = int(ask.args[1])
        found = (
            value if isinstance(value, dict) else dict(zip(value[::2], value[1::2], strict=True))
        )
        if found.get(b"proto") != asked:
            raise Wrong(f"HELLO {asked} is answered {value!r}")
        self._told_id(found[b"id"])

    def _told_id(self, value: Any) -> None:
        if self.id not in (0, value):
            raise Wrong(f"client id {value} instead of {self.id}")
        self.id = value

    # -- subscriptions

    def _confirm(self, ask: Ask, value: Any) -> None:
        kind = Push if self.resp == 3 else list
        wanted = ask.args[1 + len(ask.args) - 1 - ask.frames]
        if type(value) is not kind or value[:2] != [ask.verb.encode(), wanted]:
            raise Wrong(f"{value!r} to {ask.text}")
        if ask.verb == "subscribe":
            self.channels[wanted] = self.world.loop.time()
        else:
            since_s = self.channels.pop(wanted)
        if value[2] != len(self.channels):
            raise Wrong(f"{value!r} with {list(self.channels)}")
        ask.frames -= 1
        if ask.verb == "unsubscribe":
            self._judge_heard(wanted, since_s, ask.sent_s)

    def _message(self, channel: bytes, text: bytes) -> None:
        if channel not in self.channels:
            raise Wrong(f"a message on {channel!r}")
        if (channel, text) in self.heard:
            raise Wrong(f"{text!r} twice")
        order = [one for _, where, one in self.world.record.published if where == channel]
        before = [order.index(one) for where, one in self.heard if where == channel]
        if before and order.index(text) < before[-1]:
            raise Wrong(f"{text!r} behind a later message")
        self.heard.append((channel, text))

    def _judge_heard(self, channel: bytes, since_s: float, until_s: float) -> None:
        """Without a fault every message published between must have come."""
        world = self.world
        if world.cut_chance or world.faults_at(since_s - 15.0) != world.faults:
            return
        for when_s, where, text in world.record.published:
            missing = (where, text) not in self.heard
            if where == channel and since_s < when_s < until_s and missing:
                world.wrong(f"{self.name}: {text!r} has not come")

    # -- one life

    async def live(self, count: int) -> int:
        """Log in, do `count` things, leave. Returns how many it did, also if it was ended."""
        planned = count
        self.world.trace(self.name, "connects")
        await self._log_in()
        while count and not self.over:
            await asyncio.sleep(self._pause_s())
            count -= 1
            await self._act()
        await self._leave()
        self._judge_end()
        for ask in self.owed:
            self.world.books.settle(ask, "cut")
        return planned - count

    def _pause_s(self) -> float:
        return self.rng.choice((0.0, 0.0, 0.001, 0.02, 0.15, self.rng.choice((0.5, 0.7, 2.5))))

    async def until(self, true: Callable[[], bool], seconds: float = ANSWER_S_MAX) -> bool:
        """Wait for it or the end of the connection; for ever is too long."""
        try:
            async with asyncio.timeout(seconds):
                while not true() and not self.over:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def ask(self, *asks: Ask) -> bool:
        """Send these as one; True if all were answered, and none refused."""
        self._send(asks)
        if self.rng.random() < 0.03 and not self.over:
            self.transport.pause_reading()
            await asyncio.sleep(self.rng.choice((0.01, 0.3, 3.0)))
            self.transport.resume_reading()
        if not await self.until(lambda: not self.owed):
            self.world.wrong(f"{self.name}: no answer to {[ask.text for ask in self.owed]}")
            self.transport.abort()
            self.over = True
        return not (self.owed or any(ask.refused for ask in asks))

    def _send(self, asks: tuple[Ask, ...]) -> None:
        if self.over or not asks:
            return
        world = self.world
        world.asked_s = world.loop.time()
        wrote = False
        for ask in reversed(asks):
            ask.later_write = wrote
            wrote = wrote or not ask.reads
        for ask in asks:
            ask.sent_s, ask.losses, ask.faults = world.loop.time(), world.losses, world.faults
            for one in (ask, *ask.parts):
                one.db, one.user = self.db, self.user
                one.exact = not world.caches
            if ask.verb == "whoami":
                ask.expected = self.user
            world.books.sent(ask)
            self.owed.append(ask)
            world.trace(self.name, f"sends {ask.text}")
        wire = b"".join(ask.wire for ask in asks)
        cut = self.rng.randrange(len(wire)) if self.rng.random() < 0.1 else 0
        if cut:
            self.transport.write(wire[:cut])
        self.transport.write(wire[cut:])

    async def _leave(self) -> None:
        """At the end, in one of the ways clients do it."""
        if self.over:
            return
        if self.channels and not self.world.stopping:
            await self._probe()
        self.left = True
        way = self.rng.randrange(5)
        if way == 0 and not self.channels:
            self._send((self.author.plain(), self.author.plain()))
            self.transport.write_eof()
            ended = await self.until(lambda: False)
            if not ended or (self.owed and not (self.world.faults or self.world.stopping)):
                self.world.wrong(f"{self.name}: half-closed, and {self.owed} not answered")
        elif way == 1:
            self._send(tuple(self.author.plain() for _ in range(3)) if not self.channels else ())
            self.transport.abort()
        elif way == 2:
            self.transport.abort()
        else:
            await self.ask(self.author.session("quit", b"QUIT"))
            await self.until(lambda: False)
            self.transport.close()

    async def _probe(self) -> None:
        """Subscribed is subscribed: sooner or later a message comes through."""
        channel = next(iter(self.channels))
        deadline_s = self.world.loop.time() + PROBE_S_MAX
        while self.world.loop.time() < deadline_s and not (self.over or self.world.stopping):
            mark = b"probe#%d" % self.world.numbers.next()
            self.world.server.publish(channel, mark)
            if await self.until(lambda mark=mark: (channel, mark) in self.heard, 1.0):
                break
        else:
            if not (self.over or self.world.stopping):
                self.world.wrong(f"{self.name}: subscribed, and hears nothing")
        for one, since_s in self.channels.items():
            self._judge_heard(one, since_s, self.world.loop.time() - 1.0)

    def _judge_end(self) -> None:
        """The proxy ended the session: was there a reason?"""
        if self.over and not self.left and not self.world.may_end(self):
            self.world.wrong(f"{self.name}: ended without a reason, {list(self.owed)} owed")

    # -- what to do

    async def _log_in(self) -> None:
        rng, author = self.rng, self.author
        user = rng.choice((b"", b"", b"", b"", b"ann", b"bob"))
        if rng.random() < 0.5:
            await self._hello(user)
        elif user and await self.ask(author.session("auth", b"AUTH", user, PASSWORDS[user])):
            self.user = user
        if rng.random() < 0.3:
            await self._select()

    async def _hello(self, user: bytes = b"") -> None:
        resp = self.rng.choice((2, 3, 3))
        auth = (b"AUTH", user, PASSWORDS[user]) if user else ()
        if await self.ask(self.author.session("hello", b"HELLO", b"%d" % resp, *auth)):
            self.resp, self.user = resp, user or self.user

    async def _select(self) -> None:
        db = self.rng.choice((0, 0, 0, 1, 2))
        if await self.ask(self.author.session("select", b"SELECT", b"%d" % db)):
            self.db = db

    async def _act(self) -> None:
        rng, author = self.rng, self.author
        chance = rng.random()
        if self.channels:
            await self._as_subscriber()
        elif chance < 0.5:
            await self.ask(author.plain())
        elif chance < 0.7:
            await self.ask(*(author.plain() for _ in range(rng.choice((2, 3, 8)))))
        elif chance < 0.82:
            await self._transaction()
        elif chance < 0.88:
            await self.ask(author.take() if rng.random() < 0.6 else author.push(b"q"))
        elif chance < 0.92:
            count = rng.randrange(1, 3)
            names = CHANNELS[:count]
            await self.ask(self._subscription("subscribe", names))
        else:
            await self._session()

    def _subscription(self, verb: str, names: tuple[bytes, ...]) -> Ask:
        ask = self.author.session(verb, verb.upper().encode(), *names)
        ask.frames = len(names)
        return ask

    async def _as_subscriber(self) -> None:
        rng, author = self.rng, self.author
        if rng.random() < 0.3:
            names = tuple(self.channels)[: rng.randrange(1, 3)]
            await self.ask(self._subscription("unsubscribe", names))
        elif self.resp == 3 and rng.random() < 0.5:
            await self.ask(author.plain())
        else:
            await asyncio.sleep(rng.choice((0.1, 0.5, 1.5)))

    async def _transaction(self) -> None:
        asks = self.author.transaction()
        if self.rng.random() < 0.5:
            await self.ask(*asks)
            return
        for ask in asks:
            if ask.verb == "exec" and self.rng.random() < 0.1:
                await asyncio.sleep(1.5)
            done = await self.ask(ask)
            if not done and (ask.verb in ("multi", "watch") or self.over):
                return  # as any client would: it has not begun
            if self.rng.random() < 0.3:
                await asyncio.sleep(self.rng.choice((0.001, 0.05)))

    async def _session(self) -> None:
        rng, author = self.rng, self.author
        match rng.randrange(7):
            case 0 | 1:
                await self._select()
            case 2:
                await self._hello()
            case 3:
                user = rng.choice((b"ann", b"bob"))
                if await self.ask(author.session("auth", b"AUTH", user, PASSWORDS[user])):
                    self.user = user
            case 4:
                title = b"t%d" % rng.randrange(9)
                if await self.ask(author.session("setname", b"CLIENT", b"SETNAME", title)):
                    self.title = title
            case 5:
                await self.ask(author.session("id", b"CLIENT", b"ID"))
                expected = self.title or None
                get = author.session("getname", b"CLIENT", b"GETNAME", expected=expected)
                await self.ask(get)
            case 6:
                if await self.ask(author.session("reset", b"RESET", expected=Simple(b"RESET"))):
                    self.resp, self.db, self.user, self.title = 2, 0, b"default", b""
