"""The application of the demo: the incident in small, the same on both sides.

Each worker is one database connection of an application's pool, set up as applications do it:
search_path, a tenant in a custom setting, a statement timeout, a statement PREPAREd by SQL; the
driver adds named prepared statements of its own. There are three kinds of requests:

    transaction  BEGIN, SET search_path, reads, an insert, COMMIT
    single       reads and an insert without a transaction around them
    read         one read

with a pause between them, in which the connection is idle. One worker only reads and one does only
single work, so that there is always somebody in a read and soon somebody in a write. Every insert
has an id of its own. What reads return is checked: a session that came back without its settings
would be found out.
"""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString, cast

from proxy.demo.gate import Gate, Risk
from proxy.demo.ledger import Tally
from proxy.demo.strikes import pause

if TYPE_CHECKING:
    import psycopg

ANSWER_S_MAX: Final = 60.0  # above resilience.hold_s: an answer that late is an error
RECONNECT_PAUSE_S: Final = 0.2
IDLE_S: Final = (0.02, 0.12)
MEMBERS: Final = 20

SCHEMA: Final[LiteralString] = f"""
create schema gym;
create table gym.members (id int primary key, name text not null);
create table gym.visits (
  id bigint not null, via text not null, member int not null, at timestamptz default now()
);
insert into gym.members select n, 'member ' || n from generate_series(1, {MEMBERS}) n;
grant usage on schema gym to app_owners;
grant select, insert on all tables in schema gym to app_owners;
"""

_MEMBER: Final = "select name, current_setting('app.tenant') from members where id = %s"
_SETTINGS: Final = "select current_setting('search_path'), current_setting('statement_timeout')"
_SEARCH_PATH: Final = "gym, public"
_TIMEOUT: Final = "55s"
_PREPARE: Final = "prepare greeting(int) as select 'hello ' || $1::int"
_INSERT: Final = "insert into visits (id, via, member) values (%s, %s, %s)"
_NOTHING_SAVED: Final = ("40001", "25P02")


@dataclass(frozen=True, slots=True)
class Side:
    """One way to the database: its name, its URL, what is seen on it."""

    name: str
    url: str
    tally: Tally = field(default_factory=Tally)
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Worker:
    """One connection of the application, and the requests it serves, one after the other."""

    def __init__(self, side: Side, number: int, gate: Gate, seed: int) -> None:
        self.side = side
        self._tally = side.tally
        self._tenant = f"gym-{number}"
        self._gate = gate
        self._rng = random.Random(f"{seed}-{number}")  # the same on both sides
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._writing: list[int] = []  # ids sent and not yet acknowledged
        kinds = (self._read,), (self._single,), (self._transaction, self._single)
        self._serves = kinds[min(number, 2)]

    async def run(self, stop: asyncio.Event) -> None:
        """Serve requests until told to stop; the one at hand is finished."""
        try:
            for serve in itertools.cycle(self._serves):
                if stop.is_set():
                    return
                await self._request(serve)
                await pause(stop, self._rng.uniform(*IDLE_S))
        finally:
            await self._drop()

    async def _request(self, serve: "Callable[[], Awaitable[None]]") -> None:
        """One request. An error ends it, as it ends a request of a web application."""
        import psycopg  # only in the `demo` extra

        self._writing.clear()
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                if self._connection is None:
                    await self._connect()
                await serve()
                self._tally.requests += 1
        except TimeoutError:
            self._failed(f"no answer within {ANSWER_S_MAX:.0f} s", "")
            await self._drop()
        except psycopg.Error as error:
            self._failed(_first_line(error), error.sqlstate or "")
            await self._recover()

    # -- the kinds of requests

    async def _read(self) -> None:
        await self._read_member()

    async def _transaction(self) -> None:
        await self._run("begin")
        await self._run(f"set search_path to {_SEARCH_PATH}")
        async with self._gate.section(Risk.TRANSACTION):
            await self._check_settings()
            member = await self._read_member()
            number = await self._insert(member)
            await self._run("commit")
            self._acknowledge(number)

    async def _single(self) -> None:
        await self._read_member()
        async with self._gate.section(Risk.WRITE):
            # The read comes first inside as well: its answer proves that the link lives, so that
            # no cut from before the gate opened is still on its way when the write goes out.
            member = await self._read_member()
            number = await self._insert(member)
            self._acknowledge(number)

    async def _read_member(self) -> int:
        """Read a member, and check that it is the right one, seen by the right tenant."""
        member = self._rng.randint(1, MEMBERS)
        row = await self._run(_MEMBER, member, prepare=True)
        self._expect(row, (f"member {member}", self._tenant))
        return member

    async def _check_settings(self) -> None:
        self._expect(await self._run(_SETTINGS), (_SEARCH_PATH, _TIMEOUT))
        self._expect(await self._run("execute greeting(7)"), ("hello 7",))

    async def _insert(self, member: int) -> int:
        number = next(self.side.ids)
        self._writing.append(number)
        await self._run(_INSERT, number, self.side.name, member)
        return number

    def _acknowledge(self, number: int) -> None:
        self._writing.remove(number)
        self._tally.acknowledged.add(number)

    # -- the connection

    async def _connect(self) -> None:
        """Connect and set the session up; a session that is set up in part is of no use."""
        import psycopg

        self._connection = await psycopg.AsyncConnection.connect(
            self.side.url, autocommit=True, application_name=application_name(self.side.name)
        )
        try:
            await self._run(f"set search_path to {_SEARCH_PATH}")
            await self._run(f"set statement_timeout = '{_TIMEOUT}'")
            await self._run("select set_config('app.tenant', %s, false)", self._tenant)
            await self._run(_PREPARE)
        except BaseException:
            await self._drop()
            raise

    async def _run(
        self, query: LiteralString, *values: object, prepare: bool | None = None
    ) -> tuple[Any, ...] | None:
        """Run one statement; its first row. The time it took is noted, also if it failed."""
        assert self._connection is not None, "connected first"
        clock = asyncio.get_running_loop().time
        started_s = clock()
        try:
            cursor = await self._connection.execute(query, values or None, prepare=prepare)
            row = await cursor.fetchone() if cursor.description else None
        finally:
            self._tally.longest_s = max(self._tally.longest_s, clock() - started_s)
        self._tally.statements += 1
        return cast("tuple[Any, ...] | None", row)

    async def _recover(self) -> None:
        """After an error: roll back if the connection lives, else drop it, and wait a moment."""
        import psycopg

        if self._connection is not None and not self._connection.closed:
            try:
                await self._roll_back(self._connection)
                return
            except psycopg.Error:
                pass  # it does not live
        await self._drop()
        await asyncio.sleep(RECONNECT_PAUSE_S)

    async def _roll_back(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        from psycopg.pq import TransactionStatus

        if connection.info.transaction_status is not TransactionStatus.IDLE:
            await connection.rollback()  # and psycopg sends DEALLOCATE ALL behind it
            await self._run(_PREPARE)

    async def _drop(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()

    # -- what is seen

    def _expect(self, row: tuple[Any, ...] | None, right: tuple[str, ...]) -> None:
        if row != right:
            self._tally.wrong.append(f"expected {right}, got {row}")

    def _failed(self, text: str, sqlstate: str) -> None:
        self._tally.failed(text, sqlstate)
        self._tally.unsure.update(self._writing)
        if sqlstate in _NOTHING_SAVED:
            self._tally.refused.update(self._writing)


def application_name(side: str) -> str:
    """How the server knows the connections of one side."""
    return f"demo-{side}"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
