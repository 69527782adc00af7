"""How long an outage was, as it is measured: from the lost link, not from the first failed dial."""

import asyncio

import pytest

from proxy.core.errors import UpstreamUnavailable
from proxy.core.reasons import Reason
from proxy.demo.servers import RedisServer
from tests.integration.redis.conftest import MakeRoute

pytestmark = pytest.mark.servers

DIAL_S = 0.3


async def test_an_outage_begins_with_the_loss(make_route: MakeRoute, redis: RedisServer) -> None:
    routed = await make_route(redis.port)
    wire = await routed.wire()
    assert await wire.ask("PING") == b"+PONG\r\n"
    route = routed.route
    link = next(iter(route.links))
    route.link_lost("data", link, 0, clients=1)
    await asyncio.sleep(DIAL_S)  # what a dial into silence takes
    error = UpstreamUnavailable("no answer", Reason.UPSTREAM_UNREACHABLE)
    route.dial_failed("data", error)
    assert route.away_since_s is not None
    assert route.away_since_s <= route.loop.time() - DIAL_S + 0.01
    route.dial_succeeded("data", link)
    assert route.latency.outage.sum_s >= DIAL_S - 0.01
    again_s = route.loop.time()
    route.dial_failed("data", error)
    assert route.away_since_s >= again_s, "that loss was made good"
