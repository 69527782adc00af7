"""Every write is entered in a ledger: what was acknowledged is stored, nothing is stored twice.

BACKSTAY_FULL=1: each kind of restart five times instead of twice.
"""

import asyncio
import itertools
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from proxy.demo.cutter import Cut
from proxy.demo.servers import PostgresServer, Stop

WRITERS = 8
STOPS = (Stop.FAST, Stop.IMMEDIATE, Stop.KILL)
CALM_S = 2.0  # of work after the last cut
ROUNDS = 5 if os.environ.get("BACKSTAY_FULL") else 2
KNOWN = {"08007", "40001", "25P02", "08006", "57P01", "57P03"}


class Ledger:
    """What each writer was told of each id."""

    def __init__(self) -> None:
        self.acknowledged: set[int] = set()
        self.doubtful: set[int] = set()
        self.refused: set[int] = set()
        self.codes: Counter[str] = Counter()
        self.ids = itertools.count(1)


async def _write(proxy: Any, ledger: Ledger, table: str, over: asyncio.Event, seed: int) -> None:
    """Insert unique ids in every way a client can, and note what came back."""
    rng = random.Random(seed)
    connection = await proxy.connect()
    while not over.is_set():
        number = next(ledger.ids)
        way = rng.choice(("simple", "extended", "transaction", "pipeline"))
        try:
            await _one(connection, way, table, number)
        except psycopg.Error as error:
            code = error.sqlstate or "none"
            ledger.codes[code] += 1
            if code not in KNOWN:
                raise
            if code == "08007":
                ledger.doubtful.add(number)
            else:
                ledger.refused.add(number)
            if connection.closed:
                connection = await proxy.connect()
            else:
                await connection.rollback()
        else:
            ledger.acknowledged.add(number)
    await connection.close()


async def _one(connection: Any, way: str, table: str, number: int) -> None:
    if way == "simple":
        await connection.execute(f"insert into {table} values ({number})")
    elif way == "extended":
        await connection.execute(f"insert into {table} values (%s)", (number,))
    elif way == "transaction":
        async with connection.transaction():
            await connection.execute("select 1")
            await connection.execute(f"insert into {table} values (%s)", (number,))
    else:
        async with connection.pipeline():
            await connection.execute("select 1")
            await connection.execute(f"insert into {table} values (%s)", (number,))


async def _disturb(
    proxy: Any, server: PostgresServer, over: asyncio.Event, seed: int
) -> Counter[str]:
    """Cuts all the time, and each kind of restart again and again; then it is over."""
    rng = random.Random(seed)
    done: Counter[str] = Counter()
    proxy.cutter.cut_every(0.15, (Cut.FIN, Cut.RST, Cut.TLS_ABORT), share=0.5)
    for how in STOPS * ROUNDS:
        await asyncio.sleep(rng.uniform(2.0, 4.0))
        done[how.name] += 1
        await asyncio.to_thread(server.restart, how)
        with server.connect() as direct:  # the FATAL certificate, without a restart
            direct.autocommit = True
            for _ in range(10):
                await asyncio.sleep(0.05)
                direct.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where pid <> pg_backend_pid() and state = 'active'"
                )
    proxy.cutter.cut_every(0)
    await asyncio.sleep(CALM_S)
    over.set()
    return done


@pytest.mark.slow
@pytest.mark.servers
@pytest.mark.timeout(180)
async def test_acknowledged_is_stored_and_nothing_twice(
    hopped: Any, make_postgres: Callable[..., PostgresServer]
) -> None:
    # Durable: an immediate restart must not lose what was acknowledged.
    server = await asyncio.to_thread(
        make_postgres, settings={"fsync": "on", "synchronous_commit": "on"}
    )
    server.sql("create table ledger (id bigint)")
    proxy = await hopped(server, seed=7)
    ledger = Ledger()
    over = asyncio.Event()
    writers = [_write(proxy, ledger, "ledger", over, seed) for seed in range(WRITERS)]
    *_, done = await asyncio.gather(*writers, _disturb(proxy, server, over, 7))

    rows = server.sql("select id, count(*) from ledger group by id")
    stored = {number for number, _ in rows}
    assert [number for number, times in rows if times != 1] == [], "doubled writes"
    assert ledger.acknowledged - stored == set(), "lost writes"
    assert ledger.refused & stored == set(), "writes said to be rolled back, and stored"
    assert stored <= ledger.acknowledged | ledger.doubtful
    counters = proxy.counters
    print(f"ledger: {len(ledger.acknowledged)} acknowledged, codes {dict(ledger.codes)}")
    print(f"restarts {dict(done)}, counters {counters}")
    assert len(ledger.acknowledged) > 500
    assert min(done[how.name] for how in STOPS) >= 2
    assert counters.resent_fatal > 0, "the FATAL certificate was never used"
    assert counters.losses > 100
    assert ledger.codes["08007"] >= len(ledger.doubtful)
