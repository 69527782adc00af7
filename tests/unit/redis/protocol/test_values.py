"""Decoding and encoding of the few values the proxy reads itself."""

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol.values import (
    DEPTH_MAX,
    ErrorReply,
    Value,
    as_dict,
    decode,
    encode_command,
    first_arg,
    split_args,
)


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"+OK\r\n", b"OK"), (b":-3\r\n", -3), (b"$2\r\nhi\r\n", b"hi"), (b"$-1\r\n", None),
        (b"_\r\n", None), (b"*-1\r\n", None), (b"#t\r\n", True), (b",2.5\r\n", 2.5),
        (b"(99\r\n", 99), (b"=6\r\ntxt:hi\r\n", b"hi"), (b"-ERR x\r\n", ErrorReply(b"ERR x")),
        (b"!5\r\nERR x\r\n", ErrorReply(b"ERR x")), (b"*2\r\n:1\r\n*0\r\n", [1, []]),
        (b"~1\r\n:1\r\n", [1]), (b"%1\r\n+a\r\n:1\r\n", {b"a": 1}),
        (b"%1\r\n:1\r\n:2\r\n", [1, 2]), (b"|1\r\n+a\r\n:1\r\n:7\r\n", 7),
    ],
)  # fmt: skip
def test_decode(wire: bytes, value: Value) -> None:
    assert decode(wire) == (value, len(wire))


@pytest.mark.parametrize(
    "wire", [b"?\r\n", b":x\r\n", b"*1", b"*1\r\n", b"$x\r\n", b"*1\r\n" * (DEPTH_MAX + 2)]
)
def test_decode_refuses(wire: bytes) -> None:
    with pytest.raises(PeerProtocolError):
        decode(wire)


def test_errors_hide_their_text() -> None:
    error = ErrorReply(b"WRONGPASS secret")
    assert error.code == b"WRONGPASS"
    assert "secret" not in repr(error)
    assert len({error, ErrorReply(b"WRONGPASS secret")}) == 1


def test_dicts() -> None:
    assert as_dict({b"a": 1}) == {b"a": 1}
    assert as_dict([b"a", 1, 2, 3]) == {b"a": 1}
    assert as_dict(b"x") == {}


def test_commands_there_and_back() -> None:
    args = [b"SET", b"k\r\n", b""]
    data = b"xx" + encode_command(*args) + b"yy"
    assert split_args(data, 2, len(data) - 2) == args
    name_end = data.index(b"SET") + 3
    assert first_arg(data, name_end) == b"k\r\n"
