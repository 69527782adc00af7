"""How links are struck in the demo, on both sides in the same way at the same moment.

Each strike first closes the gate (gate.py) for the work that it would honestly break. Reads and
writes are caught in flight with a table lock: they wait for it in the server when the cut comes.
"""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, LiteralString

from proxy.demo.cutter import Cut, Cutter
from proxy.demo.gate import Gate, Risk
from proxy.demo.servers import PostgresServer

if TYPE_CHECKING:
    import psycopg

GATE_S_MAX: Final = 15.0
POLL_S: Final = 0.02
POLLS_MAX: Final = 250
AWAY_S: Final = 0.5

_LOCK_READS: Final[LiteralString] = "lock table gym.members in access exclusive mode"
_LOCK_WRITES: Final[LiteralString] = "lock table gym.visits in share mode"
_BLOCKED: Final[LiteralString] = """
select count(distinct application_name) from pg_stat_activity
where application_name = any(%s) and wait_event_type = 'Lock'
"""
_TERMINATE: Final[LiteralString] = """
select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = any(%s)
"""
_TERMINATE_BLOCKED: Final[LiteralString] = _TERMINATE + "and wait_event_type = 'Lock'"

Scene = tuple[str, Callable[[], Awaitable[None]]]


class Striker:
    """Strikes until told to stop. `names`: the server's application_name of each side."""

    def __init__(
        self, server: PostgresServer, cutters: Sequence[Cutter], names: Sequence[str], gate: Gate
    ) -> None:
        self.done: Counter[str] = Counter()
        self.skipped: list[str] = []
        """Strikes that did not come about, with the reason."""
        self.last = ""
        self.terminated = 0
        self._server = server
        self._cutters = cutters
        self._names = list(names)
        self._gate = gate
        self._tls = server.options.tls is not None

    @property
    def links_cut(self) -> int:
        """Links broken by the hops, and sessions ended by the server on our order."""
        cuts = sum(len(cutter.history) for cutter in self._cutters)
        return cuts + self.terminated

    async def run(self, stop: asyncio.Event, every_s: float, rng: random.Random) -> None:
        """One strike after the other, with such a pause between them, jittered by a quarter."""
        import psycopg  # only in the `demo` extra

        for name, strike in self._scenes(rng):
            await pause(stop, every_s * rng.uniform(0.75, 1.25))
            if stop.is_set():
                return
            self.last = name
            try:
                await strike()
                self.done[name] += 1
            except (psycopg.Error, TimeoutError) as error:
                self.skipped.append(f"{name}: {type(error).__name__}")

    def _scenes(self, rng: random.Random) -> Iterator[Scene]:
        """Each kind once, in this order; then again and again, shuffled."""
        scenes: list[Scene] = [
            ("close", lambda: self._cut(Cut.FIN)),
            ("reset in a read", lambda: self._cut_in_read(Cut.RST)),
            ("terminate in a write", self._terminate_in_write),
            ("server restart", self._restart),
            ("TLS abort", lambda: self._cut(Cut.TLS_ABORT)),
            ("reset", lambda: self._cut(Cut.RST)),
            ("terminate", self._terminate),
            ("close in a read", lambda: self._cut_in_read(Cut.FIN)),
        ]
        if self._gate.open_always:
            scenes.insert(0, ("reset in a write", self._reset_in_write))
        if not self._tls:
            scenes = [scene for scene in scenes if scene[0] != "TLS abort"]
        yield from scenes
        for _ in itertools.count():
            yield from rng.sample(scenes, len(scenes))

    # -- strikes

    async def _cut(self, cut: Cut) -> None:
        """Every link, whatever it does: idle, in a read, in a transaction that has just begun."""
        async with self._gate.closed(Risk.WRITE, GATE_S_MAX):
            self._cut_all(cut)

    async def _cut_in_read(self, cut: Cut) -> None:
        """Every link, while a read is in flight on each side."""
        async with self._gate.closed(Risk.WRITE, GATE_S_MAX), self._locked(_LOCK_READS):
            self._cut_all(cut)

    def _cut_all(self, cut: Cut) -> None:
        for cutter in self._cutters:
            cutter.cut_all(cut)

    async def _terminate(self) -> None:
        """pg_terminate_backend on every session: the server says FATAL 57P01 and closes."""
        async with self._gate.closed(Risk.WRITE, GATE_S_MAX), self._superuser() as connection:
            await self._order(connection, _TERMINATE)

    async def _terminate_in_write(self) -> None:
        """pg_terminate_backend on writes in flight: the FATAL proves that they are rolled back."""
        async with (
            self._gate.closed(Risk.TRANSACTION, GATE_S_MAX),
            self._locked(_LOCK_WRITES) as connection,
        ):
            await self._order(connection, _TERMINATE_BLOCKED)

    async def _reset_in_write(self) -> None:
        """Every link, while a write is in flight: what becomes of it nobody can know."""
        async with self._locked(_LOCK_WRITES):
            self._cut_all(Cut.RST)

    async def _restart(self) -> None:
        """A fast shutdown and a start on the same port; connections are refused meanwhile."""
        async with self._gate.closed(Risk.WRITE, GATE_S_MAX):
            for cutter in self._cutters:
                await cutter.refuse()
            await asyncio.to_thread(self._server.stop)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(self._server.start)
        for cutter in self._cutters:
            await cutter.accept()

    # -- behind the back of both sides

    async def _order(
        self, connection: "psycopg.AsyncConnection[Any]", query: LiteralString
    ) -> None:
        row = await (await connection.execute(query, (self._names,))).fetchone()
        assert row is not None, "an aggregate has a row"
        self.terminated += row[0]

    @asynccontextmanager
    async def _locked(self, lock: LiteralString) -> "AsyncIterator[psycopg.AsyncConnection[Any]]":
        """Hold a lock on which somebody of each side waits. Raises TimeoutError if nobody does."""
        async with self._superuser() as connection:
            await connection.execute("begin")
            await connection.execute(lock)
            await self._until_blocked(connection)
            yield connection
            await connection.execute("commit")

    async def _until_blocked(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        for _ in range(POLLS_MAX):
            if await self._sides_blocked(connection) == len(self._names):
                return
            await asyncio.sleep(POLL_S)
        raise TimeoutError("nobody waits for the lock")

    async def _sides_blocked(self, connection: "psycopg.AsyncConnection[Any]") -> int:
        # Within a transaction the statistics would stay as first seen.
        await connection.execute("select pg_stat_clear_snapshot()")
        row = await (await connection.execute(_BLOCKED, (self._names,))).fetchone()
        assert row is not None, "an aggregate has a row"
        return int(row[0])

    @asynccontextmanager
    async def _superuser(self) -> "AsyncIterator[psycopg.AsyncConnection[Any]]":
        import psycopg

        connection = await psycopg.AsyncConnection.connect(
            self._server.dsn(), autocommit=True, options="-c lock_timeout=5s"
        )
        try:
            yield connection
        finally:
            await connection.close()


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Sleep, unless it is over before."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
