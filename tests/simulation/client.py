"""A model client: logs in, sends its units, reads the answers against its belief, leaves.

Owns: one connection at a time, the choice of what comes next. Must not know: the proxy.
"""

import asyncio
import random
from collections import deque
from typing import TYPE_CHECKING, Any

from proxy.postgres.protocol import messages
from tests.simulation.belief import ENDS, PINS, Belief, Circumstances, Wrong
from tests.simulation.choice import Choice
from tests.simulation.ear import Ear
from tests.simulation.script import Author, Step, Unit

if TYPE_CHECKING:
    from tests.simulation.world import World

ANSWER_S_MAX = 90.0  # virtual: hold_s, a silent link found out, the server's own time, and more
LIVES_MAX = 6
SHUTTING, UNKNOWN = "Backstay is shutting down", "is not known"  # in the words of its end


class Client(asyncio.Protocol):
    """One connection of a model client."""

    def __init__(
        self, world: "World", name: str, rng: random.Random, startup: dict[str, str]
    ) -> None:
        self.world, self.name, self.rng = world, name, rng
        self.belief = Belief(world.books, startup)
        author = Author(rng, name, world.numbers)
        self.ear = Ear(world.server.notes)
        self.choice = Choice(rng, author, self.belief, world.scenario)
        self.startup = startup
        self.transport: Any = None
        self.owed: deque[Unit] = deque()
        self.key: tuple[int, bytes] | None = None
        self.welcome = False
        self.over = False
        self.began_s = 0.0
        self.left = False  # by its own will
        self.last_words: dict[str, str] | None = None
        self.last_seen: Unit | None = None
        self._buffer = b""
        self._news = asyncio.Event()
        self._cancelled_to = -1

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = 0
        while len(self._buffer) - at >= 5:
            size = 1 + int.from_bytes(self._buffer[at + 1 : at + 5], "big")
            if len(self._buffer) - at < size:
                break
            try:
                self._message(chr(self._buffer[at]), self._buffer[at + 5 : at + size])
            except Wrong as wrong:
                self.world.wrong(f"{self.name}: {wrong}")
            at += size
        self._buffer = self._buffer[at:]
        self._news.set()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._news.set()

    def _message(self, kind: str, body: bytes) -> None:
        if kind in "SNA":
            self._news_of(kind, body)
            return
        if kind == "E" and messages.is_fatal(messages.error_fields(body)):
            self.last_words = messages.error_fields(body)
        elif not self.welcome:
            self._logging_in(kind, body)
        elif not self.owed:
            raise Wrong(f"message {kind} that nobody asked for: {body[:60]!r}")
        elif kind != "Z":
            self.owed[0].got.append((kind, body))
        else:
            unit = self.owed.popleft()
            unit.done = True
            commit = any(item.verb in ENDS for later in self.owed for item in later.items)
            cancelled = unit.number <= self._cancelled_to
            faults, losses = self.world.faults, self.world.out.seen["link_lost"]
            self.world.trace(self.name, f"answered {unit.text} → {body.decode()}")
            turns, number = self.world.cluster.turns, self.world.numbers.last
            about = Circumstances(faults, losses, cancelled, turns, number, commit)
            self.belief.read(unit, body.decode(), about)
            self.ear.answered(unit, body.decode(), unit.at_s, self.world.loop.time())

    def _news_of(self, kind: str, body: bytes) -> None:
        """Notifications, and notices of their loss."""
        if kind == "A":
            self.ear.heard(int(body[4:].split(b"\0")[1]))
        elif kind == "N" and messages.error_fields(body)["S"] == "WARNING":
            self.ear.warned(self.world.loop.time(), self.world.out.seen["link_lost"])

    def _logging_in(self, kind: str, body: bytes) -> None:
        if kind == "K":
            self.key = messages.read_backend_key(body)
        elif kind == "Z":
            self.welcome = True
        elif kind != "R":
            raise Wrong(f"message {kind} during the login")

    # -- one life

    async def live(self, count: int) -> int:
        """Log in, do `count` things, leave. Returns how many it did, also if it was ended."""
        planned = count
        self.world.trace(self.name, "connects")
        self.began_s = self.world.audit.clock_s()
        if self.over:
            return 0
        self.transport.write(messages.startup(0, self.startup))
        await self._until(lambda: self.welcome)
        while count and not self.over:
            await asyncio.sleep(self._pause_s())
            count -= 1
            await self._ask(self.choice.next())
        await self._leave()
        self._judge_end()
        self.belief.abandon(list(self.owed), self.unrun)
        return planned - count

    def _pause_s(self) -> float:
        return self.rng.choice((0.0, 0.0, 0.001, 0.02, 0.15, self.rng.choice((0.5, 0.5, 6.0))))

    async def _until(self, true: Any) -> None:
        """Wait for it or the end of the connection; for ever is too long."""
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                while not true() and not self.over:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            owed = [unit.text for unit in self.owed]
            self.world.wrong(f"{self.name}: no answer within {ANSWER_S_MAX} s to {owed}")
            self.transport.abort()
            self.over = True

    async def _leave(self) -> None:
        """At the end, in one of the ways clients do it."""
        if self.over:
            return
        self.left = True
        way = self.rng.randrange(6)
        if way == 0 and self.belief.status == "I":
            self._send([self.choice.idle_unit()])
            self.transport.write_eof()
            await self._until(lambda: False)
            if self.owed and not (self.world.faults or self.world.stopping):
                self.world.wrong(f"{self.name}: half-closed, and {self.owed[0].text} not answered")
        elif way == 1:
            self._send([self.choice.idle_unit()])
            self.transport.abort()
        elif way == 2:
            self.transport.abort()
        elif (
            way in (3, 4) and self.key is not None
        ):  # its cancel may come when its link is another's
            self._send([self.choice.idle_unit()])
            self._cancelled_to = self.world.numbers.next()
            end = self.world.connect(f"{self.name}'s cancel", _UntilClosed())
            end.write(messages.cancel_request(*self.key))
            await asyncio.sleep(self.rng.choice((0.0, 0.002)))
            self.transport.abort()
        else:
            self.transport.write(messages.terminate())
            self.transport.close()

    def _judge_end(self) -> None:
        """The proxy ended the session: was there a reason?"""
        words = self.last_words
        if self.left or not self.over:
            return
        problem = None
        if words is None:
            problem = None if self.world.cut_clients else "ended without a word"
        else:
            problem = self.world.may_end(self, words)
        if problem:
            self.world.wrong(f"{self.name}: {problem} ({words})")

    @property
    def pinned(self) -> bool:
        """The session may hold what cannot be rebuilt."""
        listens_again = self.world.route.options.resilience.listen_loss == "notice"
        free = {"listen"} if listens_again else set()
        pins = {*PINS, "note"} - free
        owed = any(item.verb in pins for unit in self.owed for item in unit.items)
        return bool(self.belief.pins - free) or self.belief.functions or owed

    @property
    def unrun(self) -> bool:
        """It was told that the proxy stops, and that nothing of its own was running."""
        words = {} if self.left or self.last_words is None else self.last_words
        return SHUTTING in words.get("M", "") and UNKNOWN not in words.get("D", "")

    @property
    def waits_since_s(self) -> float:
        """Since when it has waited for what it waits for, by the clock that a PAUSE stops."""
        return self.owed[0].sent_s if self.owed else self.began_s

    def _send(self, units: list[Unit]) -> None:
        for unit in units:
            unit.sent_s, unit.at_s = self.world.audit.clock_s(), self.world.loop.time()
            self.ear.asks(unit)
            self.owed.append(unit)
            self.world.trace(self.name, f"sends {unit.text}")
        wire = b"".join(unit.wire for unit in units)
        cut = self.rng.randrange(len(wire)) if self.rng.random() < 0.1 else 0
        self.transport.write(wire[:cut] + wire[cut:] if not cut else wire[:cut])
        if cut:
            self.transport.write(wire[cut:])

    async def _ask(self, units: list[Unit]) -> None:
        self._send(units)
        if self.rng.random() < 0.04:
            await self._cancel()
        for unit in units:
            await self._go_on(unit)
        await self._until(lambda: not self.owed)

    async def _go_on(self, unit: Unit) -> None:
        """The parts of a unit that wait for its answers."""
        rng = self.rng
        for step in unit.steps:
            if step.count and step is not unit.steps[0] and rng.random() < 0.3:
                await asyncio.sleep(rng.choice((0.001, 0.02, 0.3)))
            await self._until(lambda s=step: unit.done or self._due(unit, s))  # type: ignore[misc]
            if self.over or unit.done:
                return
            if unit.count("E"):
                break
            if rng.random() < 0.01:
                self._vanish()
                return
            unit.ended = not unit.last and step is unit.steps[-1] and unit.may_last
            self.transport.write(step.wire)
        if unit.last and not unit.done and (unit.count("G") or not unit.last_if_copying):
            unit.ended = not unit.count("E") and unit.may_last
            self.transport.write(unit.last)

    @staticmethod
    def _due(unit: Unit, step: Step) -> bool:
        return unit.count("E") > 0 or unit.count(step.kinds) >= step.count

    def _vanish(self) -> None:
        """In the middle of what it says."""
        self.left = self.over = True
        self.transport.abort()

    async def _cancel(self) -> None:
        """A CancelRequest on a connection of its own, as libpq sends it."""
        if self.key is None:
            return
        await asyncio.sleep(self.rng.choice((0.0, 0.001, 0.01)))
        waiter = _UntilClosed()
        end = self.world.connect(f"{self.name}'s cancel", waiter)
        self._cancelled_to = self.world.numbers.next()
        end.write(messages.cancel_request(*self.key))
        await waiter.closed.wait()
        self._cancelled_to = self.world.numbers.next()


class _UntilClosed(asyncio.Protocol):
    """Waits for the end of a connection."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()
