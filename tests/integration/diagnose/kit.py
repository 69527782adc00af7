"""Paths and servers with a fault, for the diagnosis."""

import asyncio
from collections.abc import Callable
from typing import Any

from proxy.demo.cutter import Cut
from proxy.demo.hop import Hop
from proxy.diagnose.finding import Finding
from proxy.diagnose.run import Diagnosis, diagnose
from proxy.diagnose.targets import PostgresTarget, RedisTarget, Target, from_urls
from proxy.settings.urls import parse_postgres_url, parse_redis_url

LOOK_S = 0.05


def kills_idle(limit_s: float, cut: Cut) -> Callable[[Hop], None]:
    """For a cutter's `on_hop`: cut each connection that was silent for so long."""

    def on_hop(hop: Hop) -> None:
        loop = asyncio.get_running_loop()
        seen_bytes, since_s = -1, loop.time()

        def look() -> None:
            nonlocal seen_bytes, since_s
            if not hop.alive:
                return
            now_bytes = hop.to_client.received_bytes + hop.to_server.received_bytes
            if now_bytes != seen_bytes:
                seen_bytes, since_s = now_bytes, loop.time()
            elif loop.time() - since_s >= limit_s:
                hop.cut(cut)
                return
            loop.call_later(LOOK_S, look)

        look()

    return on_hop


def postgres_at(url: str, **options: Any) -> PostgresTarget:
    """A target without a route."""
    options = {"name": "pg", "source": "the test", "timeout_s": 5.0, **options}
    return PostgresTarget(upstream=parse_postgres_url(url), **options)


def redis_at(url: str, **options: Any) -> RedisTarget:
    """A target without a route."""
    options = {"name": "redis", "source": "the test", "timeout_s": 5.0, **options}
    return RedisTarget(upstream=parse_redis_url(url), **options)


def diagnosed(*targets: Target | str, idle_s: float = 0.0) -> list[Diagnosis]:
    """Diagnoses of targets or URLs."""
    real: list[Target] = []
    for target in targets:
        real += from_urls({"the test": target}) if isinstance(target, str) else [target]
    return diagnose(real, idle_s)


def finding(found: Diagnosis, check: str) -> Finding:
    """The one finding of that check."""
    (one,) = [finding for finding in found.findings if finding.check == check]
    return one


def checks(found: Diagnosis) -> set[str]:
    """Names of all that was found."""
    return {finding.check for finding in found.findings}
