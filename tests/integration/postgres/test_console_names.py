"""Our columns against those of a real PgBouncer: its names, its order, its types."""

import shutil
from collections.abc import Iterator
from struct import unpack_from

import pytest

from proxy.demo.servers import PostgresServer
from tests import wire
from tests.fix_bouncer import MakeBouncer
from tests.integration.postgres.console_kit import console, open_console
from tests.integration.postgres.kit import Make
from tests.wire import PgWire

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="needs pgbouncer"),
]

SHOWN = [
    "STATS",
    "STATS_TOTALS",
    "STATS_AVERAGES",
    "TOTALS",
    "SERVERS",
    "CLIENTS",
    "POOLS",
    "LISTS",
    "USERS",
    "DATABASES",
    "SOCKETS",
    "ACTIVE_SOCKETS",
    "CONFIG",
    "MEM",
    "DNS_HOSTS",
    "DNS_ZONES",
    "VERSION",
]
RENAMED = {"reserve_pool": "reserve_pool_size"}  # as PgBouncer did it in 1.24
WIDER = {("MEM", 23): 20}  # our sizes do not fit their type


@pytest.fixture
def bouncer(postgres: PostgresServer, make_bouncer: MakeBouncer) -> Iterator[PgWire]:
    made = make_bouncer(postgres, "session")
    with PgWire.session(("127.0.0.1", made.port), database="pgbouncer") as client:
        yield client


def described(answer: list[bytes]) -> list[tuple[str, int]]:
    """(name, type) of each column of a RowDescription."""
    (raw,) = (one for one in answer if one[:1] == b"T")
    found, pos = [], 7
    for _ in range(unpack_from(">H", raw, 5)[0]):
        end = raw.index(b"\0", pos)
        name = raw[pos:end].decode()
        found.append((RENAMED.get(name, name), unpack_from(">I", raw, end + 7)[0]))
        pos = end + 19
    return found


def test_columns(proxied: Make, postgres: PostgresServer, bouncer: PgWire) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with console(proxy) as client:
        for name in SHOWN:
            theirs = described(bouncer.query(f"SHOW {name}"))
            ours = described(client.query(f"SHOW {name}"))
            wanted = [(column, WIDER.get((name, kind), kind)) for column, kind in theirs]
            assert [one for one in ours if one in wanted] == wanted, name


@pytest.mark.parametrize("name", ["LISTS", "TOTALS"])
def test_rows_that_are_names(
    proxied: Make, postgres: PostgresServer, bouncer: PgWire, name: str
) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with console(proxy) as client:
        theirs = [row[0] for row in wire.rows(bouncer.query(f"SHOW {name}"))]
        ours = [row[0] for row in wire.rows(client.query(f"SHOW {name}"))]
    assert [one for one in ours if one in theirs] == theirs


def test_settings_that_exporters_read(
    proxied: Make, postgres: PostgresServer, bouncer: PgWire
) -> None:
    proxy = proxied(postgres)
    open_console(proxy)
    with console(proxy) as client:
        for one in (bouncer, client):
            values = {row[0]: row[1] for row in wire.rows(one.query("SHOW CONFIG;"))}
            assert float(values[b"max_client_conn"] or b"") > 0
            assert float(values[b"max_user_connections"] or b"") == 0
