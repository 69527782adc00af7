"""The flights on one tracking link, in the order of their replies, and who may still join them.

Owns numbering and order: the server answers T strictly in order, so a flight's number says which
instant of the server its reply shows relative to another's. Knows no rule about entries or writes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.redis.protocol.flights import Flight


class Traffic:
    """Flights between their first byte and their last reply."""

    def __init__(self) -> None:
        self.number = 0  # the last flight that left
        self.done_number = 0  # the last flight whose own reply was there (or is lost)
        self.head: Flight | None = None  # the flight whose reply comes next
        self._flights: deque[Flight] = deque()
        self._joinable: dict[bytes, Flight] = {}
        self.by_key: dict[bytes, list[Flight]] = {}  # while the read's reply is owed; read-only

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights)

    def left(self, flight: Flight) -> None:
        """The flight's bytes are handed out; its number is `number + 1`."""
        assert flight.number == self.number + 1
        self.number = flight.number
        if self.head is None:
            self.head = flight
        self._flights.append(flight)
        if flight.joinable_as is not None:
            self._joinable[flight.joinable_as] = flight
        by_key = self.by_key
        for key in flight.keys:
            if key in by_key:
                by_key[key].append(flight)
            else:
                by_key[key] = [flight]

    def join(self, read: bytes, after: int) -> Flight | None:
        """A flight that brings this read and is not older than flight `after`."""
        flight = self._joinable.get(read)
        return flight if flight is not None and flight.number >= after else None

    def newest(self, after: int) -> Flight | None:
        """The flight whose reply will show the newest instant, if not older than `after`."""
        if not self._flights:
            return None
        flight = self._flights[-1]
        return flight if not flight.answered and flight.number >= after else None

    def unjoin(self, flight: Flight) -> None:
        """Nobody joins it any more."""
        read = flight.joinable_as
        if read is not None and self._joinable.get(read) is flight:
            del self._joinable[read]

    def unjoin_all(self) -> None:
        """Nobody joins any flight of now."""
        self._joinable.clear()

    def answered(self, flight: Flight) -> None:
        """The flight's own reply is there."""
        assert flight is self._flights[0]
        assert not flight.answered
        flight.answered = True
        self.done_number = flight.number
        self.unjoin(flight)
        by_key = self.by_key
        for key in flight.keys:
            waiting = by_key[key]
            if len(waiting) == 1:
                del by_key[key]
            else:
                waiting.remove(flight)

    def landed(self, flight: Flight) -> None:
        """Its last reply is there."""
        assert flight.done
        assert flight.answered
        gone = self._flights.popleft()
        assert gone is flight
        self.head = self._flights[0] if self._flights else None

    def lost(self) -> tuple[Flight, ...]:
        """The link is gone, and these flights with it."""
        flights = tuple(self._flights)
        self._flights.clear()
        self.head = None
        self._joinable.clear()
        self.by_key.clear()
        self.done_number = self.number
        return flights
