"""Inline commands: Redis's quoting rules."""

import pytest

from proxy.core.errors import PeerProtocolError
from proxy.redis.protocol.inline import split_inline


@pytest.mark.parametrize(
    ("line", "args"),
    [
        (b"PING\r\n", [b"PING"]),
        (b"  SET  a\tb \r\n", [b"SET", b"a", b"b"]),
        (rb'SET a "x\n\x41\r\t\b\a\" \\ \q y"', [b"SET", b"a", b'x\nA\r\t\b\a" \\ q y']),
        (rb'"\xzz"', [b"xzz"]),
        (rb"SET a 'it\'s \n'", [b"SET", b"a", rb"it's \n"]),
        (b'""', [b""]),
        (b"", []),
        (b"PING\0 x\r\n", [b"PING"]),
    ],
)
def test_arguments(line: bytes, args: list[bytes]) -> None:
    assert split_inline(line) == args


@pytest.mark.parametrize("line", [b'SET "a', b"SET 'a", b'"a"b', b"'a'b", b'"\\'])
def test_unbalanced_quotes(line: bytes) -> None:
    with pytest.raises(PeerProtocolError, match="unbalanced quotes in request"):
        split_inline(line)
