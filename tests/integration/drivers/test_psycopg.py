"""psycopg 3: sync, async, pipeline mode, and its pool's habits."""

import asyncio
import datetime
import decimal
import threading
import uuid
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from tests.integration.drivers.conftest import Routes

pytestmark = pytest.mark.servers

VALUES: tuple[Any, ...] = (
    1,
    2**40,
    1.5,
    decimal.Decimal("12345678901234567890.123"),
    "text 'quoted' ü",
    b"\0\1\xff",
    True,
    None,
    [1, 2, None],
    ["a,b", '"'],
    datetime.datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=datetime.UTC),
    datetime.date(1999, 12, 31),
    datetime.timedelta(days=3, seconds=7),
    uuid.UUID(int=7),
    Jsonb({"k": [1, None]}),
)


def connect(dsn: str, **options: Any) -> "psycopg.Connection[Any]":
    return psycopg.connect(dsn, autocommit=True, **options)


@pytest.mark.parametrize("user", ["app_trust", "app_password", "app_md5", "app_scram", "postgres"])
def test_every_role(routes: Routes, user: str) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection:
            info = connection.info
            reported = [info.server_version, info.encoding, str(info.timezone), info.dbname]
            return connection.execute("SELECT current_user").fetchone(), reported

    assert routes.same(scenario, user)[0] == (user,)


