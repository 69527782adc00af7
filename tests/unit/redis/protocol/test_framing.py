"""Where commands and replies end: every cut, every fault, Redis's own words."""

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol.framing import (
    BULK_BYTES_MAX,
    DEPTH_MAX,
    EMPTY,
    INLINE,
    INLINE_BYTES_MAX,
    LINE_BYTES_MAX,
    CommandScanner,
    ReplyScanner,
    read_number,
)

COMMANDS = [
    b"*1\r\n$4\r\nPING\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\n\r\n*1\r\n$1\r\n\0\xff\r\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"PING\r\n",
    b"\r\n",
    b"   \n",
    b"*2\r\n$3\r\nGET\r\n$0\r\n\r\n",
]
NAMES = [b"PING", b"SET", EMPTY, EMPTY, INLINE, EMPTY, EMPTY, b"GET"]

REPLIES = [
    b"+OK\r\n", b"-ERR x\r\n", b":42\r\n", b"$5\r\nab\r\nc\r\n", b"$0\r\n\r\n", b"$-1\r\n",
    b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n", b"*0\r\n", b"*-1\r\n", b"_\r\n", b",3.14\r\n", b"#t\r\n",
    b"(123456789012345678901234567890\r\n", b"=7\r\ntxt:abc\r\n", b"!5\r\nERR x\r\n",
    b"%2\r\n+a\r\n:1\r\n+b\r\n*2\r\n:2\r\n:3\r\n", b"~2\r\n:1\r\n:2\r\n", b"%0\r\n", b"~0\r\n",
    b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n", b"|1\r\n+ttl\r\n:3\r\n$1\r\nx\r\n",
    b"*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", b"|0\r\n:5\r\n", b"$?\r\n;3\r\nabc\r\n;0\r\n",
    b"*?\r\n:1\r\n$?\r\n;1\r\na\r\n;0\r\n.\r\n", b"*1\r\n%?\r\n+k\r\n+v\r\n.\r\n",
]  # fmt: skip


def scanned(chunks: list[bytes]) -> list[tuple[bytes, object]]:
    """Every command of a stream, fed chunk by chunk as the runtime does."""
    scanner, buf, found = CommandScanner(), b"", []
    for chunk in chunks:
        buf += chunk
        if len(buf) < scanner.need:
            continue
        marks = scanner.feed(buf)
        for i in range(0, len(marks), 4):
            start, name, name_end, end = marks[i : i + 4]
            found.append((buf[start:end], buf[name:name_end] if name >= 0 else name))
        buf = buf[scanner.start :]
        scanner.rebase(scanner.start)
    assert buf == b""
    return found


def test_commands_cut_anywhere() -> None:
    stream = b"".join(COMMANDS)
    expected = list(zip(COMMANDS, NAMES, strict=True))
    assert scanned([stream]) == expected
    assert scanned([stream[i : i + 1] for i in range(len(stream))]) == expected
    for cut in range(1, len(stream)):
        assert scanned([stream[:cut], stream[cut:]]) == expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"*3\r\n$3\r\nSET\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n\r\n", "expected '$', got ' '"),
        (b"*1\r\n\xff\r\n", "expected '$', got '\xff'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$+4\r\nPING\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
        (b"*1\r\n$%d\r\n" % (BULK_BYTES_MAX + 1), "invalid bulk length"),
        (b"*abc\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"A" * (INLINE_BYTES_MAX + 1), "too big inline request"),
        (b"*" + b"1" * (INLINE_BYTES_MAX + 1), "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * (INLINE_BYTES_MAX + 1), "too big bulk count string"),
    ],
)
def test_faults_in_redis_own_words(data: bytes, text: str) -> None:
    scanner = CommandScanner()
    with pytest.raises(PeerProtocolError) as raised:
        scanner.feed(data)
    assert str(raised.value) == f"Protocol error: {text}"


def test_commands_before_a_fault_are_reported_first() -> None:
    scanner, data = CommandScanner(), b"*1\r\n$4\r\nPING\r\n*x\r\n"
    assert scanner.feed(data) == [0, 8, 12, 14]
    scanner.rebase(14)
    assert len(data[14:]) >= scanner.need
    with pytest.raises(PeerProtocolError):
        scanner.feed(data[14:])


def test_strangers_may_say_little() -> None:
    for data in (b"*11\r\n", b"*1\r\n$16385\r\n"):
        CommandScanner().feed(data)
        scanner = CommandScanner()
        scanner.authenticated = False
        with pytest.raises(PeerProtocolError, match="unauthenticated"):
            scanner.feed(data)


def test_a_large_argument_is_awaited_whole() -> None:
    scanner = CommandScanner()
    head = b"*2\r\n$3\r\nGET\r\n$1000000\r\n"
    assert scanner.feed(head) == []
    assert scanner.need == len(head) + 1000002


@pytest.mark.parametrize(
    ("text", "value"),
    [(b"0", 0), (b"7", 7), (b"-7", -7), (b"1234567890123456789", 1234567890123456789)],
)
def test_numbers(text: bytes, value: int) -> None:
    assert read_number(text, 0, len(text)) == value


@pytest.mark.parametrize("text", [b"", b"-", b"+1", b"01", b"-0", b" 1", b"1 ", b"1a", b"9" * 20])
def test_numbers_that_redis_does_not_take(text: bytes) -> None:
    assert read_number(text, 0, len(text)) == -(1 << 62)


def frames(chunks: list[bytes]) -> list[bytes]:
    """Every frame of a stream, put together as the links do."""
    scanner, held, found = ReplyScanner(), b"", []
    for chunk in chunks:
        carry = scanner.carry
        data = held + chunk
        ends = scanner.feed(carry + chunk)
        shift = len(data) - len(carry) - len(chunk)
        start = 0
        for end in ends:
            found.append(data[start : end + shift])
            start = end + shift
        held = data[start:]
    assert held == b""
    assert scanner.at_boundary
    return found


def test_replies_cut_anywhere() -> None:
    stream = b"".join(REPLIES)
    assert frames([stream]) == REPLIES
    assert frames([stream[i : i + 1] for i in range(len(stream))]) == REPLIES
    for cut in range(1, len(stream)):
        assert frames([stream[:cut], stream[cut:]]) == REPLIES


def test_errors_and_pushes_are_pointed_out() -> None:
    scanner = ReplyScanner()
    assert scanner.feed(b"".join(REPLIES))
    assert scanner.errors == [1, 14]
    assert scanner.pushes == [19]
    assert scanner.feed(b"+OK\r\n") == [5]
    assert scanner.errors == scanner.pushes == []


@pytest.mark.parametrize(
    "data",
    [b"?\r\n", b"$-2\r\n", b"$x\r\n", b"*-2\r\n", b";3\r\n", b".\r\n",
     b"+" + b"x" * (LINE_BYTES_MAX + 1), b"*1\r\n" * (DEPTH_MAX + 1)],
)  # fmt: skip
def test_replies_that_no_server_sends(data: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="upstream broke RESP"):
        ReplyScanner().feed(data)
