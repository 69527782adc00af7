"""An outage is a wait, not an error; reads never see a cut."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from proxy.demo.cutter import Cut
from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime.options import ResilienceOptions


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(120)
async def test_reads_under_a_cut_every_100_ms(hopped: Any, postgres: PostgresServer) -> None:
    proxy = await hopped(postgres, seed=3)
    connections = [await proxy.connect() for _ in range(6)]
    until_s = time.monotonic() + 15
    reads = 0

    async def read(connection: psycopg.AsyncConnection[Any], prepare: bool) -> None:
        nonlocal reads
        while time.monotonic() < until_s:
            cursor = await connection.execute(
                "select n from generate_series(1, %s::int) n", (50,), prepare=prepare
            )
            assert [row[0] for row in await cursor.fetchall()] == list(range(1, 51))
            reads += 1

    proxy.cutter.cut_every(0.1, (Cut.FIN, Cut.RST, Cut.TLS_ABORT))
    await asyncio.gather(*(read(c, n % 2 == 0) for n, c in enumerate(connections)))
    proxy.cutter.cut_every(0)
    assert proxy.counters.losses > 50
    assert proxy.counters.interrupted == proxy.counters.doubts == 0
    assert reads > 500


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(120)
async def test_ten_seconds_without_a_server(
    hopped: Any, make_postgres: Callable[..., PostgresServer]
) -> None:
    server = await asyncio.to_thread(make_postgres)
    server.sql("create table outage (id bigint)")
    proxy = await hopped(server)
    connections = [await proxy.connect() for _ in range(8)]
    slowest_s = 0.0
    over = False

    async def work(connection: psycopg.AsyncConnection[Any], number: int) -> int:
        nonlocal slowest_s
        count = 0
        while not over:
            started_s = time.monotonic()
            await connection.execute("select 1")
            slowest_s = max(slowest_s, time.monotonic() - started_s)
            count += 1
            await asyncio.sleep(0.02)
        return count

    tasks = [asyncio.ensure_future(work(c, n)) for n, c in enumerate(connections)]
    await asyncio.sleep(0.5)
    stopped_s = time.monotonic()
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(10 - (time.monotonic() - stopped_s))
    await asyncio.to_thread(server.start)
    away_s = time.monotonic() - stopped_s
    await asyncio.sleep(2)
    over = True
    counts = await asyncio.gather(*tasks)
    assert min(counts) > 20
    assert slowest_s <= away_s + 1.0, (slowest_s, away_s)
    assert proxy.named("upstream_down")
    assert proxy.named("upstream_up")
    assert len(proxy.named("waiting")) >= 8  # each was told after 5 s


@pytest.mark.servers
async def test_a_wait_ends_at_hold_s(hopped: Any, postgres: PostgresServer) -> None:
    proxy = await hopped(postgres, resilience=ResilienceOptions(hold_s=0.5))
    connection = await proxy.connect()
    other = await proxy.connect()
    await proxy.cutter.refuse()
    proxy.cutter.cut_all(Cut.RST)
    with pytest.raises(psycopg.OperationalError, match="database unreachable for 0.5 s"):
        await connection.execute("select 1")
    assert connection.closed
    with pytest.raises(psycopg.OperationalError, match="database not available, waited 0.5 s"):
        await proxy.connect()
    await proxy.cutter.accept()
    assert (await (await other.execute("select 1")).fetchone()) == (1,)
