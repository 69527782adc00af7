"""When an outage began: with the loss of a link, or with the dial that came to nothing."""

import asyncio
import random

import pytest

from proxy.core.errors import UpstreamUnavailable
from proxy.net.contexts import ClientTls, SslMode
from proxy.net.dial import Address
from proxy.postgres.protocol.client_login import Credentials
from proxy.postgres.runtime.options import Host, PoolOptions, UpstreamOptions
from proxy.postgres.runtime.upstream import LOSS_S, Upstream, Wanted

TIMEOUT_S = 0.3
WANTED = Wanted(b"app", b"app", Credentials(b"x", None, b"k"), ())


def ignore(event: str, /, *, level: str = "info", **fields: object) -> None:
    """Nobody listens."""


def silent(port: int) -> Upstream:
    """One that is to be reached there."""
    options = UpstreamOptions(
        hosts=(Host(Address("127.0.0.1", port)),),
        tls=ClientTls(mode=SslMode.DISABLE),
        connect_timeout_s=TIMEOUT_S,
    )
    return Upstream(options, PoolOptions(), ignore, random.Random(1), "main")


async def failed(lost_before_s: float | None) -> tuple[float, float]:
    """(seconds the one dial took, those the outage had lasted when it failed), at a silent port."""
    held: list[asyncio.StreamWriter] = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        upstream = silent(server.sockets[0].getsockname()[1])
        loop = asyncio.get_running_loop()
        if lost_before_s is not None:
            upstream.lost()
            await asyncio.sleep(lost_before_s)
        began_s = loop.time()
        with pytest.raises(UpstreamUnavailable):
            await upstream.open(WANTED)
        now_s = loop.time()
    finally:
        for writer in held:
            writer.close()
        server.close()
    assert upstream.down_since_s is not None
    return now_s - began_s, now_s - upstream.down_since_s


async def test_an_outage_begins_with_the_dial_that_fails() -> None:
    took_s, away_s = await failed(None)
    assert TIMEOUT_S - 0.01 <= away_s <= took_s + 0.01


async def test_an_outage_begins_with_the_loss_that_made_the_dial_necessary() -> None:
    took_s, away_s = await failed(0.2)
    assert away_s >= took_s + 0.19


async def test_a_loss_long_ago_was_no_outage() -> None:
    """One link of many, cut by the path: the others went on."""
    took_s, away_s = await failed(LOSS_S + 0.1)
    assert away_s < took_s + LOSS_S
