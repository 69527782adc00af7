"""The PostgreSQL side of a campaign: writers, readers and idle sessions, each with its oracle."""

import contextlib
import hashlib
import itertools
import random
import select
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from proxy.demo.ledger import Balance, balance
from proxy.demo.servers import PostgresServer
from tests.campaign.kit import BACK_S_MAX, JOIN_S_MAX, PROXY_GONE, Books, Crew, Phase

KNOWN_ROWS = 200
BODY_REPEATS = 16  # 512 bytes a row: all rows are more than the proxy holds back
IDLE_SESSIONS = 4
WRITERS = 6
READERS = 4

NOTHING_SAVED = frozenset(("40001", "25P02", "08006"))
NAMED = NOTHING_SAVED | {"08007", PROXY_GONE}
PAUSE_S = 0.006
FLUSH_S = 0.1  # until what the socket did not take is tried again
THINK_S = (0.0, 0.012)  # of an application within a transaction, a COPY, a pipeline

Connection = psycopg.Connection[Any]


def body(number: int) -> str:
    """The text of a known row."""
    return hashlib.md5(b"%d" % number).hexdigest() * BODY_REPEATS


def prepare_server(server: PostgresServer) -> None:
    """The tables: the ledger, the counters, the known rows, a schema for each idle session."""
    with server.connect() as direct:
        direct.execute("create table ledger (id bigint)")
        direct.execute("create table hits (name text primary key, n bigint not null)")
        direct.execute("create table known (id int primary key, body text not null)")
        with direct.cursor() as cursor:
            rows = [(number, body(number)) for number in range(KNOWN_ROWS)]
            cursor.executemany("insert into known values (%s, %s)", rows)
            for number in range(WRITERS):
                cursor.execute("insert into hits values (%s, 0)", (f"pg:{number}",))
            for number in range(IDLE_SESSIONS):
                cursor.execute(f"create schema tenant_{number}")
                cursor.execute(f"create table tenant_{number}.me as select {number} as number")
                cursor.execute(f"grant usage on schema tenant_{number} to public")
                cursor.execute(f"grant select on tenant_{number}.me to public")
            cursor.execute("grant all on ledger, hits, known to public")


class Client:
    """A connection through the proxy, made again by its owner only after the proxy was killed."""

    def __init__(self, dsn: str, books: Books) -> None:
        self._dsn, self._books = dsn, books
        self.open()

    def open(self) -> None:
        """Connect, if the proxy was killed when it is back."""
        while True:
            self._life = self._books.lives  # before `back`: then it is this life's, or a later one
            self._books.back.wait(BACK_S_MAX)
            try:
                self.session: Connection = psycopg.connect(self._dsn, autocommit=True)
                return
            except psycopg.OperationalError:
                if self._life == self._books.lives:
                    raise  # else it was killed again meanwhile

    def code(self, error: psycopg.Error) -> str:
        """The error's SQLSTATE, or PROXY_GONE if it is one the application made of a dead proxy."""
        gone = self.session.closed and self._life != self._books.lives
        if error.sqlstate is None and gone:
            return PROXY_GONE
        return error.sqlstate or type(error).__name__

    def again(self) -> None:
        """After an error: out of the transaction, or connected again."""
        if self.session.closed:
            self.open()
            return
        try:
            self.session.rollback()
        except psycopg.OperationalError as error:
            if self.code(error) != PROXY_GONE:
                raise
            self.open()


def _next_result(link: PGconn) -> PGresult | None:
    """PQgetResult, once it need not wait: it would keep all other threads waiting, too."""
    with contextlib.suppress(psycopg.OperationalError):  # then the result says it
        while link.flush() or link.is_busy():
            select.select([link.socket], [], [], FLUSH_S)
            link.consume_input()
    return link.get_result()


def pipelined(
    session: Connection, batches: Sequence[Sequence[bytes]], think: Callable[[], None]
) -> list[psycopg.Error | None]:
    """Runs the batches in one pipeline, each with a Sync; the first error of each, if it had one.

    By libpq's own calls: psycopg's `pipeline()` loses count at an error in answer to a Sync. When
    the connection is lost all batches that were not synced have an error without SQLSTATE.
    """
    link = session.pgconn
    errors: list[psycopg.Error | None] = []
    first: psycopg.Error | None = None
    link.enter_pipeline_mode()
    for batch in batches:
        for statement in batch:
            link.send_query_params(statement, None)
            link.flush()
        think()
        link.pipeline_sync()
    while len(errors) < len(batches):
        if session.closed:
            lost = psycopg.OperationalError("the connection is lost")
            return errors + [first or lost] + [lost] * (len(batches) - len(errors) - 1)
        result = _next_result(link)
        if result is None:
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            errors.append(first)
            first = None
        elif result.status == ExecStatus.FATAL_ERROR and first is None and not session.closed:
            first = psycopg.errors.error_from_result(result)
    link.exit_pipeline_mode()
    return errors


