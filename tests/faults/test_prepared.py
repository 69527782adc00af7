"""Prepared statements across a loss: each exists exactly once, wherever the link died."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.core.reasons import Reason
from proxy.demo.cutter import Cut, Direction
from proxy.demo.servers import PostgresServer
from proxy.postgres.runtime import reenter
from tests import wire
from tests.faults.cut_bench import CutBench, Wound, gone
from tests.faults.test_losses import Case
from tests.wire import SYNC

TEXT = "select n from generate_series(1, %s::int) n"


@pytest.mark.servers
@pytest.mark.parametrize("first_byte", range(4))
async def test_parse_in_the_unit_that_is_run_again(
    hopped: Any, postgres: Any, first_byte: int
) -> None:
    """ParseComplete may have been seen before the link died: it must not be met again."""
    proxy = await hopped(postgres)
    for after_bytes in range(first_byte, 120, 4):
        connection = await proxy.connect()
        hop = proxy.cutter.hops[max(proxy.cutter.hops)]
        hop.cut_after(Direction.TO_CLIENT, after_bytes, Cut.RST)
        for _ in range(3):
            async with connection.pipeline():
                cursor = await connection.execute(TEXT, (3,), prepare=True)
                assert [row[0] for row in await cursor.fetchall()] == [1, 2, 3], after_bytes
        await connection.close()
    assert proxy.counters.losses > 20


@pytest.mark.servers
async def test_prepared_in_a_transaction_that_is_begun_again(hopped: Any, postgres: Any) -> None:
    """Preparing is no part of the transaction: the statement must not be prepared twice."""
    proxy = await hopped(postgres)
    connection = await proxy.connect(autocommit=False)
    for turn in range(3):
        hop = proxy.cutter.hops[max(proxy.cutter.hops)]
        await connection.execute("set local work_mem = '5MB'", prepare=True)
        await connection.execute("set search_path to public")
        hop.cut(Cut.RST)
        while len(proxy.named("link_lost")) <= 2 * turn:
            await asyncio.sleep(0.005)
        cursor = await connection.execute("select %s::int", (turn,), prepare=True)
        assert await cursor.fetchone() == (turn,)
        await connection.commit()
        hop = proxy.cutter.hops[max(proxy.cutter.hops)]
        await connection.execute("begin")
        hop.cut(Cut.RST)
        while len(proxy.named("link_lost")) <= 2 * turn + 1:
            await asyncio.sleep(0.005)
        cursor = await connection.execute("select %s::int", (turn,), prepare=True)
        assert await cursor.fetchone() == (turn,)
        await connection.rollback()
    assert proxy.counters.rolled_back == 0


@pytest.mark.servers
async def test_a_link_that_dies_when_the_transaction_is_begun_again(
    hopped: Any, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state had learnt the transaction again; the next attach must begin it once more."""
    proxy = await hopped(postgres)
    connection = await proxy.connect(autocommit=False)
    await connection.execute("set statement_timeout = '9s'")
    await connection.commit()
    await connection.execute("set local work_mem = '5MB'")
    begun: list[Any] = []
    begin_again = reenter._begin_again

    async def begin_and_lose_the_first(session: Any, link: Any) -> Any:
        prologue = await begin_again(session, link)
        begun.append(link)
        if len(begun) == 1:
            link.lose(Reason.UPSTREAM_RESET)
        return prologue

    monkeypatch.setattr(reenter, "_begin_again", begin_and_lose_the_first)
    proxy.cutter.cut_all(Cut.RST)
    while not proxy.named("link_lost"):
        await asyncio.sleep(0.005)
    cursor = await connection.execute("show work_mem")
    assert await cursor.fetchone() == ("5MB",)
    await connection.commit()
    assert len(begun) == 2


# ---- the unnamed statement, used by a unit behind the one that made it

AGAIN = wire.values() + wire.execute() + SYNC


@pytest.fixture(scope="module")
def bench(postgres: PostgresServer) -> Iterator[CutBench]:
    postgres.sql("drop table if exists unnamed; create table unnamed (id int)")
    with CutBench(postgres) as made:
        yield made


@pytest.fixture
def case(postgres: PostgresServer, bench: CutBench) -> Iterator[Case]:
    bench.call(lambda _: gone(bench))
    made = Case(postgres, bench)
    yield made
    made.client.close()


@pytest.mark.servers
@pytest.mark.parametrize("after_bytes", [*range(0, 60, 3)])
def test_unnamed_read_used_twice(case: Case, after_bytes: int) -> None:
    case.cut(Wound(Direction.TO_CLIENT, after_bytes, Cut.RST))
    case.client.send(wire.parse("select 41") + wire.describe("S") + AGAIN + AGAIN)
    answers = case.client.until_ready(2)
    assert wire.sqlstate(answers) is None
    assert wire.rows(answers) == [(b"41",), (b"41",)]
    case.client.send(AGAIN)
    assert wire.rows(case.client.until_ready()) == [(b"41",)]


@pytest.mark.servers
@pytest.mark.parametrize("after_bytes", [1, 5, 15, 35])
def test_unnamed_write_used_by_a_later_unit(case: Case, after_bytes: int) -> None:
    """The first two are in doubt, or done; the statement is there all the same."""
    case.cut(Wound(Direction.TO_CLIENT, after_bytes, Cut.RST))
    case.client.send(wire.parse("insert into unnamed values (7)") + AGAIN + AGAIN)
    for _ in range(2):
        assert wire.sqlstate(case.client.until_ready()) in (None, "08007")
    case.client.send(AGAIN)
    assert wire.tags(case.client.until_ready()) == ["INSERT 0 1"]


@pytest.mark.servers
def test_unnamed_statement_of_a_unit_that_is_told_lost(case: Case) -> None:
    """The second was never read, for the server said FATAL: it runs, with the statement."""
    killer = case.kill("PgSleep")
    case.client.send(wire.parse("do $$ begin perform pg_sleep(0.4); end $$") + AGAIN + AGAIN)
    assert wire.sqlstate(case.client.until_ready()) == "08007"
    assert wire.tags(case.client.until_ready()) == ["DO"]
    killer.join()


@pytest.mark.servers
def test_unnamed_statement_in_a_transaction_that_is_lost(case: Case) -> None:
    case.client.query("begin")
    case.client.query("select count(*) from pg_class")
    case.cut(Wound(Direction.TO_CLIENT, 1, Cut.RST))
    case.client.send(wire.parse("select 43") + AGAIN + AGAIN)
    assert wire.sqlstate(case.client.until_ready()) == "40001"
    assert wire.sqlstate(case.client.until_ready()) == "25P02"
    case.client.send(wire.parse("rollback") + AGAIN)
    assert wire.tags(case.client.until_ready()) == ["ROLLBACK"]
    case.client.send(AGAIN)
    assert wire.tags(case.client.until_ready()) == ["ROLLBACK"]
