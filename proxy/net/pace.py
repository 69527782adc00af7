"""The pace of a drain: how many idle clients may be sent away in a moment.

At least CLIENTS_PER_S, and so many that half of the drain's time is enough for all. Must not know:
who the clients are.
"""

import asyncio

CLIENTS_PER_S = 100.0
TICK_S = 0.05
DRAIN_PART = 0.5


class Pace:
    """For one drain of `clients` clients in `drain_s` seconds."""

    def __init__(self, clients: int, drain_s: float) -> None:
        needed = clients / (drain_s * DRAIN_PART) if drain_s > 0 else float(clients)
        self.per_s = max(CLIENTS_PER_S, needed)
        self._credit = 0.0
        self._last_s: float | None = None

    def due(self, now_s: float) -> int:
        """How many may go now. The first goes at once."""
        passed_s = TICK_S if self._last_s is None else now_s - self._last_s
        self._last_s = now_s
        self._credit = min(self._credit + passed_s * self.per_s, max(self.per_s, 1.0))
        count = int(self._credit)
        self._credit -= count
        return count

    async def tick(self) -> None:
        """Until the next look."""
        await asyncio.sleep(TICK_S)
