"""A caching route in the test's own loop: clients → route → cutter → Redis, nothing in between."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest_asyncio

from proxy.demo.cutter import Cutter, Target
from proxy.net.dial import Address
from proxy.net.listen import Listener, ListenOptions, listen
from proxy.redis.protocol.actions import CacheOptions
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.insight import Report
from proxy.redis.runtime.options import Limits, RouteOptions
from proxy.redis.runtime.route import RedisRoute

LIMITS = replace(Limits(), dials_per_s=1000.0, dials_burst=100)


@dataclass
class Cached:
    """A running route with a cutter behind it."""

    route: RedisRoute
    listener: Listener
    cutter: Cutter
    reports: list[dict[str, Any]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.listener.port

    @property
    def report(self) -> Report:
        assert self.route.caches is not None
        return self.route.caches.report()


MakeCached = Callable[..., Awaitable[Cached]]


@pytest_asyncio.fixture
async def make_cached() -> AsyncIterator[MakeCached]:
    """`await make_cached(redis_port, mutant=…, lease_s=…)`: listening; the rest is CacheOptions."""
    made: list[Cached] = []

    async def make(port: int, mutant: type[Cache] | None = None, **options: Any) -> Cached:
        cutter = Cutter(Target(address=("127.0.0.1", port)))
        await cutter.accept()
        reports: list[dict[str, Any]] = []

        def record(event: str, /, *, level: str = "info", **fields: object) -> None:
            reports.append({"event": event, "level": level, **fields})

        address = Address("127.0.0.1", cutter.port)
        cache = CacheOptions(**options)
        settings = RouteOptions(name="t", address=address, cache=cache, limits=LIMITS)
        route = RedisRoute(settings, record)
        if mutant is not None:
            assert route.caches is not None
            route.caches.make_cache = mutant
        await route.start()
        listener = await listen("127.0.0.1:0", route.client_protocol(), ListenOptions())
        made.append(Cached(route, listener, cutter, reports))
        return made[-1]

    yield make
    for cached in made:
        cached.listener.close()
        await cached.route.stop(0.0)
        await cached.cutter.close()
        assert [one for one in cached.reports if one["event"] == "task_crashed"] == []
