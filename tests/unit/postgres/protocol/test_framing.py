"""Message boundaries: whole, chopped, with a rest, and lengths that no peer sends."""

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason
from proxy.postgres.protocol import messages as m
from proxy.postgres.protocol.framing import (
    EVERY_REPLY,
    FEW_REPLIES,
    MESSAGE_BYTES_MAX,
    Mark,
    scan,
    whole_bytes,
)

ANSWER = (
    m.row_description(["a"])
    + m.row([b"1"])
    + m.row([b"2"])
    + m.command_complete("SELECT 2")
    + m.ready_for_query(ord("I"))
)
ALL = bytes([1]) * 256


def cut(chunk: bytes, interest: bytes = ALL, pos: int = 0) -> tuple[str, int, int]:
    """The types marked, the offset behind the last whole message, and how many had no mark."""
    marks: list[Mark] = []
    end, unmarked = scan(chunk, pos, interest, marks)
    seen = pos
    for kind, start, stop in marks:
        assert seen <= start
        assert chunk[start] == kind
        assert int.from_bytes(chunk[start + 1 : start + 5]) + 1 == stop - start
        seen = stop
    assert seen <= end <= len(chunk)
    return "".join(chr(kind) for kind, _, _ in marks), end, unmarked


def test_a_whole_chunk() -> None:
    assert cut(ANSWER) == ("TDDCZ", len(ANSWER), 0)
    assert cut(b"") == ("", 0, 0)


def test_rows_and_copy_data_never_get_a_mark() -> None:
    chunk = ANSWER + m.copy_data(b"x") + m.notice_response({"M": "n"})
    assert cut(chunk, EVERY_REPLY) == ("TCZN", len(chunk), 3)
    assert cut(chunk, FEW_REPLIES) == ("ZN", len(chunk), 5)


@pytest.mark.parametrize("kind", b"ZENSAGHWVvKR")
def test_what_is_always_of_interest(kind: int) -> None:
    assert FEW_REPLIES[kind] == EVERY_REPLY[kind] == 1


@pytest.mark.parametrize("kind", b"12TtDdCIns3c")
def test_what_is_of_interest_to_those_who_learn(kind: int) -> None:
    assert FEW_REPLIES[kind] == 0
    assert EVERY_REPLY[kind] == (kind not in b"Dd")


@pytest.mark.parametrize("size", range(len(ANSWER)))
def test_cut_at_every_byte(size: int) -> None:
    kinds, end, _ = cut(ANSWER[:size])
    rest, stop, _ = cut(ANSWER, pos=end)
    assert kinds + rest == "TDDCZ"
    assert stop == len(ANSWER)
    assert whole_bytes(ANSWER[:size], end) in (0, whole_bytes(ANSWER, end))


def test_a_rest_that_is_no_message_is_left_alone() -> None:
    # Fewer bytes than a header say nothing yet, whatever they are.
    for rest in (b"\xff", b"Z\0\0\0"):
        assert cut(ANSWER + rest) == ("TDDCZ", len(ANSWER), 0)
        assert whole_bytes(rest) == 0


def test_from_the_middle_of_a_chunk() -> None:
    start = len(m.row_description(["a"]))
    assert cut(ANSWER, pos=start) == ("DDCZ", len(ANSWER), 0)
    assert whole_bytes(ANSWER, start) == len(m.row([b"1"]))


@pytest.mark.parametrize("length", [0, 3, MESSAGE_BYTES_MAX + 1, 0x8000_0000, 0xFFFF_FFFF])
@pytest.mark.parametrize("rest", [b"", b"12345678"])
def test_lengths_that_no_peer_sends(length: int, rest: bytes) -> None:
    bad = b"Z" + length.to_bytes(4) + rest
    marks: list[Mark] = []
    with pytest.raises(PeerProtocolError, match=f"invalid message length {length}") as raised:
        scan(ANSWER + bad, 0, ALL, marks)
    assert raised.value.reason is Reason.UPSTREAM_PROTOCOL
    assert [chr(kind) for kind, _, _ in marks] == list("TDDCZ")  # what stands before is good
    with pytest.raises(PeerProtocolError, match="invalid message length"):
        whole_bytes(bad)


def test_the_reason_is_the_side_that_broke_the_protocol() -> None:
    bad = b"Q\0\0\0\0"
    with pytest.raises(PeerProtocolError) as raised:
        scan(bad, 0, ALL, [], Reason.CLIENT_PROTOCOL)
    assert raised.value.reason is Reason.CLIENT_PROTOCOL
    with pytest.raises(PeerProtocolError) as raised:
        whole_bytes(bad, 0, Reason.CLIENT_PROTOCOL)
    assert raised.value.reason is Reason.CLIENT_PROTOCOL


@pytest.mark.parametrize("length", [4, MESSAGE_BYTES_MAX])
def test_the_longest_and_the_shortest(length: int) -> None:
    header = b"d" + length.to_bytes(4)
    assert whole_bytes(header) == length + 1
    assert cut(header) == (("d", 5, 0) if length == 4 else ("", 0, 0))
