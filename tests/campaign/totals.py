"""What the proxy says of itself, added up over its routes and, as it is killed, over its lives."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from proxy.core.histogram import BOUNDS_S

WAITED_S = 0.001  # a session that had to wait for its link, and was not just handed one


@dataclass
class Totals:
    """Sums of /api/v1/status; add one at the end of each life."""

    postgres: Counter[str] = field(default_factory=Counter)
    redis: Counter[str] = field(default_factory=Counter)
    cache_hits: int = 0
    waited: int = 0
    outages: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=lambda: {"outage": 0.0, "wait": 0.0})

    def add(self, status: dict[str, Any]) -> None:
        """One life is over, or the campaign is."""
        for route in status["postgres"]:
            self.postgres.update(route["counts"])
            self._latency("postgres", route["latency"])
            waits = route["latency"]["wait"]["counts"]
            bounds = (*BOUNDS_S, float("inf"))
            self.waited += sum(n for n, most in zip(waits, bounds, strict=True) if most > WAITED_S)
        for route in status["redis"]:
            self.redis.update(route["counts"])
            self.cache_hits += route["cache"]["hits"]
            self._latency("redis", route["latency"])

    def _latency(self, side: str, latency: dict[str, Any]) -> None:
        self.outages[side] += latency["outage"]["count"]
        for name in self.longest:
            self.longest[name] = max(self.longest[name], latency[name]["max_s"])