@dataclass(frozen=True)
class Work:
    """What the writers share: the ids, and in which ways they send them."""

    ids: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))


class Writer:
    """Unique ids and increments, in every way a client can send them."""

    WAYS = ("simple", "extended", "transaction", "prepared", "pipeline", "increment", "copy")

    def __init__(self, client: Client, crew: Crew, work: Work, number: int) -> None:
        self._client, self._crew, self._ids = client, crew, work.ids
        self._rng = random.Random(number)
        self._name = f"pg:{number}"

    def run(self) -> None:
        books, client = self._crew.books, self._client
        while not self._crew.pause(PAUSE_S):
            way, number = self._rng.choice(self.WAYS), next(self._ids)
            try:
                getattr(self, f"_{way}")(client.session, number)
            except psycopg.Error as error:
                code = client.code(error)
                if code not in NAMED:
                    raise
                books.refused(code)
                self._note_error(way, number, code)
                client.again()
            else:
                books.served(f"write, {way}")
                with books.lock:
                    if way == "increment":
                        books.hits_known[self._name] += 1
                    else:
                        books.writes.acknowledged.add(number)
        client.session.close()

    def _note_error(self, way: str, number: int, code: str) -> None:
        books = self._crew.books
        with books.lock:
            if way == "increment":
                books.hits_open[self._name] += code not in NOTHING_SAVED
                return
            books.writes.unsure.add(number)
            if code in NOTHING_SAVED:
                books.writes.refused.add(number)

    def _think(self) -> None:
        time.sleep(self._rng.uniform(*THINK_S) * self._crew.pace)

    def _simple(self, session: Connection, number: int) -> None:
        with self._crew.postgres.doing(Phase.IN_FLIGHT):
            session.execute(f"insert into ledger values ({number})")

    def _extended(self, session: Connection, number: int) -> None:
        with self._crew.postgres.doing(Phase.IN_FLIGHT):
            session.execute("insert into ledger values (%s)", (number,), prepare=False)

    def _prepared(self, session: Connection, number: int) -> None:
        with self._crew.postgres.doing(Phase.IN_FLIGHT):
            session.execute("insert into ledger values (%s)", (number,), prepare=True)

    def _increment(self, session: Connection, _: int) -> None:
        with self._crew.postgres.doing(Phase.IN_FLIGHT):
            session.execute("update hits set n = n + 1 where name = %s", (self._name,))

    def _pipeline(self, session: Connection, number: int) -> None:
        writes = b"select 1", b"insert into ledger values (%d)" % number
        with self._crew.postgres.doing(Phase.IN_PIPELINE):
            wrote, read = pipelined(session, [writes, (b"select 2",)], self._think)
        if wrote is not None:
            raise wrote
        if read is not None:
            code = self._client.code(read)
            if code not in NAMED:
                raise read
            self._crew.books.refused(code)
            self._client.again()

    def _transaction(self, session: Connection, number: int) -> None:
        with self._crew.postgres.doing(Phase.IN_TRANSACTION), session.transaction():
            session.execute("select count(*) from known")
            self._think()
            session.execute("insert into ledger values (%s)", (number,))
            self._think()

    def _copy(self, session: Connection, number: int) -> None:
        with (
            self._crew.postgres.doing(Phase.IN_COPY),
            session.cursor() as cursor,
            cursor.copy("copy ledger from stdin") as copy,
        ):
            text = f"{number}\n"
            copy.write(text[:1])
            self._think()
            copy.write(text[1:])
            self._think()


class Reader:
    """Rows whose content is known; what comes without an error must be them, all, in order."""

    def __init__(self, client: Client, crew: Crew, number: int) -> None:
        self._client, self._crew = client, crew
        self._rng = random.Random(1000 + number)

    def run(self) -> None:
        books, client = self._crew.books, self._client
        while not self._crew.pause(PAUSE_S):
            first = self._rng.randrange(KNOWN_ROWS)
            size = self._rng.choice((1, 5, KNOWN_ROWS))
            read: Callable[[int, int], list[tuple[int, str]]]
            read, name = self._rng.choice(((self._select, "read"), (self._copy, "read, copy")))
            try:
                rows = read(first, size)
            except psycopg.OperationalError as error:
                code = client.code(error)
                if code != PROXY_GONE and (code != "08006" or client.session.closed):
                    raise
                books.refused(code)
                client.again()
                continue
            last = min(first + size, KNOWN_ROWS)
            if rows != [(number, body(number)) for number in range(first, last)]:
                books.not_right(f"known rows {first} to {last}: got {len(rows)} rows, {name}")
            books.served(name)
        client.session.close()

    def _select(self, first: int, size: int) -> list[tuple[int, str]]:
        with self._crew.postgres.doing(Phase.IN_FLIGHT):
            query = "select id, body from known where id >= %s order by id limit %s"
            return self._client.session.execute(query, (first, size)).fetchall()

    def _copy(self, first: int, size: int) -> list[tuple[int, str]]:
        query = f"select id, body from known where id >= {first} order by id limit {size}"
        with (
            self._crew.postgres.doing(Phase.IN_COPY),
            self._client.session.cursor() as cursor,
            cursor.copy(f"copy ({query}) to stdout") as copy,
        ):
            return [(int(row[0]), row[1]) for row in copy.rows()]


