"""What a scenario makes of the route's options: few links, short lives, small queues.

Owns: those figures. Must not know: what is checked (`audit`), what clients do.
"""

import random
from dataclasses import dataclass, replace

from proxy.net.dial import Address
from proxy.postgres.runtime.options import Host, RouteOptions
from tests.simulation.scenario import Scenario


@dataclass
class Shape:
    """How many clients, and of how many links. Drawn by a chance of its own."""

    scenario: Scenario
    rng: random.Random
    clients: int
    pool_size: int

    def __post_init__(self) -> None:
        if self.scenario.pressure:
            self.clients = self.rng.randrange(5, 9)
            self.pool_size = self.rng.choice((1, 1, 2, 3))

    @property
    def scarce(self) -> bool:
        """Clients may wait for each other's links."""
        return self.pool_size < self.clients + 2

    def options(self, options: RouteOptions) -> RouteOptions:
        """The route's, with what the scenario asks for."""
        rng = self.rng
        pool, resilience = options.pool, options.resilience
        if self.scenario.pressure:
            pool = replace(pool, connect_parallel=rng.choice((1, 4)))
            resilience = replace(resilience, hold_clients=rng.choice((2, 1000, 1000)))
        if self.scenario.ageing:
            pool = replace(
                pool,
                lifetime_s=rng.choice((0.5, 3.0, 3600.0)),
                idle_s=rng.choice((0.5, 2.0)),
                warm=rng.randrange(3),
            )
            options = replace(options, ping_s=rng.choice((2.0, 5.0)))
        if self.scenario.notify:
            resilience = replace(resilience, listen_loss=rng.choice(("close", "notice", "notice")))
        if self.scenario.hosts:
            (host,) = options.upstream.hosts
            hosts = (host, Host(Address("127.0.0.1", 5433)))
            upstream = replace(options.upstream, hosts=hosts, session_attrs="read-write")
            options = replace(options, upstream=upstream)
        return replace(options, pool=pool, resilience=resilience)
