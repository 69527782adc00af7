"""Prepared statements across a loss: each exists exactly once, wherever the link died."""

import asyncio
from typing import Any

import pytest

from proxy.core.reasons import Reason
from proxy.demo.cutter import Cut, Direction
from proxy.postgres.runtime import reenter

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
