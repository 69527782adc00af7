"""Drivers over TLS to the proxy, as applications ask for it; each keeps its session over a cut."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import psycopg
import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from proxy.demo.certificates import TlsFiles, make_tls
from proxy.demo.cutter import Target
from proxy.demo.servers import ROLE_PASSWORDS, PostgresServer
from tests.integration.postgres.kit import Proxied, Told

pytestmark = pytest.mark.servers

USER = "app_scram"
PASSWORD = ROLE_PASSWORDS[USER]
LIBPQ: dict[str, dict[str, str]] = {
    "require": {"sslmode": "require"},
    "verify-full": {"sslmode": "verify-full"},
    "channel binding": {"sslmode": "verify-full", "channel_binding": "require"},
    "direct": {"sslmode": "verify-full", "sslnegotiation": "direct", "channel_binding": "require"},
}
"""By libpq's own words: `channel_binding=require` fails unless SCRAM-SHA-256-PLUS was used."""


@pytest.fixture(scope="module")
def proxy(postgres: PostgresServer, tls_files: TlsFiles) -> Iterator[Proxied]:
    """A route that wants TLS and SCRAM of its clients, over TLS to its server, behind a cutter."""
    login = f"{USER}:{quote(PASSWORD, safe='')}"
    setting = {
        "listen": "127.0.0.1:0",
        "upstream": f"postgresql://{login}@127.0.0.1:{{port}}/app?sslmode=require",
        "auth": {"method": "scram-sha-256"},
        "tls": {
            "mode": "require",
            "cert": str(tls_files.certificate),
            "key": str(tls_files.key),
        },
    }
    made = Proxied(Told(setting=setting, cutter=Target(address=("127.0.0.1", postgres.port))))
    yield made.start()
    made.stop()


@pytest.fixture
def lose(proxy: Proxied) -> Callable[[], None]:
    """Cut the one session's link, and return when the proxy knows."""

    def act() -> None:
        before = len(proxy.named("link_lost"))
        proxy.cut()
        proxy.until("link_lost", before + 1)

    return act


def libpq(proxy: Proxied, files: TlsFiles, how: str, **more: Any) -> dict[str, Any]:
    """Arguments of a connection by libpq."""
    options = {"host": "localhost", "hostaddr": "127.0.0.1", "port": proxy.port, "dbname": "app"}
    options |= {"user": USER, "password": PASSWORD, "sslrootcert": str(files.ca)}
    if how == "require":
        del options["sslrootcert"]  # which would make it verify-ca
    return {**options, **LIBPQ[how], **more}


def context(files: TlsFiles) -> ssl.SSLContext:
    made = files.client_context()
    made.set_alpn_protocols(["postgresql"])
    return made


@pytest.mark.parametrize("how", LIBPQ)
def test_psycopg(proxy: Proxied, tls_files: TlsFiles, lose: Callable[[], None], how: str) -> None:
    with psycopg.connect(**libpq(proxy, tls_files, how), autocommit=True) as connection:
        assert connection.pgconn.ssl_in_use
        connection.execute("SET app.tenant = 'seven'")
        for turn in range(3):
            for number in range(8):  # from the sixth on by a prepared statement
                found = connection.execute(
                    "SELECT %s::int, current_setting('app.tenant')", (number,)
                )
                assert found.fetchone() == (number, "seven"), turn
            lose()


@pytest.mark.parametrize("how", LIBPQ)
def test_psycopg2(proxy: Proxied, tls_files: TlsFiles, lose: Callable[[], None], how: str) -> None:
    connection = psycopg2.connect(**libpq(proxy, tls_files, how))
    try:
        connection.autocommit = True
        assert connection.info.ssl_in_use
        cursor = connection.cursor()
        cursor.execute("SET app.tenant = 'seven'")
        for turn in range(3):
            cursor.execute("SELECT current_setting('app.tenant')")
            assert cursor.fetchone() == ("seven",), turn
            lose()
    finally:
        connection.close()


@pytest.mark.parametrize("direct", [False, True], ids=["asked", "direct"])
async def test_asyncpg(
    proxy: Proxied, tls_files: TlsFiles, lose: Callable[[], None], direct: bool
) -> None:
    connection = await asyncpg.connect(
        host="localhost",
        port=proxy.port,
        user=USER,
        password=PASSWORD,
        database="app",
        ssl=context(tls_files),
        direct_tls=direct,
    )
    try:
        assert connection._transport.get_extra_info("cipher")
        await connection.execute("SET app.tenant = 'seven'")
        for turn in range(3):
            found = await connection.fetchrow("SELECT $1::int, current_setting('app.tenant')", turn)
            assert tuple(found) == (turn, "seven")
            await asyncio.to_thread(lose)
    finally:
        await connection.close()


def url(proxy: Proxied, driver: str) -> sqlalchemy.URL:
    return sqlalchemy.URL.create(
        f"postgresql+{driver}", USER, PASSWORD, "localhost", proxy.port, "app"
    )


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_sqlalchemy(
    proxy: Proxied, tls_files: TlsFiles, lose: Callable[[], None], driver: str
) -> None:
    """A pooled connection that died unseen: the incident of the design, over TLS on both sides."""
    options = {"sslmode": "verify-full", "sslrootcert": str(tls_files.ca)}
    engine = sqlalchemy.create_engine(url(proxy, driver), connect_args=options, pool_size=1)
    for turn in range(3):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("SET search_path TO public"))
            assert connection.scalar(sqlalchemy.text("SELECT :n + 0"), {"n": turn}) == turn
        lose()
    engine.dispose()


async def test_sqlalchemy_asyncpg(
    proxy: Proxied, tls_files: TlsFiles, lose: Callable[[], None]
) -> None:
    options = {"ssl": context(tls_files)}
    engine = create_async_engine(url(proxy, "asyncpg"), connect_args=options, pool_size=1)
    for turn in range(3):
        async with engine.begin() as connection:
            await connection.execute(sqlalchemy.text("SET search_path TO public"))
            assert await connection.scalar(sqlalchemy.text(f"SELECT {turn}")) == turn
        await asyncio.to_thread(lose)
    await engine.dispose()


# ---- what must not be


def test_an_authority_that_nobody_trusts(
    proxy: Proxied, tmp_path: Path, tls_files: TlsFiles
) -> None:
    others = make_tls(tmp_path)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(**libpq(proxy, others, "verify-full"))
    with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
        psycopg2.connect(**libpq(proxy, others, "direct"))
    with pytest.raises(psycopg.OperationalError, match="certificate .* does not match"):
        wrong = libpq(proxy, tls_files, "verify-full", host="elsewhere.invalid")
        psycopg.connect(**wrong)


async def test_an_authority_that_asyncpg_does_not_trust(proxy: Proxied, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncpg.connect(
            host="localhost",
            port=proxy.port,
            user=USER,
            password=PASSWORD,
            database="app",
            ssl=context(make_tls(tmp_path)),
        )


def test_without_tls(proxy: Proxied, tls_files: TlsFiles) -> None:
    with pytest.raises(psycopg.OperationalError, match="TLS"):
        psycopg.connect(**libpq(proxy, tls_files, "verify-full", sslmode="disable"))


def test_a_wrong_password_over_tls(proxy: Proxied, tls_files: TlsFiles) -> None:
    for how in ("require", "channel binding", "direct"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(**libpq(proxy, tls_files, how, password="wrong"))
