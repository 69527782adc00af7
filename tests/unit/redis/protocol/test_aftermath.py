"""Lost batches taken apart: what is sent again, what is said."""

from dataclasses import replace

from proxy.redis.protocol.aftermath import Lost, Piece, settle
from proxy.redis.protocol.command_table import fallback_table
from proxy.redis.protocol.values import encode_command

TABLE = fallback_table()
GET = encode_command(b"GET", b"k")
SET = encode_command(b"SET", b"k", b"v")
PING = encode_command(b"PING")
BASE = Lost(b"", 0, 0, False, 1, True)


def settled(data: bytes, later_write: bool = False, **changes: object) -> tuple[list[Piece], bool]:
    lost = replace(BASE, data=data, **changes)  # type: ignore[arg-type]
    return settle(lost, TABLE, "the link broke", later_write)


def shape(pieces: list[Piece]) -> list[tuple[bytes, int, bool]]:
    return [(piece.data, piece.count, piece.canned is None) for piece in pieces]


def test_reads_are_sent_again_as_one() -> None:
    assert settled(GET + PING + GET) == ([Piece(GET + PING + GET, 3)], False)


def test_writes_are_told_and_split_the_batch() -> None:
    pieces, wrote = settled(SET + SET + GET)
    assert shape(pieces) == [(b"", 2, False), (GET, 1, True)]
    assert pieces[0].canned is not None
    assert pieces[0].canned.count(b"-UPSTREAMLOST outcome unknown: the link broke") == 2
    assert wrote


def test_reads_before_a_doubtful_write_are_told() -> None:
    assert shape(settled(GET + SET + GET)[0]) == [(b"", 2, False), (GET, 1, True)]
    pieces, wrote = settled(GET, later_write=True)
    assert b"later write" in (pieces[0].canned or b"")
    assert wrote


def test_answered_commands_are_over() -> None:
    assert shape(settled(SET + GET + SET, answered=2)[0]) == [(b"", 1, False)]


def test_what_never_left_is_sent() -> None:
    pieces, wrote = settled(GET + SET, unsent_bytes=1)
    assert pieces == [Piece(GET + SET, 2)]
    assert not wrote
    assert shape(settled(SET + SET, unsent_bytes=1)[0]) == [(b"", 1, False), (SET, 1, True)]


def test_without_replay_or_after_too_many_attempts() -> None:
    for changes in ({"replay_reads": False}, {"attempts": 3}, {"replay_reads": False, "cut": True}):
        pieces, wrote = settled(GET, **changes)
        assert b"only reads" in (pieces[0].canned or b"")
        assert not wrote
    assert settled(GET, cut=True)[0] == [Piece(GET, 1)]
