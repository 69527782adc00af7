"""A model PostgreSQL server: the wire protocol around `engine`, and every way a server can die.

A backend is a task that reads messages, works for a seeded time, and answers. An order to end
(SIGTERM) and a cancel strike while it works or waits, not between a commit and its answer, as in
the real one; kill -9 and a lost connection strike anywhere.

Owns: messages, time, processes. Must not know: the proxy.
"""

import asyncio
import random
from typing import Any

from proxy.postgres.protocol import messages
from tests.simulation.copying import Gone, Ordered, copy_in_response, copy_out, rows_in
from tests.simulation.engine import OWN, Engine, Result, SqlError, Statement, read, split
from tests.simulation.network import Network

VERSION = "15.4"
SYSTEM = b"7300000000000000001"
PORT = 5432


class Server:
    """One PostgreSQL server, with its crash history."""

    def __init__(self, network: Network, rng: random.Random, port: int = PORT) -> None:
        self.network, self.rng, self.port = network, rng, port
        self.ledger: list[tuple[int, int]] = []
        self.backends: dict[int, ServerConnection] = {}
        self.starting = False  # 57P03
        self.crashes = 0
        self.down_s = 0.0  # how long it was away, all in all
        self._next_pid = 100 + (port - PORT) * 10_000
        self.standby = self.turned = False  # in recovery; read-only by its configuration
        self.tasks: dict[asyncio.Task[None], ServerConnection] = {}
        self.bugs: list[str] = []
        self.notes: list[tuple[int, float]] = []  # number and time of each notification
        self.together = [self]  # all with the same data
        network.accepts[port] = self.connection

    def connection(self) -> "ServerConnection":
        """The protocol of a new connection."""
        return ServerConnection(self)

    @property
    def read_only(self) -> bool:
        """It takes no writes."""
        return self.standby or self.turned

    def pid(self) -> int:
        self._next_pid += 1
        return self._next_pid

    def identity(self, engine: Engine) -> tuple[bytes | None, ...]:
        """The answer to the proxy's identity query."""
        pid = next(pid for pid, one in self.backends.items() if one.engine is engine)
        start = self.backends[pid].start.encode()
        recovery = b"t" if self.standby else b"f"
        return (b"%d" % pid, start, SYSTEM, b"reset %d" % self.crashes, b"150004", recovery)

    def end(self, pid: int, start: str) -> bool:
        """pg_terminate_backend, if the start is that of this process."""
        backend = self.backends.get(pid)
        if backend is None or backend.start != start:
            return False
        backend.order(Ordered("57P01", "terminating connection due to administrator command"))
        return True

    def cancel(self, pid: int, secret: bytes) -> None:
        """A CancelRequest has come."""
        backend = self.backends.get(pid)
        if backend is not None and backend.secret == secret:
            backend.cancel()

    def publish(self, number: int) -> None:
        """A notification has been committed."""
        self.notes.append((number, self.network.loop.time()))
        for backend in [one for server in self.together for one in server.backends.values()]:
            if backend.engine is not None and "news" in backend.engine.base.channels:
                backend.notify(number)

    # -- faults

    def stop_fast(self) -> None:
        """pg_ctl stop -m fast. Who has not logged in is told nothing."""
        self.network.accepts.pop(self.port, None)
        for one in list(self.tasks.values()):
            if one.engine is None:
                one.killed()
            else:
                one.order(Ordered("57P01", "terminating connection due to administrator command"))

    def kill(self) -> None:
        """kill -9 of every process."""
        self.network.accepts.pop(self.port, None)
        self.crashes += 1
        for one in list(self.tasks.values()):
            one.killed()

    def start(self, starting: bool) -> None:
        """It accepts again; while `starting` it says so to everybody."""
        self.starting = starting
        self.network.accepts[self.port] = self.connection


