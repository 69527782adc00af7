"""The life of a TLS pump as a table: its phases and the legal steps. Data only."""

from enum import Enum, auto


class Phase(Enum):
    """Where a pump is in its life."""

    NEW = auto()  # no plain transport yet
    HANDSHAKE = auto()
    OPEN = auto()
    ENDING = auto()  # we said goodbye and wait for the peer to do so
    CLOSING = auto()  # we closed, or TLS failed: the plain transport is on its way out
    CLOSED = auto()


LEGAL: dict[Phase, frozenset[Phase]] = {
    Phase.NEW: frozenset({Phase.HANDSHAKE}),
    Phase.HANDSHAKE: frozenset({Phase.OPEN, Phase.CLOSING, Phase.CLOSED}),
    Phase.OPEN: frozenset({Phase.ENDING, Phase.CLOSING, Phase.CLOSED}),
    Phase.ENDING: frozenset({Phase.CLOSING, Phase.CLOSED}),
    Phase.CLOSING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}
