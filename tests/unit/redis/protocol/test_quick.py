"""The express way counts exactly what the scanner finds, or nothing."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol import quick
from proxy.redis.protocol.command_table import fallback_table
from proxy.redis.protocol.commands import CACHEABLE, EFFECTS, KIND_MASK, ONE_KEY
from proxy.redis.protocol.framing import CommandScanner
from tests.wire_redis import command

TABLE = fallback_table()
KNOWN = [
    command("GET", "k"), command("get", "k"), command("SET", "k", "v"), command("DEL", "a", "b"),
    command("HSET", "h", "f", "v"), command("EXPIRE", "k", 10), command("MSET", "a", "1"),
]  # fmt: skip


def marks_of(buf: bytes) -> list[list[int]]:
    scanner = CommandScanner()
    marks = scanner.feed(buf)
    with contextlib.suppress(PeerProtocolError):
        scanner.feed(buf)
    return [marks[at : at + 4] for at in range(0, len(marks), 4)]


def learnt(*requests: bytes) -> quick.Heads:
    heads: quick.Heads = {}
    for request in requests:
        for mark in marks_of(request):
            route = TABLE.route(request[mark[1] : mark[2]]) if mark[1] > 0 else 0
            if not route & KIND_MASK:
                quick.learn(heads, request, mark, route)
    return heads


HEADS = learnt(*KNOWN)


def count(buf: bytes, refused: int = 0, keys: list[bytes] | None = None) -> int:
    return quick.count(buf, HEADS, refused, keys)


def test_whole_commands_are_counted() -> None:
    assert count(command("GET", "k")) == 1
    assert count(command("SET", "k", "x" * 12345)) == 1
    assert count(command("GET", "") + command("get", "a\r\n$1\r\n*2") * 3) == 4


@pytest.mark.parametrize(
    "buf",
    [
        command("GET", "k")[:-1],
        command("GET", "k") + b"*",
        command("GET", "k") + b"PING\r\n",
        command("GET", "k", "l"),
        command("GETSET", "k", "v"),
        command("PING"),
        b"*2\r\n$3\r\nGET\r\n$01\r\nk\r\n",
        b"*2\r\n$3\r\nGET\r\n$+1\r\nk\r\n",
        b"*2\r\n$3\r\nGET\r\n$-1\r\n",
        b"*2\r\n$3\r\nGET\r\n$\r\nk\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n:1\r\n\r\n",
        b"*2\r\n$3\r\nGET\r\n$99999999\r\nk\r\n",
        b"\r\n",
        b"*0\r\n",
    ],
)
def test_anything_else_is_not(buf: bytes) -> None:
    assert count(buf) == 0


def test_refused_routes_and_keys_of_writes() -> None:
    keys: list[bytes] = []
    write, read = command("SET", "key", "v"), command("GET", "other")
    assert count(write + read + write, EFFECTS, keys) == 3
    assert keys == [b"key", b"key"]
    assert count(write, EFFECTS | ONE_KEY, []) == 0
    assert count(read, CACHEABLE) == 0
    assert count(command("MSET", "a", "1"), EFFECTS, []) == 0  # writes more than its first key


def test_heads_are_bounded_and_of_plain_names() -> None:
    assert not learnt(command("gEt", "k"), command("PING"), command("DEL", *"abcdefghi"))
    full: quick.Heads = {b"%d" % n: (1, 0) for n in range(quick.HEADS_MAX)}
    quick.learn(full, KNOWN[0], marks_of(KNOWN[0])[0], 0)
    assert len(full) == quick.HEADS_MAX


PIECES = st.lists(
    st.sampled_from(
        [*KNOWN, command("GET", "a\n$1\r\n"), command("XREAD", "BLOCK", 0), b"*2\r\n$3\r\nGET\r\n$",
         b"*2\r\n$3\r\nGETab$1\r\nk\r\n", b"*3\r\n$3\r\nSET\r\n$", b"$", b"1", b"3\r\n", b"\r",
         b"\n", b"k\r\n", b"0", b"12", b"-"]
    ),
    max_size=12,
).map(b"".join)  # fmt: skip


@given(PIECES)
def test_it_agrees_with_the_scanner(buf: bytes) -> None:
    found = count(buf)
    if found:
        marks = marks_of(buf)
        assert len(marks) == found
        assert marks[-1][3] == len(buf)
        names = {buf[mark[1] : mark[2]] for mark in marks}
        assert all(not TABLE.route(name) & KIND_MASK for name in names)