class ServerConnection(asyncio.Protocol):
    """One connection: a backend, once it has logged in."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.engine: Engine | None = None
        self.transport: Any = None
        self.pid, self.secret, self.start = 0, b"", ""
        self.gone = self.reset = False
        self._buffer = b""
        self._news: asyncio.Future[None] | None = None
        self._safe = False  # between a commit and its answer no order is obeyed
        self._working = False
        self._order: Ordered | None = None
        self._portals: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._task: Any = None
        self._rests = False  # it waits for a message outside of a transaction
        self._news_due = b""

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._task = self.server.network.loop.create_task(self._run())
        self.server.tasks[self._task] = self
        self._task.add_done_callback(self._over)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._wake()

    def eof_received(self) -> bool:
        self.gone = True
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self.reset = exc is not None
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done() and not self._working:
            self._news.set_result(None)

    def _over(self, task: "asyncio.Task[None]") -> None:
        self.server.tasks.pop(task, None)
        self.server.backends.pop(self.pid, None)
        if not task.cancelled() and task.exception() is not None:
            self.server.bugs.append(f"server: {task.exception()!r}")
            self.transport.abort()

    # -- signals

    def order(self, order: Ordered) -> None:
        """SIGTERM: obeyed now if it works or waits, else when it does so next."""
        self._order = self._order or order
        if self._news is not None and not self._news.done() and not self._safe:
            self._news.set_exception(order)

    def cancel(self) -> None:
        """SIGINT: ends a statement that runs, nothing else."""
        if self._working and not self._safe and self._news is not None and not self._news.done():
            self._news.set_exception(SqlError("57014", "canceling statement due to user request"))

    def killed(self) -> None:
        """SIGKILL: no words; the kernel closes the socket."""
        self._task.cancel()
        self.transport.abort()

    def notify(self, number: int) -> None:
        """Told at once at rest, else before the next ReadyForQuery outside of a transaction."""
        words = b"%d\0" % number
        self._news_due += messages.message(b"A", b"\0\0\0\1news\0" + words)
        if self._rests and not self.gone:
            self._tell_news()

    def _tell_news(self) -> None:
        news, self._news_due = self._news_due, b""
        if news:
            self._write(news)

    # -- life

    async def _run(self) -> None:
        try:
            if await self._log_in():
                while True:
                    await self._message(*await self._next())
        except Gone:
            pass
        except Ordered as order:
            self._say_error("FATAL", order.sqlstate, str(order))
        self.transport.close()

    async def _wait(self, seconds: float | None) -> None:
        """Until news or the time has come; an order ends it."""
        if self._order is not None and not self._safe:
            raise self._order
        loop = self.server.network.loop
        self._news = loop.create_future()
        timer = None
        if seconds is not None:
            self._working = True
            timer = loop.call_later(seconds, _finish, self._news)
        try:
            await self._news
        finally:
            self._working = False
            if timer is not None:
                timer.cancel()

    async def _work(self, longest_s: float = 0.002) -> None:
        await self._wait(self.server.rng.uniform(0, longest_s))

    async def _commit_safely(self) -> None:
        """The time from the commit on disk to its answer."""
        self._safe = True
        await self._wait(self.server.rng.uniform(0, 0.001))
        self._safe = False

    async def _next(self, startup: bool = False) -> tuple[int, bytes]:
        """The next message: type and body."""
        head = 0 if startup else 1
        while True:
            if self.reset and self.server.rng.random() < 0.5:
                raise Gone
            if len(self._buffer) >= head + 4:
                size = head + int.from_bytes(self._buffer[head : head + 4], "big")
                if len(self._buffer) >= size:
                    data, self._buffer = self._buffer[:size], self._buffer[size:]
                    return (0 if startup else data[0]), data[head + 4 :]
            if self.gone:
                raise Gone
            await self._wait(None)

    async def _log_in(self) -> bool:
        _, body = await self._next(startup=True)
        code = int.from_bytes(body[:4], "big")
        if code == 80877102:
            await self._work(self.server.rng.choice((0.001, 0.03)))  # a process of its own
            self.server.cancel(int.from_bytes(body[4:8], "big"), body[8:])
            return False
        words = body[4:].split(b"\0")[:-2]
        pairs = zip(words[::2], words[1::2], strict=True)
        startup = {name.decode(): value.decode() for name, value in pairs}
        await self._work()
        if self.server.starting:
            self._say_error("FATAL", "57P03", "the database system is starting up")
            return False
        server = self.server
        self.pid = server.pid()
        self.secret = server.rng.randbytes(4)
        self.start = f"start {server.network.loop.time():.6f}"
        server.backends[self.pid] = self
        self.engine = Engine(server, startup)
        out = [messages.authentication_ok()]
        fixed = {"server_version": VERSION, "client_encoding": "UTF8"}
        roles = self.engine.roles()
        fixed["in_hot_standby"] = roles["in_hot_standby"]
        fixed["standard_conforming_strings"] = "on"
        fixed["default_transaction_read_only"] = roles["default_transaction_read_only"]
        fixed |= {"application_name": startup.get("application_name", ""), "TimeZone": "UTC"}
        out += [messages.parameter_status(*pair) for pair in fixed.items()]
        out.append(messages.backend_key_data(self.pid, self.secret))
        self._write(b"".join(out))
        self._ready()
        return True

    def _write(self, data: bytes) -> None:
        self.transport.write(data)

    def _say_error(self, severity: str, sqlstate: str, text: str) -> None:
        fields = {"S": severity, "V": severity, "C": sqlstate, "M": text}
        self._write(messages.error_response(fields))

    def _ready(self) -> None:
        assert self.engine is not None
        for name, value in self.engine.changed_reports():
            self._write(messages.parameter_status(name, value))
        self._rests = self.engine.status == "I"
        if self._rests:
            self._tell_news()
        self._write(messages.ready_for_query(ord(self.engine.status)))

    async def _say_rows(self, result: Result, described: bool) -> None:
        """All of a result but its CommandComplete, which comes behind the commit."""
        if result.copied:
            out = copy_out(result.rows)
        else:
            shown = result.columns and not described
            out = [messages.row_description(result.columns)] if shown else []
            out += [messages.row(row) for row in result.rows]
        if len(result.rows) > 1 and self.server.rng.random() < 0.4:
            self._write(b"".join(out[:-1]))
            await self._work(0.06)  # longer than the proxy holds back
            del out[:-1]
        if out:
            self._write(b"".join(out))

    # -- messages

    async def _message(self, kind: int, body: bytes) -> None:
        self._rests = False
        match chr(kind):
            case "Q":
                await self._query(body[:-1].decode())
            case "X":
                raise Gone
            case "S":
                await self._sync()
            case "H" | "d" | "c" | "f":
                pass  # a COPY has failed that its client has gone on with
            case letter:
                try:
                    await self._extended(letter, body)
                except SqlError as error:
                    assert self.engine is not None
                    self.engine.fail()
                    self._say_error("ERROR", error.sqlstate, str(error))
                    while (await self._next_kind()) != "S":
                        pass
                    await self._sync()

    async def _next_kind(self) -> str:
        kind, _ = await self._next()
        if chr(kind) == "X":
            raise Gone
        return chr(kind)

    async def _sync(self) -> None:
        engine = self.engine
        assert engine is not None
        if engine.status == "I":
            try:
                await self._work()
            except SqlError as error:
                engine.fail()
                self._say_error("ERROR", error.sqlstate, str(error))
            wrote = bool(engine.pending)
            engine.save()
            if wrote:
                await self._commit_safely()
            self._portals.clear()
        engine.implicit = False
        self._ready()

    async def _query(self, text: str) -> None:
        engine = self.engine
        assert engine is not None
        engine.statements.pop("", None)
        parts = split(text)
        if not parts:
            self._write(messages.empty_query())
        try:
            for index, part in enumerate(parts):
                await self._one(part, text, (index, len(parts)))
        except SqlError as error:
            engine.fail()
            self._say_error("ERROR", error.sqlstate, str(error))
        if engine.status == "I":
            if engine.pending:
                engine.save()
                await self._commit_safely()
            else:
                engine.save()
        engine.implicit = False
        self._ready()

    async def _one(self, part: str, text: str, place: tuple[int, int]) -> None:
        """One statement of a Query."""
        engine = self.engine
        assert engine is not None
        index, count = place
        statement = read(part)
        engine.check(statement)
        await self._execute_time(statement)
        result = await self._run_one(statement, count > 1, text)
        await self._say_rows(result, described=False)
        if index == count - 1 and engine.status == "I":
            engine.save()  # before the last CommandComplete
        if statement.letter in "wfCc" or statement.verb == "execute":
            await self._commit_safely()
        self._write(messages.command_complete(result.tag))

    async def _run_one(self, statement: Statement, crowded: bool, text: str) -> Result:
        assert self.engine is not None
        if statement.verb != "copy in":
            return self.engine.run_one(statement, crowded, text)
        self.engine.copy_begins()
        self._write(copy_in_response())
        return self.engine.copied(await rows_in(self._next))

    async def _execute_time(self, statement: Statement) -> None:
        if statement.verb == "sleep":
            await self._wait(float(statement.args[0]))
        else:
            await self._work()

    async def _extended(self, kind: str, body: bytes) -> None:
        engine = self.engine
        assert engine is not None
        match kind:
            case "P":
                name, sql = (part.decode() for part in messages.parse_name_and_text(body))
                if name and name in engine.statements:
                    raise SqlError("42P05", f'prepared statement "{name}" already exists')
                if sql:
                    engine.check(_template(sql))
                engine.statements[name] = sql
                self._write(messages.parse_complete())
            case "B":
                portal, name = (part.decode() for part in messages.bind_names(body))
                if name not in engine.statements:
                    raise SqlError("26000", f'prepared statement "{name}" does not exist')
                values = messages.bind_params(body)
                params = tuple((value or b"").decode() for value in values)
                self._portals[portal] = (engine.statements[name], params)
                self._write(messages.bind_complete())
            case "D":
                self._describe(*messages.kind_and_name(body))
            case "E":
                await self._execute(messages.execute_portal(body)[0].decode())
            case "C":
                what, named = messages.kind_and_name(body)
                table: dict[str, Any] = engine.statements if what == b"S" else self._portals
                table.pop(named.decode(), None)
                self._write(messages.close_complete())
            case _:
                raise AssertionError(f"message {kind}")

    def _describe(self, what: bytes, named: bytes) -> None:
        assert self.engine is not None
        name = named.decode()
        known = self.engine.statements if what == b"S" else self._portals
        if name not in known:
            raise SqlError("26000" if what == b"S" else "34000", "does not exist")
        sql = self.engine.statements[name] if what == b"S" else self._portals[name][0]
        if what == b"S":
            self._write(messages.parameter_description([25] * sql.count("$")))
        rows = sql.startswith(("SELECT", "SHOW", "select"))
        self._write(messages.row_description(("v",)) if rows else messages.no_data())

    async def _execute(self, portal: str) -> None:
        engine = self.engine
        assert engine is not None
        if portal not in self._portals:
            raise SqlError("34000", f'portal "{portal}" does not exist')
        sql, params = self._portals[portal]
        statement = _bound(sql, params)
        await self._execute_time(statement)
        result = await self._run_one(statement, False, sql)
        await self._say_rows(result, described=True)
        if statement.letter in "Cc":
            await self._commit_safely()
        self._write(messages.command_complete(result.tag))


def _template(sql: str) -> Statement:
    """The statement of a text whose parameters are not known yet."""
    if sql in OWN:
        return OWN[sql]
    return read(sql) if "$" not in sql else _bound(sql, ("0",) * sql.count("$"))


def _bound(sql: str, params: tuple[str, ...]) -> Statement:
    """The statement with its parameters in their places."""
    own = OWN.get(sql)
    if own is not None and own.verb == "fingerprint":
        names = tuple(part.strip('"') for part in params[0][1:-1].split(",") if part)
        return Statement(own.verb, own.letter, names)
    if own is not None and own.verb == "end orphan":
        return Statement(own.verb, own.letter, params)
    for number, value in enumerate(params, 1):
        sql = sql.replace(f"${number}", f"'{value}'")
    return read(sql)


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
