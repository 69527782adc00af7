"""The talk of parent and worker: questions both ways, whole frames, bounds, the end."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from proxy.core.errors import ConfigError, LimitExceeded
from proxy.core.events import silent
from proxy.core.histogram import Histogram
from proxy.core.operator import Detail, Outcome, SessionRow
from proxy.core.report import Incident, PostgresReport, Report, WorkerReport
from proxy.service import channel as channel_module
from proxy.service.channel import Body, Channel, ChannelClosed
from proxy.service.packed import pack, unpack

Pair = tuple[Channel, Channel, asyncio.Event]


@pytest_asyncio.fixture
async def pair() -> AsyncIterator[Pair]:
    ended = asyncio.Event()

    async def answer(kind: str, body: Body) -> Body:
        if kind == "never":
            await asyncio.Event().wait()
        if kind == "bad":
            raise ConfigError(["f.yaml:1:1: x: no"])
        return {"kind": kind, **body}

    ends = socket.socketpair()
    loop = asyncio.get_running_loop()
    one, two = [
        (await loop.create_connection(lambda: Channel(answer, silent, ended.set), sock=end))[1]
        for end in ends
    ]
    yield one, two, ended
    await one.stop()
    await two.stop()


async def test_both_ask(pair: Pair) -> None:
    one, two, _ = pair
    answers = await asyncio.gather(
        *(one.ask("a", {"n": n, "text": "ü" * 70_000}) for n in range(5)), two.ask("b")
    )
    assert [answer.get("n") for answer in answers] == [0, 1, 2, 3, 4, None]
    with pytest.raises(ConfigError) as caught:
        await one.ask("bad")
    assert caught.value.problems == ["f.yaml:1:1: x: no"]


async def test_the_end_of_one_is_told_to_the_other(pair: Pair) -> None:
    one, two, ended = pair
    asking = asyncio.ensure_future(one.ask("never"))
    await one.ask("a")
    two.close()
    with pytest.raises(ChannelClosed):
        await asking
    await ended.wait()
    with pytest.raises(ChannelClosed):
        await one.ask("a")


async def test_bounds(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _, ended = pair
    monkeypatch.setattr(channel_module, "ASKS_MAX", 1)
    asking = asyncio.ensure_future(one.ask("never"))
    await asyncio.sleep(0)
    with pytest.raises(LimitExceeded):
        await one.ask("a")
    monkeypatch.setattr(channel_module, "FRAME_BYTES_MAX", 100)
    asking.cancel()
    await asyncio.wait({asking})
    with pytest.raises(LimitExceeded):
        await one.ask("a", {"text": "x" * 200})
    assert one._transport is not None
    one._transport.write(b"\xff\xff\xff\xff")  # a frame larger than any
    await ended.wait()


def test_reports_survive() -> None:
    lag = Histogram()
    lag.observe(0.2)
    incident = Incident("1", "main", "postgres", "upstream_eof", "h:1", "bye", 1.5, None)
    route = PostgresReport(name="main", counts={"a": 1}, listen=["h:1"])
    report = Report(workers=[WorkerReport(2, 7, loop_lag=lag)], postgres=[route])
    report.incidents = [incident]
    copy = unpack(Report, pack(report))
    assert pack(copy) == pack(report)
    assert copy.workers[0].loop_lag.counts == lag.counts
    assert copy.incidents == [incident]
    assert copy.postgres[0].latency.wait.count == 0
    outcome = Outcome(False, "no", ("x",))
    assert unpack(Outcome, pack(outcome)) == Outcome(False, "no", ["x"])
    row = SessionRow(1, "postgres", "m", "u", "d", "idle", "h", 1, "app", 1.0, 0.0, 0, "", 0, 3)
    assert unpack(Detail, pack(Detail([row]))).sessions == [row]