def test_backend_pid_is_the_real_one(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection:
            (pid,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (0,)
            return pid == connection.info.backend_pid

    assert routes.same(scenario)


def test_refused_logins(routes: Routes) -> None:
    def refusal(dsn: str) -> str:
        with pytest.raises(psycopg.OperationalError) as caught:
            psycopg.connect(dsn)
        # Of two attempts (with TLS, without) libpq tells both.
        return str(caught.value).partition("FATAL:")[2].splitlines()[0].strip()

    def wrong_password(dsn: str) -> str:
        return refusal(dsn.replace("Pa55", "Pa56"))

    def unknown_role(dsn: str) -> str:
        return refusal(dsn.replace("app_scram:", "stranger:"))

    assert "password authentication failed" in routes.same(wrong_password)
    assert "does not exist" in routes.same(refusal, database="nowhere")
    direct, proxied = map(unknown_role, routes.dsns())
    # The server's words for "no pg_hba line" name the client's address and TLS: only the start.
    assert proxied.split('"')[0] == direct.split('"')[0]


@pytest.mark.parametrize("binary", [False, True])
def test_types_there_and_back(routes: Routes, binary: bool) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection, connection.cursor(binary=binary) as cursor:
            places = ", ".join(["%s"] * len(VALUES))
            return cursor.execute(f"SELECT {places}", VALUES).fetchone()

    row = routes.same(scenario)
    assert row[:9] == VALUES[:9]
    assert row[14] == {"k": [1, None]}


def test_prepared_statements(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn, prepare_threshold=1) as connection:
            for number in range(30):
                connection.execute(f"SELECT %s + {number % 3}", (number,)).fetchone()
            answers = [connection.execute("SELECT %s * 2", (n,)).fetchone() for n in range(20)]
            names = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
            connection.prepare_threshold = None
            connection.execute("DEALLOCATE ALL")
            return answers, names, connection.execute("SELECT %s", ("x",)).fetchone()

    answers, names, last = routes.same(scenario)
    assert answers == [(n * 2,) for n in range(20)]
    assert names[0] > 0
    assert last == ("x",)


def test_transactions_and_savepoints(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn) as connection:
            connection.execute("CREATE TEMP TABLE t (n int)")
            connection.commit()
            with connection.transaction():
                connection.execute("INSERT INTO t VALUES (1)")
                with pytest.raises(errors.DivisionByZero), connection.transaction():
                    connection.execute("INSERT INTO t VALUES (2)")
                    connection.execute("SELECT 1/0")
                connection.execute("INSERT INTO t VALUES (3)")
            connection.execute("INSERT INTO t VALUES (4)")
            connection.rollback()
            statuses = [connection.info.transaction_status.name]
            with pytest.raises(errors.UndefinedTable):
                connection.execute("SELECT * FROM absent")
            statuses.append(connection.info.transaction_status.name)
            with pytest.raises(errors.InFailedSqlTransaction):
                connection.execute("SELECT 1")
            connection.rollback()
            return statuses, connection.execute("SELECT n FROM t ORDER BY n").fetchall()

    assert routes.same(scenario) == (["IDLE", "INERROR"], [(1,), (3,)])


def test_copy_in_and_out(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection:
            connection.execute("CREATE TEMP TABLE t (n int, s text)")
            cursor = connection.cursor()
            with cursor.copy("COPY t FROM STDIN") as copy:
                for number in range(5000):
                    copy.write_row((number, f"row\t{number}" if number % 7 else None))
            with cursor.copy("COPY (SELECT * FROM t ORDER BY n) TO STDOUT (FORMAT binary)") as copy:
                size = sum(len(data) for data in copy)
            with (
                pytest.raises(errors.InvalidTextRepresentation),
                cursor.copy("COPY t FROM STDIN") as copy,
            ):
                copy.write(b"bad\n" * 1000)
            with pytest.raises(RuntimeError), cursor.copy("COPY t FROM STDIN") as copy:
                copy.write(b"1\tx\n")
                raise RuntimeError("the program changed its mind")
            return size, connection.execute("SELECT count(*), count(s) FROM t").fetchone()

    size, counts = routes.same(scenario)
    assert counts == (5000, 4285)
    assert size > 50_000


def test_listen_notify(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as listener, connect(dsn) as speaker:
            listener.execute("LISTEN drivers_psycopg")
            for number in range(5):
                speaker.execute("SELECT pg_notify('drivers_psycopg', %s)", (str(number),))
            heard = list(listener.notifies(timeout=10, stop_after=5))
            assert {note.pid for note in heard} == {speaker.info.backend_pid}
            return [(note.channel, note.payload) for note in heard]

    assert routes.same(scenario) == [("drivers_psycopg", str(number)) for number in range(5)]


def test_cancel(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection:
            connection.execute("SELECT 1")
            timer = threading.Timer(0.2, connection.cancel_safe)
            timer.start()
            with pytest.raises(errors.QueryCanceled) as caught:
                connection.execute("SELECT pg_sleep(30)")
            timer.join()
            return caught.value.sqlstate, connection.execute("SELECT 'alive'").fetchone()

    assert routes.same(scenario) == ("57014", ("alive",))


def test_error_diagnostics(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection:
            connection.execute("CREATE TEMP TABLE t (n int CONSTRAINT positive CHECK (n > 0))")
            with pytest.raises(errors.CheckViolation) as caught:
                connection.execute("INSERT INTO t VALUES (%s)", (-1,))
            diag = caught.value.diag
            names = [
                name for name in dir(diag) if not name.startswith("_") and name != "schema_name"
            ]
            return {name: getattr(diag, name) for name in names}

    assert routes.same(scenario)["constraint_name"] == "positive"


def test_notices(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        heard: list[Any] = []
        with connect(dsn) as connection:
            connection.add_notice_handler(
                lambda diag: heard.append((diag.severity, diag.message_primary))
            )
            connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        return heard

    assert routes.same(scenario) == [("NOTICE", "one"), ("WARNING", "two")]


def test_pipeline_mode(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection:
            connection.execute("CREATE TEMP TABLE t (n int PRIMARY KEY)")
            with connection.pipeline():
                cursors = [connection.execute("SELECT %s::int", (n,)) for n in range(200)]
                inserted = connection.cursor()
                inserted.executemany("INSERT INTO t VALUES (%s)", [(n,) for n in range(500)])
            rows = [cursor.fetchone() for cursor in cursors]
            with pytest.raises(errors.UniqueViolation), connection.pipeline() as pipeline:
                connection.execute("INSERT INTO t VALUES (1000)")
                pipeline.sync()
                connection.execute("INSERT INTO t VALUES (1000)")
                connection.execute("INSERT INTO t VALUES (1001)")
                pipeline.sync()
            return rows, connection.execute("SELECT count(*), max(n) FROM t").fetchone()

    rows, counts = routes.same(scenario)
    assert rows == [(n,) for n in range(200)]
    assert counts == (501, 1000)


def test_pipeline_that_writes_without_reading(routes: Routes) -> None:
    """More requests and more answers than any socket buffer holds: neither side may wait."""

    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection, connection.pipeline():
            text = "x" * 10_000
            cursors = [connection.execute("SELECT %s || %s", (text, str(n))) for n in range(600)]
            return sum(len((cursor.fetchone() or ("",))[0]) for cursor in cursors)

    assert routes.same(scenario) == 600 * 10_000 + 10 + 90 * 2 + 500 * 3


def test_server_side_cursor_and_stream(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with psycopg.connect(dsn) as connection:
            with connection.cursor("named") as cursor:
                cursor.itersize = 100
                cursor.execute("SELECT i FROM generate_series(1, 1050) AS i")
                total = sum(row[0] for row in cursor)
            streamed = connection.cursor().stream("SELECT generate_series(1, 1000)", size=1)
            return total, sum(row[0] for row in streamed)

    assert routes.same(scenario) == (1050 * 1051 // 2, 500_500)


def test_large_values(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn) as connection:
            data = bytes(range(256)) * 20_000
            row = connection.execute("SELECT %s::bytea, length(%s)", (data, data)).fetchone()
            return row == (data, len(data))

    assert routes.same(scenario)


def test_session_settings(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        with connect(dsn, options="-c search_path=pg_catalog -c app.tenant=9") as connection:
            first = connection.execute(
                "SELECT current_setting('search_path'), current_setting('app.tenant')"
            ).fetchone()
            connection.execute("SET TIME ZONE 'Europe/Vienna'")
            zone = connection.info.timezone.key
            connection.execute("SET client_encoding = 'latin1'")
            return (
                first,
                zone,
                connection.info.encoding,
                connection.execute("SELECT 'é'").fetchone(),
            )

    assert routes.same(scenario) == (("pg_catalog", "9"), "Europe/Vienna", "iso8859-1", ("é",))


async def test_async_queries_in_parallel(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        async def one(number: int) -> Any:
            async with await psycopg.AsyncConnection.connect(dsn) as connection:
                cursor = await connection.execute("SELECT %s, pg_sleep(0.01)", (number,))
                return await cursor.fetchone()

        return await asyncio.gather(*map(one, range(20)))

    assert await routes.same_async(scenario) == [(n, "") for n in range(20)]


async def test_async_cancel_by_task(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        async with connection:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await connection.execute("SELECT pg_sleep(30)")
            cursor = await connection.execute("SELECT 'alive'")
            return await cursor.fetchone()

    assert await routes.same_async(scenario) == ("alive",)


async def test_async_pipeline_and_copy(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        async with connection:
            await connection.execute("CREATE TEMP TABLE t (n int)")
            async with connection.cursor().copy("COPY t FROM STDIN") as copy:
                for number in range(1000):
                    await copy.write_row((number,))
            async with connection.pipeline():
                cursors = [await connection.execute("SELECT sum(n) FROM t") for _ in range(10)]
            return [await cursor.fetchone() for cursor in cursors]

    assert await routes.same_async(scenario) == [(499_500,)] * 10
