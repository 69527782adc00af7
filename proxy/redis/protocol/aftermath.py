"""A lost link's unanswered commands, taken apart by verdict: what is sent again, what is said.

Pure. The runtime keeps whole batches only; here they are scanned a second time, which costs
nothing until a link dies. Rules: reference/redis.md, section 3, and `verdict`.
"""

from dataclasses import dataclass
from typing import Final

from proxy.redis.protocol import say
from proxy.redis.protocol.commands import CommandTable
from proxy.redis.protocol.framing import CommandScanner
from proxy.redis.protocol.values import first_arg
from proxy.redis.protocol.verdict import Action, Circumstances, Kind, Phase, verdict

_NO_SECOND: Final = b""


@dataclass(frozen=True, slots=True)
class Piece:
    """Part of a batch: `count` commands to send (`canned` None), or the reply to say for them."""

    data: bytes
    count: int
    canned: bytes | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """One batch of a lost link. `answered` commands of it were; its last `unsent_bytes` never left.

    `cut`: the first unanswered command's reply had begun to arrive.
    """

    data: bytes
    answered: int
    unsent_bytes: int
    cut: bool
    attempts: int
    replay_reads: bool


def settle(
    lost: Lost, table: CommandTable, why: str, later_write: bool
) -> tuple[list[Piece], bool]:
    """The pieces that take the batch's place, in order, and whether a write of it may have run.

    `later_write`: a command of the same client behind this batch may have written (see
    `Circumstances`); call for a client's batches from the last to the first.
    """
    commands = _commands(lost.data)[lost.answered :]
    sent_end = len(lost.data) - lost.unsent_bytes
    pieces: list[Piece] = []
    for position in range(len(commands) - 1, -1, -1):
        start, end, kind = _look(lost.data, commands[position], table)
        phase = Phase.UNSENT if end > sent_end else Phase.SENT
        if phase is Phase.SENT and position == 0 and lost.cut:
            phase = Phase.CUT
        given = Circumstances(lost.replay_reads, lost.attempts, later_write)
        if verdict(kind, phase, given) is Action.SEND:
            pieces.append(Piece(lost.data[start:end], 1))
        else:
            pieces.append(Piece(b"", 1, say.upstream_lost(_why(why, kind, given))))
        if kind is not Kind.READ and phase is not Phase.UNSENT:
            later_write = True
    pieces.reverse()
    return _merge(pieces), later_write


def _why(why: str, kind: Kind, given: Circumstances) -> str:
    if kind is not Kind.READ:
        return f"{why} before the reply; it may have been executed, and was not sent again"
    if given.later_write:
        return f"{why} before the reply; not read again, as a later write may count"
    return f"{why} before the reply; it only reads, and may be repeated"


def _commands(data: bytes) -> list[tuple[int, int, int, int]]:
    marks = CommandScanner().feed(data)
    return [(marks[i], marks[i + 1], marks[i + 2], marks[i + 3]) for i in range(0, len(marks), 4)]


def _look(
    data: bytes, mark: tuple[int, int, int, int], table: CommandTable
) -> tuple[int, int, Kind]:
    start, name_start, name_end, end = mark
    second = first_arg(data, name_end) if end > name_end + 2 else _NO_SECOND
    reads = table.repeatable(data[name_start:name_end], second)
    return start, end, Kind.READ if reads else Kind.WRITE


def _merge(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one sort as one piece."""
    merged: list[Piece] = []
    for piece in pieces:
        if merged and (merged[-1].canned is None) == (piece.canned is None):
            last = merged.pop()
            canned = None if last.canned is None else last.canned + (piece.canned or b"")
            piece = Piece(last.data + piece.data, last.count + piece.count, canned)
        merged.append(piece)
    return merged
