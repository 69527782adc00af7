"""Inline commands: what people type into telnet, turned into the array form.

Source: Redis `sdssplitargs`, whose quoting rules are followed to the letter (exp 19).
"""

from typing import Final

from proxy.core.errors import PeerProtocolError

_BLANK: Final = b" \n\r\t\v\f\0"
_ESCAPES: Final = {0x6E: 10, 0x72: 13, 0x74: 9, 0x62: 8, 0x61: 7}


def split_inline(line: bytes) -> list[bytes]:
    """Arguments of an inline command's line. Raises: PeerProtocolError on unbalanced quotes."""
    # The server reads the line as a C string: a NUL ends it.
    line = line.split(b"\0", 1)[0]
    args: list[bytes] = []
    pos = 0
    while True:
        while pos < len(line) and line[pos] in _BLANK:
            pos += 1
        if pos >= len(line):
            return args
        arg, pos = _one(line, pos)
        args.append(arg)


def _one(line: bytes, pos: int) -> tuple[bytes, int]:
    out = bytearray()
    while pos < len(line):
        char = line[pos]
        if char in _BLANK:
            break
        if char == 34:
            pos = _double_quoted(line, pos + 1, out)
            break
        if char == 39:
            pos = _single_quoted(line, pos + 1, out)
            break
        out.append(char)
        pos += 1
    return bytes(out), pos


def _double_quoted(line: bytes, pos: int, out: bytearray) -> int:
    while pos < len(line):
        char = line[pos]
        if char == 34:
            return _closed(line, pos + 1)
        if char == 92 and pos + 1 < len(line):
            hexadecimal = line[pos + 2 : pos + 4]
            if line[pos + 1] == 0x78 and len(hexadecimal) == 2 and _is_hex(hexadecimal):
                out.append(int(hexadecimal, 16))
                pos += 4
                continue
            out.append(_ESCAPES.get(line[pos + 1], line[pos + 1]))
            pos += 2
            continue
        out.append(char)
        pos += 1
    raise _unbalanced()


def _single_quoted(line: bytes, pos: int, out: bytearray) -> int:
    while pos < len(line):
        char = line[pos]
        if char == 39:
            return _closed(line, pos + 1)
        if char == 92 and line[pos + 1 : pos + 2] == b"'":
            out.append(39)
            pos += 2
            continue
        out.append(char)
        pos += 1
    raise _unbalanced()


def _closed(line: bytes, pos: int) -> int:
    if pos < len(line) and line[pos] not in _BLANK:
        raise _unbalanced()
    return pos


def _is_hex(pair: bytes) -> bool:
    return all(char in b"0123456789abcdefABCDEF" for char in pair)


def _unbalanced() -> PeerProtocolError:
    return PeerProtocolError("Protocol error: unbalanced quotes in request")
