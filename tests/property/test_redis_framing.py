"""Any chopping gives the same commands and replies; any bytes a result or PeerProtocolError."""

import contextlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol.framing import CommandScanner, ReplyScanner
from proxy.redis.protocol.inline import split_inline
from proxy.redis.protocol.values import decode, encode_command, split_args
from tests.wire_redis import reply_end

ARGS = st.lists(st.binary(max_size=20), min_size=1, max_size=6)
CUTS = st.lists(st.integers(0, 400), max_size=6)
SOUP = st.lists(
    st.sampled_from(
        [b"*", b"$", b"%", b"~", b">", b"|", b"+", b"-", b":", b"_", b"#t", b"(", b"=", b"!", b"?",
         b";", b".", b"0", b"1", b"2", b"-1", b"\r\n", b"a", b"\r", b"\n", b"\xff"]
    ),
    max_size=40,
).map(b"".join)  # fmt: skip


def replies() -> st.SearchStrategy[bytes]:
    leaf = st.one_of(
        st.binary(max_size=12).map(lambda body: b"$%d\r\n%b\r\n" % (len(body), body)),
        st.integers().map(lambda number: b":%d\r\n" % number),
        st.sampled_from([b"+OK\r\n", b"-ERR x\r\n", b"_\r\n", b"$-1\r\n", b"*-1\r\n", b",1.5\r\n"]),
    )

    def nested(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        lists = st.lists(inner, max_size=4)
        arrays = lists.map(lambda items: b"*%d\r\n" % len(items) + b"".join(items))
        maps = lists.map(
            lambda items: b"%%%d\r\n" % (len(items) // 2) + b"".join(items[: len(items) // 2 * 2])
        )
        noted = inner.map(lambda item: b"|1\r\n+k\r\n+v\r\n" + item)
        return arrays | maps | noted

    return st.recursive(leaf, nested, max_leaves=12)


def chopped(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]


@given(st.lists(ARGS, max_size=5), CUTS)
def test_commands(calls: list[list[bytes]], cuts: list[int]) -> None:
    scanner, buf, found = CommandScanner(), b"", []
    for chunk in chopped(b"".join(encode_command(*args) for args in calls), cuts):
        buf += chunk
        if len(buf) < scanner.need:
            continue
        marks = scanner.feed(buf)
        for at in range(0, len(marks), 4):
            args = split_args(buf, marks[at], marks[at + 3])
            assert args[0] == buf[marks[at + 1] : marks[at + 2]]
            found.append(args)
        buf = buf[scanner.start :]
        scanner.rebase(scanner.start)
    assert found == calls
    assert buf == b""


@given(st.lists(replies(), max_size=5), CUTS)
def test_replies(wanted: list[bytes], cuts: list[int]) -> None:
    scanner, seen, ends = ReplyScanner(), 0, []
    for chunk in chopped(b"".join(wanted), cuts):
        carry = len(scanner.carry)
        ends += [seen - carry + end for end in scanner.feed(scanner.carry + chunk)]
        seen += len(chunk)
    lengths = [len(reply) for reply in wanted]
    assert ends == [sum(lengths[: index + 1]) for index in range(len(lengths))]
    assert scanner.at_boundary
    for reply in wanted:
        assert reply_end(reply) == decode(reply)[1] == len(reply)


@given(SOUP, CUTS)
def test_any_bytes_are_commands_or_a_protocol_error(data: bytes, cuts: list[int]) -> None:
    outcomes = []
    for chunks in ([data], chopped(data, cuts)):
        scanner, buf, found = CommandScanner(), b"", []
        fault = ""
        try:
            for chunk in chunks:
                buf += chunk
                while len(buf) >= scanner.need and (marks := scanner.feed(buf)):
                    found += [buf[marks[i] : marks[i + 3]] for i in range(0, len(marks), 4)]
                    buf = buf[scanner.start :]
                    scanner.rebase(scanner.start)
        except PeerProtocolError as error:
            fault = str(error)
        outcomes.append((found, fault))
    assert outcomes[0] == outcomes[1]


@given(SOUP | st.binary(max_size=60))
def test_any_bytes_are_replies_or_a_protocol_error(data: bytes) -> None:
    scanner = ReplyScanner()
    try:
        ends = scanner.feed(data)
    except PeerProtocolError:
        return
    assert ends == sorted(ends)
    start = 0
    for end in ends:
        # Streamed types, and numbers that are none, are skipped and never decoded.
        with contextlib.suppress(PeerProtocolError):
            assert decode(data[start:end])[1] <= end - start
        start = end


@given(st.binary(max_size=60))
def test_any_line_is_arguments_or_a_protocol_error(line: bytes) -> None:
    try:
        args = split_inline(line)
    except PeerProtocolError:
        return
    assert all(isinstance(arg, bytes) for arg in args)
