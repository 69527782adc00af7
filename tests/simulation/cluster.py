"""Two hosts with one set of data: which of them takes writes, and how that changes.

Replication is synchronous and perfect: what one has committed, the other has. Unlike PostgreSQL's
it takes notifications along, as a session that LISTENs stays at a host that has turned. A host
loses its role by turning read-only, as an operator's ALTER SYSTEM does it, or by dying.

Owns: roles. Must not know: the proxy, clients.
"""

import asyncio
import random

from tests.simulation.network import Network
from tests.simulation.server import PORT, Server, ServerConnection

GAPS_S = (0.0, 0.02, 0.5)  # without a host that takes writes


class Cluster:
    """The servers of a run: one, or two."""

    def __init__(self, network: Network, rng: random.Random, hosts: int) -> None:
        self.servers = [Server(network, rng)]
        self.primary = self.servers[0]
        self.turns = 0  # of hosts that were reached all the while
        for number in range(1, hosts):
            other = Server(network, rng, PORT + number)
            other.ledger, other.notes = self.primary.ledger, self.primary.notes
            other.standby = True
            self.servers.append(other)
        for server in self.servers:
            server.together = self.servers

    def backend(self, pid: int) -> ServerConnection | None:
        """The backend with this number, wherever it is."""
        return next((one.backends[pid] for one in self.servers if pid in one.backends), None)

    async def fail_over(self, kind: str, rng: random.Random) -> None:
        """`turn`, `fast` or `crash`: the other host takes over."""
        old = self.primary
        new = next(one for one in self.servers if one is not old)
        if kind == "turn":
            self.turns += 1
            old.turned = True
        elif kind == "fast":
            old.stop_fast()
        else:
            old.kill()
        old.standby = kind != "turn"  # whoever starts it again
        await asyncio.sleep(rng.choice(GAPS_S))
        new.standby = new.turned = False
        self.primary = new
        if kind != "turn":
            await asyncio.sleep(rng.choice((0.01, 1.0)))
            old.start(starting=False)
