"""asyncpg: binary, named statements for everything, Flush-free batches, its own timeouts."""

import asyncio
import contextlib
import datetime
import decimal
import io
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from tests.integration.drivers.conftest import Routes

pytestmark = pytest.mark.servers


@contextlib.asynccontextmanager
async def connected(dsn: str, **options: Any) -> AsyncIterator[Any]:
    """A connection that is gone afterwards even if the scenario failed."""
    connection = await asyncpg.connect(dsn, **options)
    try:
        yield connection
        await connection.close()
    finally:
        connection.terminate()


@pytest.mark.parametrize("user", ["app_trust", "app_password", "app_md5", "app_scram"])
async def test_connect_and_query(routes: Routes, user: str) -> None:
    async def scenario(dsn: str) -> Any:
        async with connected(dsn) as connection:
            row = await connection.fetchrow("SELECT current_user::text, $1::int, $2::text", 7, "ü")
            settings = connection.get_settings()
            same_pid = await connection.fetchval("SELECT pg_backend_pid()") == (
                connection.get_server_pid()
            )
            version = connection.get_server_version()
            return tuple(row), settings.server_encoding, same_pid, version

    row, _, same_pid, _ = await routes.same_async(scenario, user)
    assert row == (user, 7, "ü")
    assert same_pid


async def test_refused_logins(routes: Routes) -> None:
    async def wrong_password(dsn: str) -> Any:
        with pytest.raises(asyncpg.InvalidPasswordError) as caught:
            await asyncpg.connect(dsn.replace("Pa55", "Pa56"))
        return caught.value.sqlstate, str(caught.value)

    async def unknown_database(dsn: str) -> Any:
        with pytest.raises(asyncpg.InvalidCatalogNameError) as caught:
            await asyncpg.connect(dsn)
        return str(caught.value)

    assert (await routes.same_async(wrong_password))[0] == "28P01"
    assert "nowhere" in await routes.same_async(unknown_database, database="nowhere")


async def test_types(routes: Routes) -> None:
    values = (
        2**40,
        decimal.Decimal("1.50"),
        "text",
        b"\0\xff",
        [1, None, 3],
        datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
        datetime.timedelta(days=2, microseconds=5),
        None,
    )
    kinds = ["int8", "numeric", "text", "bytea", "int4[]", "timestamptz", "interval", "text"]

    async def scenario(dsn: str) -> Any:
        async with connected(dsn) as connection:
            places = ", ".join(f"${n + 1}::{kind}" for n, kind in enumerate(kinds))
            row = await connection.fetchrow(f"SELECT {places}", *values)
            return tuple(row)

    assert await routes.same_async(scenario) == values


