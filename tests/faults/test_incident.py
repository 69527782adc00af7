"""The incident the project was born from: links die while sessions are idle; nobody notices.

BACKSTAY_FULL=1: a hundred rounds of it.
"""

import asyncio
import os
from typing import Any

import psycopg
import pytest

from proxy.demo.cutter import Cut
from proxy.postgres.runtime.options import PoolOptions

SESSIONS = 50
ROUNDS = 100 if os.environ.get("BACKSTAY_FULL") else 24  # of each kind of cut a quarter
CUTS = (Cut.FIN, Cut.RST, Cut.TLS_ABORT, Cut.SILENCE)

STATE = """
select current_setting('search_path'), current_setting('app.tenant'),
       current_setting('statement_timeout'), current_setting('timezone'), current_user,
       (select string_agg(name, ',' order by name) from pg_prepared_statements where from_sql)
"""


async def _dress(connection: psycopg.AsyncConnection[Any], number: int) -> None:
    """Give a session the state an application gives it."""
    await connection.execute("set search_path to pg_catalog, public")
    await connection.execute("select set_config('app.tenant', %s, false)", (f"tenant-{number}",))
    await connection.execute(f"set statement_timeout = '{number + 10}s'")
    await connection.execute("set time zone 'Europe/Lisbon'")
    await connection.execute("prepare by_name as select 1")
    await connection.execute("select %s::int + 1", (number,), prepare=True)


async def _state(connection: psycopg.AsyncConnection[Any], number: int) -> tuple[Any, ...]:
    cursor = await connection.execute("select %s::int + 1", (number,), prepare=True)
    assert await cursor.fetchone() == (number + 1,)
    row = await (await connection.execute(STATE)).fetchone()
    assert row is not None
    return tuple(row)


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(240)
@pytest.mark.parametrize("tls", ["plain", "tls"])
async def test_fifty_idle_sessions_survive_every_cut(hopped: Any, postgres: Any, tls: str) -> None:
    query = "sslmode=disable" if tls == "plain" else "sslmode=require"
    pool = PoolOptions(size=SESSIONS + 10, connects_per_s=1000.0)
    proxy = await hopped(postgres, query, ping_s=0.2, ping_timeout_s=0.3, pool=pool)
    rounds = ROUNDS if tls == "plain" else ROUNDS // 3
    connections = [await proxy.connect() for _ in range(SESSIONS)]
    for number, connection in enumerate(connections):
        await _dress(connection, number)
    before = [await _state(c, n) for n, c in enumerate(connections)]
    assert len(set(before)) == SESSIONS

    for turn in range(rounds):
        cut = CUTS[turn % len(CUTS)]
        attached = [session.link for session in proxy.route.sessions]
        silent = list(proxy.cutter.hops.values())
        proxy.cutter.cut_all(cut)
        async with asyncio.timeout(20):
            while any(link is not None and not link.closed for link in attached):
                await asyncio.sleep(0.01)
        for hop in silent:  # else the server would keep the silent ones, and be full soon
            hop.cut(Cut.RST)
        after = await asyncio.gather(*(_state(c, n) for n, c in enumerate(connections)))
        assert after == before, f"round {turn}, {cut}"

    assert proxy.counters.losses >= SESSIONS * rounds
    assert proxy.counters.restores >= SESSIONS * rounds
    assert proxy.counters.state_lost == proxy.counters.doubts == proxy.counters.rolled_back == 0
    for connection in connections:
        await connection.close()
