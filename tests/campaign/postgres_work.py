"""The PostgreSQL side of a campaign: writers, readers and idle sessions, each with its oracle."""

import hashlib
import itertools
import random
import threading
from typing import Any

import psycopg

from proxy.demo.ledger import Balance, balance
from proxy.demo.servers import PostgresServer
from tests.campaign.kit import JOIN_S_MAX, Books, Crew

KNOWN_ROWS = 200
BODY_REPEATS = 16  # 512 bytes a row: all rows are more than the proxy holds back
IDLE_SESSIONS = 4
WRITERS = 4
READERS = 3

NOTHING_SAVED = frozenset(("40001", "25P02", "08006"))
NAMED = NOTHING_SAVED | {"08007"}
PAUSE_S = 0.002


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


class Writer:
    """Unique ids and increments, in every way a client can send them."""

    WAYS = ("simple", "extended", "transaction", "prepared", "pipeline", "increment")

    def __init__(self, dsn: str, crew: Crew, ids: "itertools.count[int]", number: int) -> None:
        self._dsn, self._crew, self._ids = dsn, crew, ids
        self._rng = random.Random(number)
        self._name = f"pg:{number}"

    def run(self) -> None:
        books, session = self._crew.books, psycopg.connect(self._dsn, autocommit=True)
        while not self._crew.over.wait(PAUSE_S):
            way, number = self._rng.choice(self.WAYS), next(self._ids)
            try:
                self._write(session, way, number)
            except psycopg.Error as error:
                code = error.sqlstate or type(error).__name__
                if code not in NAMED:
                    raise
                books.refused(code)
                self._note_error(way, number, code)
                session = self._again(session)
            else:
                books.served(f"write, {way}")
                with books.lock:
                    if way == "increment":
                        books.hits_known[self._name] += 1
                    else:
                        books.writes.acknowledged.add(number)
        session.close()

    def _note_error(self, way: str, number: int, code: str) -> None:
        books = self._crew.books
        with books.lock:
            if way == "increment":
                books.hits_open[self._name] += code not in NOTHING_SAVED
                return
            books.writes.unsure.add(number)
            if code in NOTHING_SAVED:
                books.writes.refused.add(number)

    def _again(self, session: "psycopg.Connection[Any]") -> "psycopg.Connection[Any]":
        if session.closed:
            return psycopg.connect(self._dsn, autocommit=True)
        session.rollback()
        return session

    def _write(self, session: "psycopg.Connection[Any]", way: str, number: int) -> None:
        insert = "insert into ledger values (%s)"
        match way:
            case "simple":
                session.execute(f"insert into ledger values ({number})")
            case "extended":
                session.execute(insert, (number,), prepare=False)
            case "prepared":
                session.execute(insert, (number,), prepare=True)
            case "increment":
                session.execute("update hits set n = n + 1 where name = %s", (self._name,))
            case "pipeline":
                with session.pipeline():
                    session.execute("select 1")
                    session.execute(insert, (number,))
            case _:
                with session.transaction():
                    session.execute("select count(*) from known")
                    session.execute(insert, (number,))


class Reader:
    """Rows whose content is known; what comes without an error must be them, all, in order."""

    def __init__(self, dsn: str, crew: Crew, number: int) -> None:
        self._dsn, self._crew = dsn, crew
        self._rng = random.Random(1000 + number)

    def run(self) -> None:
        books = self._crew.books
        with psycopg.connect(self._dsn, autocommit=True) as session:
            while not self._crew.over.wait(PAUSE_S):
                first = self._rng.randrange(KNOWN_ROWS)
                size = self._rng.choice((1, 5, KNOWN_ROWS))
                try:
                    rows = session.execute(
                        "select id, body from known where id >= %s order by id limit %s",
                        (first, size),
                    ).fetchall()
                except psycopg.OperationalError as error:
                    if error.sqlstate != "08006" or session.closed:
                        raise
                    books.refused("08006")
                    continue
                last = min(first + size, KNOWN_ROWS)
                if rows != [(number, body(number)) for number in range(first, last)]:
                    books.not_right(f"known rows {first} to {last}: got {len(rows)} rows")
                books.served("read")


class IdleSession:
    """A session with state of its own, which does nothing but look at it after each fault."""

    def __init__(self, dsn: str, books: Books, number: int) -> None:
        self._books, self._number = books, number
        self._session = psycopg.connect(dsn, autocommit=True)
        self._zone = ("Asia/Tokyo", "America/Lima", "Africa/Cairo", "Europe/Oslo")[number % 4]
        for statement in (
            f"set search_path to tenant_{number}, public",
            f"set timezone to '{self._zone}'",
            f"set app.tenant to 'tenant {number}'",
            f"set statement_timeout to {50_001 + number}",
            "prepare body_of(int) as select body from known where id = $1",
        ):
            self._session.execute(statement)
        self.check()

    def check(self) -> None:
        """Everything is as this session set it. Any error is one too many."""
        number, session = self._number, self._session
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
        """SQL's EXECUTE in a simple Query, which runs again as what it executes. Left to itself,
        psycopg goes over to the extended protocol, where it does not (ARCHITECTURE, limits)."""
        text = f"execute body_of({self._number})"
        return self._session.execute(text, prepare=False).fetchone()

    def close(self) -> None:
        self._session.close()


class IdleSessions:
    """All of them: idle when a fault comes, checked when it is over."""

    def __init__(self, dsn: str, crew: Crew) -> None:
        self._crew = crew
        self._round = threading.Barrier(IDLE_SESSIONS + 1)
        sessions = [IdleSession(dsn, crew.books, number) for number in range(IDLE_SESSIONS)]
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
        try:
            while True:
                self._round.wait()
                session.check()
                self._round.wait()
        except threading.BrokenBarrierError:
            return
        except psycopg.Error:
            self._round.abort()
            raise
        finally:
            session.close()


def hire(dsn: str, crew: Crew) -> IdleSessions:
    """Start everybody."""
    ids = itertools.count(1)
    idle = IdleSessions(dsn, crew)
    for number in range(WRITERS):
        crew.hire(f"writer {number}", Writer(dsn, crew, ids, number).run)
    for number in range(READERS):
        crew.hire(f"reader {number}", Reader(dsn, crew, number).run)
    return idle


def settle(server: PostgresServer, books: Books) -> tuple[Balance, dict[str, int]]:
    """The ledger against the table, and the counters, read behind the proxy's back."""
    with server.connect() as direct, direct.transaction():
        # Waits for whatever a lost link may have left running.
        direct.execute("lock table ledger, hits in share mode")
        rows = direct.execute("select id, count(*) from ledger group by id").fetchall()
        hits = direct.execute("select name, n from hits").fetchall()
    return balance(books.writes, rows), dict(hits)
