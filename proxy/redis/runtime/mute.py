"""Replies the client asked not to get: CLIENT REPLY OFF and SKIP."""

from typing import TYPE_CHECKING

from proxy.core.reasons import Reason
from proxy.redis.runtime.batch import Batch

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection


class Mute:
    """Takes a client's replies in its place, and drops them."""

    def __init__(self, client: "ClientConnection") -> None:
        self._client = client

    @property
    def closed(self) -> bool:
        return self._client.closed

    @property
    def whose(self) -> int:
        return self._client.whose

    @property
    def waits_behind_others(self) -> bool:
        return self._client.waits_behind_others

    def deliver(self, data: bytes) -> None:
        """Dropped, and counted: nobody else will ever hear of it, not even of an error."""
        self._client.route.counters.muted += 1

    def finished(self, batch: Batch) -> None:
        self._client.finished(batch)

    def complete(self, batch: Batch, data: bytes) -> None:
        self.deliver(data)
        self._client.finished(batch)

    def flush(self) -> None:
        self._client.flush()

    def close_for(self, reason: Reason) -> None:
        """Half of a reply that nobody reads harms nobody: the connection stays."""

    def replaced(self, batch: Batch, batches: list[Batch]) -> None:
        self._client.replaced(batch, batches)

    def stall(self, batch: Batch) -> bool:
        return self._client.stall(batch)