class IdleSession:
    """A session with state of its own, which does nothing but look at it after each fault."""

    def __init__(self, dsn: str, books: Books, number: int) -> None:
        self._books, self._number = books, number
        self._zone = ("Asia/Tokyo", "America/Lima", "Africa/Cairo", "Europe/Oslo")[number % 4]
        self._life = books.lives
        self._client = Client(dsn, books)
        self._set()
        self.check()

    def _set(self) -> None:
        number = self._number
        for statement in (
            f"set search_path to tenant_{number}, public",
            f"set timezone to '{self._zone}'",
            f"set app.tenant to 'tenant {number}'",
            f"set statement_timeout to {50_001 + number}",
            "prepare body_of(int) as select body from known where id = $1",
        ):
            self._client.session.execute(statement)

    def check(self) -> None:
        """Everything is as this session set it. Any error is one too many, except that a session
        does not outlive the proxy: then it is opened and set again, as by an application's pool.
        """
        if self._life != self._books.lives:
            self._life = self._books.lives
            self._books.refused(PROXY_GONE)
            self._client.session.close()
            self._client.open()
            self._set()
        number, session = self._number, self._client.session
        state = session.execute(
            "select current_setting('search_path'), current_setting('timezone'),"
            " current_setting('app.tenant'), current_setting('statement_timeout')"
        ).fetchone()
        right = (f"tenant_{number}, public", self._zone, f"tenant {number}", f"{50_001 + number}ms")
        mine = session.execute("select number from me", prepare=True).fetchone()
        prepared = self._execute()
        if (state, mine, prepared) != (right, (number,), (body(number),)):
            self._books.not_right(f"idle session {number}: {state}, {mine}")
        with self._books.lock:
            self._books.checks += 1
            self._books.statements["idle session's check"] += 3

    def _execute(self) -> Any:
        """SQL's EXECUTE, by a simple Query and, every other session, by the extended protocol."""
        text = f"execute body_of({self._number})"
        return self._client.session.execute(text, prepare=self._number % 2 == 1).fetchone()

    def close(self) -> None:
        self._client.session.close()


class IdleSessions:
    """All of them: idle when a fault comes, checked when it is over."""

    def __init__(self, dsns: list[str], crew: Crew) -> None:
        self._crew = crew
        self._round = threading.Barrier(IDLE_SESSIONS + 1)
        sessions = [
            IdleSession(dsns[number % len(dsns)], crew.books, number)
            for number in range(IDLE_SESSIONS)
        ]
        for number, session in enumerate(sessions):
            crew.hire(f"idle session {number}", lambda session=session: self._run(session))

    def check(self) -> None:
        """Let every session look at its state, and wait for all. BrokenBarrierError: one failed."""
        self._round.wait(JOIN_S_MAX)
        self._round.wait(JOIN_S_MAX)

    def release(self) -> None:
        """Let them end; call after `over` is set."""
        self._round.abort()

    def _run(self, session: IdleSession) -> None:
        board = self._crew.postgres
        try:
            while True:
                with board.doing(Phase.IDLE):
                    self._round.wait()
                    with board.doing(Phase.IN_FLIGHT):
                        session.check()
                self._round.wait()
        except threading.BrokenBarrierError:
            return
        except psycopg.Error:
            self._round.abort()
            raise
        finally:
            session.close()


def hire(dsns: list[str], crew: Crew) -> IdleSessions:
    """Start everybody; the ways to the server take turns."""
    work = Work()
    idle = IdleSessions(dsns, crew)

    def client(number: int) -> Client:
        return Client(dsns[number % len(dsns)], crew.books)

    for number in range(WRITERS):
        crew.hire(f"writer {number}", Writer(client(number), crew, work, number).run)
    for number in range(READERS):
        crew.hire(f"reader {number}", Reader(client(number), crew, number).run)
    return idle


def settle(server: PostgresServer, books: Books) -> tuple[Balance, dict[str, int]]:
    """The ledger against the table, and the counters, read behind the proxy's back."""
    with server.connect() as direct, direct.transaction():
        # Waits for whatever a lost link may have left running.
        direct.execute("lock table ledger, hits in share mode")
        rows = direct.execute("select id, count(*) from ledger group by id").fetchall()
        hits = direct.execute("select name, n from hits").fetchall()
    return balance(books.writes, rows), dict(hits)