async def test_prepared_statements_and_cursors(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        async with connected(dsn, statement_cache_size=5) as connection:
            statement = await connection.prepare("SELECT $1::int * 2 AS double")
            doubled = [await statement.fetchval(n) for n in range(10)]
            for number in range(20):  # the cache overflows: Close messages go out
                await connection.fetchval(f"SELECT {number}")
            async with connection.transaction():
                cursor = await connection.cursor("SELECT generate_series(1, 100)")
                first = [row[0] for row in await cursor.fetch(10)]
                await cursor.forward(50)
                later = (await cursor.fetchrow())[0]
                rows = [
                    row[0] async for row in connection.cursor("SELECT 1 UNION SELECT 2 ORDER BY 1")
                ]
            attributes = [attribute.name for attribute in statement.get_attributes()]
            return doubled, first, later, rows, attributes

    doubled, first, later, rows, attributes = await routes.same_async(scenario)
    assert doubled == [n * 2 for n in range(10)]
    assert (first[-1], later, rows, attributes) == (10, 61, [1, 2], ["double"])


async def test_transactions(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        async with connected(dsn) as connection:
            await connection.execute("CREATE TEMP TABLE t (n int)")
            async with connection.transaction():
                await connection.execute("INSERT INTO t VALUES (1)")
                with pytest.raises(asyncpg.DivisionByZeroError):
                    async with connection.transaction():
                        await connection.execute("INSERT INTO t VALUES (2)")
                        await connection.fetchval("SELECT 1/0")
            with pytest.raises(RuntimeError):
                async with connection.transaction(isolation="serializable"):
                    await connection.execute("INSERT INTO t VALUES (3)")
                    raise RuntimeError
            await connection.executemany(
                "INSERT INTO t VALUES ($1)", [(n,) for n in range(10, 200)]
            )
            found = await connection.fetchrow("SELECT count(*), min(n) FROM t")
            return tuple(found)

    assert await routes.same_async(scenario) == (191, 1)


async def test_copy(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        async with connected(dsn) as connection:
            await connection.execute("CREATE TEMP TABLE t (n int, s text)")
            copied = await connection.copy_records_to_table(
                "t", records=[(n, "x") for n in range(999)]
            )
            source = io.BytesIO(b"1000\ty\n" * 50)
            loaded = await connection.copy_to_table("t", source=source)
            out = io.BytesIO()
            sent = await connection.copy_from_query("SELECT * FROM t WHERE n < $1", 10, output=out)
            with pytest.raises(asyncpg.InvalidTextRepresentationError):
                await connection.copy_to_table("t", source=io.BytesIO(b"bad\n"))
            count = await connection.fetchval("SELECT count(*) FROM t")
            return copied, loaded, sent, out.getvalue(), count

    answer = await routes.same_async(scenario)
    assert answer[:3] == ("COPY 999", "COPY 50", "COPY 10")
    assert answer[4] == 1049


async def test_listen_notify(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        heard: asyncio.Queue[tuple[int, str]] = asyncio.Queue()

        def hear(_: Any, pid: int, __: str, payload: str) -> None:
            heard.put_nowait((pid, payload))

        async with connected(dsn) as listener, connected(dsn) as speaker:
            await listener.add_listener("drivers_asyncpg", hear)
            await speaker.execute("NOTIFY drivers_asyncpg, 'hello'")
            pid, payload = await asyncio.wait_for(heard.get(), 10)
            assert pid == speaker.get_server_pid()
            await listener.remove_listener("drivers_asyncpg", hear)
            return payload

    assert await routes.same_async(scenario) == "hello"


async def test_timeout_cancels(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        async with connected(dsn) as connection:
            with pytest.raises(TimeoutError):
                await connection.fetchval("SELECT pg_sleep(30)", timeout=0.2)
            alive = await connection.fetchval("SELECT 'alive'")
            task = asyncio.ensure_future(connection.fetchval("SELECT pg_sleep(30)"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            again = await connection.fetchval("SELECT 'again'")
            return alive, again

    assert await routes.same_async(scenario) == ("alive", "again")


async def test_pool(routes: Routes) -> None:
    """Its pool resets each connection on release: UNLISTEN, CLOSE ALL, RESET ALL."""

    async def scenario(dsn: str) -> Any:
        async with asyncpg.create_pool(dsn, min_size=2, max_size=4) as pool:

            async def one(number: int) -> int:
                async with pool.acquire() as connection:
                    await connection.execute("SET work_mem = '5MB'")
                    return await connection.fetchval("SELECT $1::int", number)

            answers = await asyncio.gather(*map(one, range(50)))
            return answers, await pool.fetchval("SHOW work_mem")

    answers, setting = await routes.same_async(scenario)
    assert answers == list(range(50))
    assert setting != "5MB"


async def test_errors_and_notices(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        async with connected(dsn) as connection:
            heard: list[str] = []
            connection.add_log_listener(lambda _, message: heard.append(message.message))
            await connection.execute("DO $$ BEGIN RAISE NOTICE 'said'; END $$")
            with pytest.raises(asyncpg.UndefinedTableError) as caught:
                await connection.fetch("SELECT * FROM nowhere_at_all")
            with pytest.raises(asyncpg.PostgresSyntaxError):
                await connection.execute("SELEC")
            after = await connection.fetchval("SELECT 1")
            return heard, caught.value.as_dict(), after

    assert (await routes.same_async(scenario))[0] == ["said"]


async def test_large_values(routes: Routes) -> None:
    async def scenario(dsn: str) -> Any:
        async with connected(dsn) as connection:
            data = bytes(range(256)) * 20_000
            assert await connection.fetchval("SELECT $1::bytea", data) == data
            rows = await connection.fetch(
                "SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i"
            )
            return len(rows), rows[-1][0]

    assert await routes.same_async(scenario) == (20_000, 20_000)
