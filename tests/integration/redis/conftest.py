"""A Redis route in the test's own loop, over a real server or a cutter in front of one."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest_asyncio

from proxy.net.dial import Address
from proxy.net.listen import Listener, ListenOptions, listen
from proxy.redis.runtime.counters import Counters
from proxy.redis.runtime.options import Limits, RouteOptions
from proxy.redis.runtime.route import RedisRoute
from tests.integration.redis.wire import AsyncWire


@dataclass
class Routed:
    """A running route with its listener and what it has reported."""

    route: RedisRoute
    listener: Listener
    reports: list[dict[str, Any]] = field(default_factory=list)
    wires: list[AsyncWire] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.listener.port

    @property
    def counters(self) -> Counters:
        return self.route.counters

    def named(self, event: str) -> list[dict[str, Any]]:
        return [report for report in self.reports if report["event"] == event]

    async def wire(self, resp: int = 2, tls: ssl.SSLContext | None = None) -> AsyncWire:
        """A raw client of the route; RESP3 after a HELLO 3."""
        wire = await AsyncWire.connect("127.0.0.1", self.port, tls)
        self.wires.append(wire)
        if resp == 3:
            assert (await wire.ask("HELLO", 3)).startswith(b"%")
        return wire


MakeRoute = Callable[..., Awaitable[Routed]]


@pytest_asyncio.fixture
async def make_route(tmp_path: Path) -> AsyncIterator[MakeRoute]:
    """`await make_route(port, hold_s=…, limits={…})`: a route to 127.0.0.1:port, listening."""
    made: list[Routed] = []

    async def make(port: int, spec: str = "127.0.0.1:0", **options: Any) -> Routed:
        reports: list[dict[str, Any]] = []

        def record(event: str, /, *, level: str = "info", **fields: object) -> None:
            reports.append({"event": event, "level": level, **fields})

        limits = replace(Limits(), **options.pop("limits", {}))
        if "address" not in options:
            options["address"] = Address("127.0.0.1", port)
        route = RedisRoute(RouteOptions(name="test", limits=limits, **options), record)
        await route.start()
        listener = await listen(spec, route.client_protocol(), ListenOptions())
        made.append(Routed(route, listener, reports))
        return made[-1]

    yield make
    for routed in made:
        for wire in routed.wires:
            await wire.close()
        routed.listener.close()
        await routed.route.stop(0.0)
        crashed = routed.named("task_crashed")
        assert crashed == []
    await asyncio.sleep(0)
