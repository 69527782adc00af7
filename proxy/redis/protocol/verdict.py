"""What becomes of a command when its link dies: the table of reference/redis.md, section 3.

Pure and total: `verdict` answers for each kind and phase, and a test walks all of it.
"""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

ATTEMPTS_MAX: Final = 2  # times a read is sent again


class Kind(Enum):
    """What losing the reply of a command means."""

    READ = auto()  # repeatable: asking again gives an answer as good
    WRITE = auto()  # anything that may have changed something
    BLOCKING = auto()  # a wait that may have taken an element away
    BLOCKING_READ = auto()  # XREAD BLOCK from an explicit id: takes nothing away


class Phase(Enum):
    """How far the command had come when the link died."""

    WAITING = auto()  # M0: there was no link yet
    UNSENT = auto()  # M1: its last byte certainly never left this machine
    SENT = auto()  # M2: written, no byte of the reply seen
    CUT = auto()  # M3: the reply arrived in part, none of it was passed on
    STREAMED = auto()  # part of the reply was passed on to the client


class Action(Enum):
    """What to do with it."""

    SEND = auto()  # (again) on the next link
    SAY_LOST = auto()  # UPSTREAMLOST outcome unknown
    CLOSE = auto()  # the client has half a reply: only its connection's end can say so


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What else bears on the verdict.

    `attempts`: times already sent. `later_write`: this client had a write behind it on the lost
    link, which may have run; a read repeated now could see it, and so see its own future.
    """

    replay_reads: bool = True
    attempts: int = 1
    later_write: bool = False


_BY_PHASE: Final = {
    Phase.WAITING: Action.SEND,
    Phase.UNSENT: Action.SEND,
    Phase.STREAMED: Action.CLOSE,
}


def verdict(kind: Kind, phase: Phase, given: Circumstances) -> Action:
    """The action for one command. Bounded: a read is sent at most 1 + ATTEMPTS_MAX times."""
    decided = _BY_PHASE.get(phase)
    if decided is not None:
        return decided
    if kind in (Kind.WRITE, Kind.BLOCKING):
        return Action.SAY_LOST
    if not given.replay_reads or given.later_write or given.attempts > ATTEMPTS_MAX:
        return Action.SAY_LOST
    return Action.SEND


class Transient(Enum):
    """What to do about an error reply that speaks of the server's state, not of the command."""

    PASS = auto()
    RETRY = auto()  # not executed: try again a little later, within the hold time
    REDIAL = auto()  # the server is not the primary any more: look for it once


_RETRIED: Final = frozenset((b"LOADING", b"MASTERDOWN", b"TRYAGAIN", b"CLUSTERDOWN"))


def transient(code: bytes, kind: Kind) -> Transient:
    """The treatment of an error reply's code (its first word).

    LOADING, MASTERDOWN and CLUSTERDOWN say the command did not run, but only reads are sure to
    mean the same a moment later; LOADING is safe for writes as well (section 3).
    """
    if code == b"READONLY":
        return Transient.REDIAL if kind is Kind.WRITE else Transient.PASS
    if code == b"LOADING" or (code in _RETRIED and kind is Kind.READ):
        return Transient.RETRY
    return Transient.PASS
