"""The flights on one tracking link, in the order of their replies, and who may still join them.

Owns numbering and order: the server answers T strictly in order, so a flight's number says which
instant of the server its reply shows relative to another's. Knows no rule about entries or writes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.redis.protocol.flights import Flight


class Traffic:
    """Flights between their first byte and their last reply."""

    def __init__(self) -> None:
        self.number = 0  # the last flight that left
        self.done_number = 0  # the last flight whose own reply was there (or is lost)
        self._flights: deque[Flight] = deque()
        self._joinable: dict[bytes, Flight] = {}
        self._unread: dict[bytes, list[Flight]] = {}  # by key, while the read's reply is owed

    def __len__(self) -> int:
        return len(self._flights)

    def __iter__(self) -> Iterator[Flight]:
        return iter(self._flights)

    @property
    def head(self) -> Flight | None:
        """The flight whose reply comes next."""
        return self._flights[0] if self._flights else None

    def left(self, flight: Flight) -> None:
        """The flight's bytes are handed out; its number is `number + 1`."""
        assert flight.number == self.number + 1
        self.number = flight.number
        self._flights.append(flight)
        if flight.joinable_as is not None:
            self._joinable[flight.joinable_as] = flight
        for key in flight.keys:
            self._unread.setdefault(key, []).append(flight)

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

    def unread(self, key: bytes) -> Iterable[Flight]:
        """Flights that read this key and have not brought it yet."""
        return tuple(self._unread.get(key, ()))

    def answered(self, flight: Flight) -> None:
        """The flight's own reply is there."""
        assert flight is self._flights[0]
        assert not flight.answered
        flight.answered = True
        self.done_number = flight.number
        self.unjoin(flight)
        for key in flight.keys:
            waiting = self._unread[key]
            waiting.remove(flight)
            if not waiting:
                del self._unread[key]

    def landed(self, flight: Flight) -> None:
        """Its last reply is there."""
        assert flight.done
        assert flight.answered
        gone = self._flights.popleft()
        assert gone is flight

    def lost(self) -> tuple[Flight, ...]:
        """The link is gone, and these flights with it."""
        flights = tuple(self._flights)
        self._flights.clear()
        self._joinable.clear()
        self._unread.clear()
        self.done_number = self.number
        return flights
