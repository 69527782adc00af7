"""The console on the wire: psql and drivers; waiting, cancelling, bounds, the end."""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from proxy.core.operator import Act
from proxy.demo.servers import PostgresServer
from proxy.postgres.protocol.console import MESSAGE_BYTES_MAX
from proxy.postgres.protocol.console_door import ConsoleOptions
from proxy.postgres.runtime.console import BUFFER_BYTES_MAX, SESSIONS_MAX
from tests import wire
from tests.integration.postgres.console_kit import console, open_console
from tests.integration.postgres.kit import Make, Proxied, backends, eventually
from tests.wire import PgWire

pytestmark = pytest.mark.servers


def dsn(proxy: Proxied, database: str = "backstay") -> str:
    return f"postgresql://postgres@127.0.0.1:{proxy.port}/{database}"


# -- clients


@pytest.mark.skipif(shutil.which("psql") is None, reason="needs psql")
def test_psql(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    script = "show lists; show version;\nRELOAD;\n\\d\nSHOW HELP;\nshow nonsense;\nshow state;\n"
    done = subprocess.run(
        ["psql", "-XAt", dsn(proxy, "pgbouncer")],
        input=script, capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert "databases|1" in lines
    assert any("Backstay 1.2.3" in line for line in lines)
    assert "RELOAD" in lines
    assert lines[-3:] == ["active|yes", "paused|no", "suspended|no"]
    assert "KILL_CLIENT id" in done.stderr
    assert "SHOW NONSENSE is unknown" in done.stderr


def test_psycopg(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    operator = open_console(proxy)
    with psycopg.connect(dsn(proxy)) as client, proxy.connect(application_name="web"):
        for _ in range(7):  # beyond the threshold from which psycopg prepares
            found = client.execute("SHOW CLIENTS").fetchall()
        assert [row[1:3] for row in found] == [("postgres", "main")]
        binary = client.cursor(binary=True, row_factory=psycopg.rows.dict_row)
        (pool,) = binary.execute("SHOW POOLS").fetchall()
        assert (pool["cl_active"], pool["sv_active"], pool["pool_mode"]) == (1, 1, "session")
        with client.pipeline():
            one, two = client.execute("SHOW STATE"), client.execute("SHOW LISTS")
        assert (len(one.fetchall()), len(two.fetchall())) == (3, 14)
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
            client.execute("KILL_CLIENT %s", [1 << 40])
        client.rollback()
        assert client.execute("select 1").fetchone() == (1,)
    assert operator.asked == [(Act.KILL_CLIENT, None, 1 << 40)]


async def test_asyncpg(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    async with asyncpg.create_pool(dsn(proxy), min_size=1, max_size=2) as pool:
        async with pool.acquire() as client:
            (stats,) = await client.fetch("SHOW STATS")
            assert (stats["database"], stats["total_xact_count"]) == ("main", 0)
            assert {row["list"]: row["items"] for row in await client.fetch("SHOW LISTS")}
            assert await client.execute("RELOAD") == "RELOAD"
            async with client.transaction():
                assert await client.fetchval("SHOW VERSION")
            with pytest.raises(asyncpg.PostgresSyntaxError):
                await client.fetch("SHOW NONSENSE")
        async with pool.acquire() as client:  # taken back and reset in between
            assert await client.fetchval("select pg_is_in_recovery()") is False


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy(proxied: Make, postgres: PostgresServer, driver: str) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    engine = sa.create_engine(dsn(proxy).replace("postgresql:", f"postgresql+{driver}:"))
    with engine.connect() as connection:
        assert len(connection.execute(sa.text("SHOW STATE")).fetchall()) == 3
    engine.dispose()


async def test_sqlalchemy_asyncpg(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    engine = create_async_engine(dsn(proxy).replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.connect() as connection:
        assert len((await connection.execute(sa.text("SHOW STATE"))).fetchall()) == 3
    await engine.dispose()


def test_stats_count_what_was_done(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    sizes, requests = [], []
    with psycopg.connect(dsn(proxy), row_factory=psycopg.rows.dict_row) as client:
        for _ in range(2):
            with proxy.wire() as session:
                for _ in range(20):
                    session.query(f"select repeat('x', 10000) -- {'y' * 5000}")
                (stats,) = client.execute("SHOW STATS").fetchall()
            sizes.append((stats["total_received"], stats["total_sent"]))
            requests.append((stats["total_query_count"], stats["total_server_assignment_count"]))
            proxy.cut()  # what went over links that are gone still counts
    assert requests == [(20, 1), (40, 2)]
    for count, (received, sent) in enumerate(sizes, 1):
        assert count * 100_000 < received < count * 100_000 * 1.2
        assert count * 200_000 < sent < count * 200_000 * 1.2


# -- waiting and cancelling


def test_a_pause_waits_and_can_be_cancelled(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    operator = open_console(proxy)
    with console(proxy) as waiting, console(proxy) as other, proxy.wire() as session:
        session.query("begin; select 1")
        waiting.send(wire.query("PAUSE main"))
        eventually(lambda: operator.waiting == 1)
        assert wire.rows(other.query("SHOW STATE"))  # nobody else waits for it
        with PgWire.connect(proxy.address) as cancelling:
            cancelling.send(wire.cancel(*waiting.key))
            assert cancelling.until_closed() == []
        answer = waiting.until_ready()
        assert wire.sqlstate(answer) == "57014"
        assert "stays paused (main)" in wire.error_fields(answer[0])["H"]
        assert operator.waiting == 0
        assert wire.rows(waiting.query("SHOW STATE"))  # the console goes on
        waiting.send(wire.query("PAUSE"))
        eventually(lambda: operator.waiting == 1)
        session.query("commit")
        assert wire.tags(waiting.until_ready()) == ["PAUSE"]
        assert not proxy.counts()["links"]
        session.send(wire.query("select 7"))
        with pytest.raises(TimeoutError):
            session.read_message(0.2)
        assert wire.tags(other.query("RESUME")) == ["RESUME"]
        assert wire.rows(session.until_ready()) == [(b"7",)]
    said = [(one["command"], one["target"], one["done"]) for one in proxy.named("console_command")]
    assert said == [("pause", "main", False), ("pause", "all", True), ("resume", "all", True)]


def test_who_leaves_waits_no_more(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    operator = open_console(proxy)
    with proxy.wire() as session:
        session.query("begin; select 1")
        leaving = console(proxy)
        leaving.send(wire.query("PAUSE"))
        eventually(lambda: operator.waiting == 1)
        leaving.close()
        eventually(lambda: operator.waiting == 0)
        eventually(lambda: not proxy.route.console.sessions)


def test_wait_close_returns_when_the_last_old_link_is_gone(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with proxy.wire() as session, console(proxy) as client:
        session.query("begin; select 1")
        old = session.value("select pg_backend_pid()")
        assert wire.tags(client.query("RECONNECT main")) == ["RECONNECT"]
        client.send(wire.query("WAIT_CLOSE main"))
        with pytest.raises(TimeoutError):
            client.read_message(0.6)
        session.query("commit")  # its boundary: the link is left
        assert wire.tags(client.until_ready()) == ["WAIT_CLOSE"]
        assert session.value("select pg_backend_pid()") != old


def test_a_pause_under_load_loses_nothing(
    proxied: Make, make_postgres: Callable[..., PostgresServer]
) -> None:
    """Writers, PAUSE, a restart of the server, RESUME: each row acknowledged is there once."""
    server = make_postgres()
    server.sql("create table ledger (writer int, n int)")
    proxy = proxied(server)
    open_console(proxy)
    stop, written, errors = threading.Event(), [0] * 4, []

    def write(writer: int) -> None:
        try:
            with proxy.connect() as client:
                while not stop.is_set():
                    client.execute("insert into ledger values (%s, %s)", [writer, written[writer]])
                    written[writer] += 1
        except psycopg.Error as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: min(written) > 20)
    with console(proxy) as client:
        assert wire.tags(client.query("PAUSE main")) == ["PAUSE"]
        assert backends(server) == []  # as PgBouncer promises: the server may be restarted now
        assert wire.rows(client.query("SHOW DATABASES"))[0][-2:] == (b"1", b"0")
        server.restart()
        before = list(written)
        assert wire.tags(client.query("RESUME main")) == ["RESUME"]
    eventually(lambda: all(now > then + 20 for now, then in zip(written, before, strict=True)))
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    rows = server.sql("select writer, count(*), count(distinct n), max(n) from ledger group by 1")
    assert sorted(rows) == [(w, n, n, n - 1) for w, n in enumerate(written)]


def test_kill_and_resume(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with proxy.wire() as session, console(proxy) as client:
        assert wire.tags(client.query("KILL main")) == ["KILL"]
        assert wire.sqlstate(session.until_closed()) == "57P01"
        with pytest.raises(wire.LoginRefused):
            proxy.wire()
        with console(proxy) as other:  # the console is not killed with the route
            assert wire.tags(other.query("RESUME main")) == ["RESUME"]
        with proxy.wire() as again:
            assert again.value("select 1") == b"1"


def test_kill_client_ends_one_session(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with proxy.wire(application_name="one") as one, proxy.wire(application_name="two") as two:
        with psycopg.connect(dsn(proxy), row_factory=psycopg.rows.dict_row) as client:
            found = client.execute("SHOW CLIENTS").fetchall()
            number = {row["application_name"]: row["id"] for row in found}["one"]
            client.execute("KILL_CLIENT %s", [number])
            left = client.execute("SHOW CLIENTS").fetchall()
        assert [row["application_name"] for row in left] == ["two"]
        assert wire.sqlstate(one.until_closed()) == "57P01"
        assert two.value("select 1") == b"1"


@pytest.mark.parametrize("error", [ConnectionError("worker 1 has gone"), TimeoutError()])
def test_an_operator_that_cannot(proxied: Make, postgres: PostgresServer, error: Exception) -> None:
    proxy = proxied(postgres)
    operator = open_console(proxy)
    operator.broken = error
    with console(proxy) as client:
        answer = client.query("RECONNECT")
        assert wire.sqlstate(answer) == "55000"
        assert wire.rows(client.query("SHOW STATE"))


# -- bounds


def test_the_console_is_there_when_the_route_is_full(
    proxied: Make, postgres: PostgresServer
) -> None:
    proxy = proxied(postgres, pool={"clients": 1})
    open_console(proxy)
    with proxy.wire(), console(proxy) as client:
        assert len(wire.rows(client.query("SHOW CLIENTS"))) == 1
        with pytest.raises(wire.LoginRefused):
            proxy.wire()


def test_the_console_is_bounded_itself(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    clients = [console(proxy) for _ in range(SESSIONS_MAX)]
    with pytest.raises(wire.LoginRefused) as refused:
        console(proxy)
    assert refused.value.args[0]["C"] == "53300"
    with proxy.wire() as session:
        assert session.value("select 1") == b"1"
    clients.pop().close()
    eventually(lambda: len(proxy.route.console.sessions) < SESSIONS_MAX)
    clients.append(console(proxy))
    for client in clients:
        client.close()


def test_who_does_not_read_is_not_read_from(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with console(proxy) as client:
        count = 20_000
        sending = threading.Thread(target=client.send, args=(wire.query("SHOW HELP") * count,))
        sending.start()
        (session,) = proxy.route.console.sessions
        eventually(lambda: not session._writable.is_set())
        assert len(session._buffer) <= BUFFER_BYTES_MAX + (1 << 18)  # and one chunk of the loop's
        assert len(client.until_ready(count)) == 3 * count
        sending.join()


def test_who_never_reads_is_closed(
    proxied: Make, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.postgres.runtime.console.STALLED_S", 0.2)
    proxy = proxied(postgres)
    open_console(proxy)
    with console(proxy) as client:
        (session,) = proxy.route.console.sessions
        client.sock.settimeout(5)
        with contextlib.suppress(OSError):  # it blocks, and is cut off
            client.send(wire.query("SHOW HELP") * 40_000)
        eventually(lambda: session not in proxy.route.console.sessions)


@pytest.mark.parametrize(
    "data",
    [
        wire.message(b"Q", b"x" * (MESSAGE_BYTES_MAX + 1)),
        wire.message(b"?", b""),
        b"Q\0\0\0\1",
        wire.message(b"Q", b"no end"),
    ],
)
def test_nonsense_ends_the_session_only(
    proxied: Make, postgres: PostgresServer, data: bytes
) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with console(proxy) as client, console(proxy) as other:
        client.send(data)
        assert wire.sqlstate(client.until_closed()) == "08P01"
        assert wire.rows(other.query("SHOW STATE"))


def test_a_stop_is_told(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with console(proxy) as client:
        proxy.call(lambda: proxy.route.stop(0))
        assert wire.sqlstate(client.until_closed()) == "57P01"


# -- where it is


def test_a_name_of_ones_own_and_no_console_at_all(proxied: Make, postgres: PostgresServer) -> None:
    proxy = proxied(postgres)
    with pytest.raises(wire.LoginRefused) as refused:
        console(proxy)
    assert refused.value.args[0]["C"] == "0A000"  # nobody to answer in this process
    open_console(proxy, ConsoleOptions(databases=frozenset((b"watch",))))
    with console(proxy, database="watch") as client:
        assert wire.rows(client.query("SHOW STATE"))
    with pytest.raises(wire.LoginRefused) as refused:
        console(proxy)
    assert refused.value.args[0]["C"] == "3D000"  # a database like any other: the server's word
