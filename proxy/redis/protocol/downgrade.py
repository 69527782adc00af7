"""RESP3 replies of cacheable reads as RESP2 would have said them, and the few looks into RESP3
frames that a fill needs.

Valid for the commands of `cacheable` only: conversion is not purely type-driven in general
(reference/redis.md, 2.12; envoy#44936). For these it is the type rules, pair lists flattened
(ZRANGE-family WITHSCORES), and `*-1` where RESP2 says a null array (ZRANK WITHSCORE).
"""

from __future__ import annotations

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason

DEPTH_MAX = 8  # XRANGE nests 3 deep; nothing on the list nests deeper
_SAME_IN_BOTH = b"$:+-"
_NIL2 = b"$-1\r\n"
_NULL_ARRAY2 = b"*-1\r\n"
_ZRANK = (b"ZRANK", b"ZREVRANK")


def to_resp2(name: bytes, canonical: bytes, reply: bytes) -> bytes:
    """`reply` (one whole RESP3 frame) as a RESP2 client of this request would read it.

    Raises PeerProtocolError when the frame is not one.
    """
    if reply[0] in _SAME_IN_BOTH:
        return reply
    if reply == b"_\r\n":
        # WITHSCORE makes the missing rank a missing pair
        return _NULL_ARRAY2 if name in _ZRANK and canonical[:2] == b"*4" else _NIL2
    out: list[bytes] = []
    if name.startswith(b"Z") and reply[:1] == b"*":
        end = _pairs(reply, out)
    else:
        end = _convert(reply, 0, out, 0)
    if end != len(reply):
        raise _broken("bytes after the frame")
    return b"".join(out)


def elements(reply: bytes) -> list[bytes]:
    """The frames inside one array, set or map frame (map: keys and values in turn).

    Raises PeerProtocolError when the frame is no aggregate.
    """
    if reply[:1] not in (b"*", b"~", b"%"):
        raise _broken("an aggregate expected")
    count, at = _header(reply, 0)
    out = []
    for _ in range(count * 2 if reply[0] == 37 else count):
        end = frame_end(reply, at, 0)
        out.append(reply[at:end])
        at = end
    if at != len(reply):
        raise _broken("bytes after the frame")
    return out


def integer(frame: bytes) -> int | None:
    """The number of an integer frame, else None."""
    if frame[:1] != b":":
        return None
    try:
        return int(frame[1:-2])
    except ValueError:
        raise _broken("a number expected") from None


def bulk(frame: bytes) -> bytes:
    """The string of a bulk or simple string frame.

    Raises PeerProtocolError for another type.
    """
    if frame[:1] == b"$":
        return frame[frame.index(b"\r\n") + 2 : -2]
    if frame[:1] == b"+":
        return frame[1:-2]
    raise _broken("a string expected")


def frame_end(data: bytes, at: int, depth: int) -> int:
    """Offset after the frame that starts at `at`; the frame must be whole."""
    kind = data[at : at + 1]
    if kind in (b"*", b"~", b"%", b">"):
        if depth >= DEPTH_MAX:
            raise _broken("nested too deep")
        count, at = _header(data, at)
        for _ in range(count * 2 if kind == b"%" else count):
            at = frame_end(data, at, depth + 1)
        return at
    if kind in (b"$", b"=", b"!"):
        length, at = _header(data, at)
        if at + length + 2 > len(data):
            raise _broken("cut")
        return at + length + 2
    if kind in (b":", b"+", b"-", b"_", b",", b"#", b"("):
        return _line_end(data, at) + 2
    raise _broken("a frame type that no cacheable read answers")


def _pairs(reply: bytes, out: list[bytes]) -> int:
    """An array whose elements may be [member, score] pairs: flat in RESP2."""
    count, at = _header(reply, 0)
    flat: list[bytes] = []
    parts = 0
    for _ in range(count):
        if reply[at : at + 1] == b"*":
            inner, at = _header(reply, at)
            parts += inner
            for _ in range(inner):
                at = _convert(reply, at, flat, 2)
        else:
            parts += 1
            at = _convert(reply, at, flat, 1)
    out.append(b"*%d\r\n" % parts)
    out.extend(flat)
    return at


def _convert(data: bytes, at: int, out: list[bytes], depth: int) -> int:
    """Append the frame at `at` in RESP2; offset after it."""
    kind = data[at : at + 1]
    if kind in (b"*", b"~", b"%"):
        if depth >= DEPTH_MAX:
            raise _broken("nested too deep")
        count, at = _header(data, at)
        count = count * 2 if kind == b"%" else count
        out.append(b"*%d\r\n" % count)
        for _ in range(count):
            at = _convert(data, at, out, depth + 1)
        return at
    end = frame_end(data, at, depth)
    out.append(_scalar(kind, data[at:end]))
    return end


def _scalar(kind: bytes, frame: bytes) -> bytes:
    if kind in (b"$", b":", b"+", b"-"):
        return frame
    if kind == b"_":
        return _NIL2
    if kind == b"#":
        return b":1\r\n" if frame[1:2] == b"t" else b":0\r\n"
    if kind in (b",", b"("):
        return b"$%d\r\n%b\r\n" % (len(frame) - 3, frame[1:-2])
    if kind == b"=":
        text = frame[frame.index(b"\r\n") + 6 : -2]  # without `txt:`
        return b"$%d\r\n%b\r\n" % (len(text), text)
    return b"-" + frame[frame.index(b"\r\n") + 2 :]  # a bulk error


def _header(data: bytes, at: int) -> tuple[int, int]:
    """(length or count, offset after the header line)."""
    end = _line_end(data, at)
    try:
        number = int(data[at + 1 : end])
    except ValueError:
        raise _broken("a length expected") from None
    if number < 0:
        raise _broken("a negative length in RESP3")
    return number, end + 2


def _line_end(data: bytes, at: int) -> int:
    end = data.find(b"\r\n", at)
    if end < 0:
        raise _broken("cut")
    return end


def _broken(what: str) -> PeerProtocolError:
    return PeerProtocolError(f"RESP3 reply on the tracking link: {what}", Reason.UPSTREAM_PROTOCOL)
