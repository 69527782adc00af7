"""psycopg2: the driver of the incident. Simple protocol only, its own COPY and notify interface."""

import io
import select
import threading
from typing import Any

import psycopg2
import psycopg2.errors
import psycopg2.extensions
import psycopg2.extras
import pytest

from tests.integration.drivers.conftest import Routes

pytestmark = pytest.mark.servers


def connect(dsn: str, **options: Any) -> Any:
    connection = psycopg2.connect(dsn, **options)
    connection.autocommit = True
    return connection


def rows(connection: Any, sql: str, values: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


@pytest.mark.parametrize("user", ["app_trust", "app_password", "app_md5", "app_scram"])
def test_connect_and_query(routes: Routes, user: str) -> None:
    def scenario(dsn: str) -> Any:
        connection = connect(dsn)
        found = rows(connection, "SELECT current_user, %s, %s, %s", (1, "ü'", None))
        status = connection.get_parameter_status("server_version"), connection.encoding
        connection.close()
        return found, status

    assert routes.same(scenario, user)[0] == [(user, 1, "ü'", None)]


def test_the_statement_of_the_incident(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        connection = psycopg2.connect(dsn)
        with connection, connection.cursor() as cursor:
            cursor.execute("SET search_path TO public")
            cursor.execute("SHOW search_path")
            first = cursor.fetchone()
        with connection, connection.cursor() as cursor:
            cursor.execute("SHOW search_path")
            second = cursor.fetchone()
        connection.close()
        return first, second

    assert routes.same(scenario) == (("public",), ("public",))


def test_transactions(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        connection = psycopg2.connect(dsn)
        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE t (n int)")
        connection.commit()
        cursor.execute("INSERT INTO t VALUES (1)")
        connection.rollback()
        cursor.execute("INSERT INTO t VALUES (2)")
        with pytest.raises(psycopg2.errors.DivisionByZero):
            cursor.execute("SELECT 1/0")
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("SELECT 1")
        connection.commit()
        connection.set_session(isolation_level="SERIALIZABLE", readonly=True)
        cursor.execute("SELECT count(*), current_setting('transaction_isolation') FROM t")
        found = cursor.fetchone()
        connection.close()
        return found

    assert routes.same(scenario) == (0, "serializable")


def test_copy(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        connection = connect(dsn)
        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE t (n int, s text)")
        cursor.copy_from(io.StringIO("".join(f"{n}\tx{n}\n" for n in range(3000))), "t")
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM t ORDER BY n) TO STDOUT CSV", out)
        with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
            cursor.copy_from(io.StringIO("bad\tx\n"), "t")
        counted = rows(connection, "SELECT count(*) FROM t")
        connection.close()
        return len(out.getvalue()), counted

    assert routes.same(scenario)[1] == [(3000,)]


def test_listen_notify(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        listener, speaker = connect(dsn), connect(dsn)
        listener.cursor().execute("LISTEN drivers_psycopg2")
        speaker.cursor().execute("NOTIFY drivers_psycopg2, 'hello'")
        while not listener.notifies:
            assert select.select([listener], [], [], 10)[0], "no notification came"
            listener.poll()
        note = listener.notifies.pop()
        assert note.pid == speaker.info.backend_pid
        listener.close()
        speaker.close()
        return note.channel, note.payload

    assert routes.same(scenario) == ("drivers_psycopg2", "hello")


def test_cancel(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        connection = connect(dsn)
        rows(connection, "SELECT 1")
        timer = threading.Timer(0.2, connection.cancel)
        timer.start()
        with pytest.raises(psycopg2.errors.QueryCanceled) as caught:
            rows(connection, "SELECT pg_sleep(30)")
        timer.join()
        after = rows(connection, "SELECT 'alive'")
        connection.close()
        return caught.value.pgcode, after

    assert routes.same(scenario) == ("57014", [("alive",)])


def test_named_cursor_and_execute_values(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        connection = psycopg2.connect(dsn)
        cursor = connection.cursor()
        cursor.execute("CREATE TEMP TABLE t (n int)")
        psycopg2.extras.execute_values(
            cursor, "INSERT INTO t VALUES %s", [(n,) for n in range(2500)], page_size=1000
        )
        named = connection.cursor("named")
        named.itersize = 500
        named.execute("SELECT n FROM t")
        total = sum(row[0] for row in named)
        connection.close()
        return total

    assert routes.same(scenario) == 2500 * 2499 // 2


def test_large_object(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        connection = psycopg2.connect(dsn)
        large = connection.lobject(mode="wb")
        large.write(b"0123456789" * 30_000)
        large.seek(5)
        oid = large.oid
        large.close()
        again = connection.lobject(oid, "rb")
        again.seek(299_995)
        tail = again.read()
        again.unlink()
        connection.commit()
        connection.close()
        return tail

    assert routes.same(scenario) == b"56789"


def test_errors_and_notices(routes: Routes) -> None:
    def scenario(dsn: str) -> Any:
        connection = connect(dsn)
        cursor = connection.cursor()
        cursor.execute("DO $$ BEGIN RAISE NOTICE 'said'; END $$")
        with pytest.raises(psycopg2.Error) as caught:
            cursor.execute("SELECT * FROM nowhere_at_all")
        said = list(connection.notices)
        connection.close()
        return said, caught.value.pgcode, str(caught.value)

    assert routes.same(scenario)[1] == "42P01"


def test_asynchronous_mode(routes: Routes) -> None:
    """The connection's own poll loop: the driver drives the socket without blocking."""

    def wait(connection: Any) -> None:
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            reads = [connection] if state == psycopg2.extensions.POLL_READ else []
            writes = [connection] if state == psycopg2.extensions.POLL_WRITE else []
            assert any(select.select(reads, writes, [], 10)), "the connection hangs"

    def scenario(dsn: str) -> Any:
        connection = psycopg2.connect(dsn, async_=1)
        wait(connection)
        cursor = connection.cursor()
        cursor.execute("SELECT generate_series(1, 5)")
        wait(connection)
        found = cursor.fetchall()
        connection.close()
        return found

    assert routes.same(scenario) == [(n,) for n in range(1, 6)]
