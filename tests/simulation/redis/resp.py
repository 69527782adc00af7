"""RESP both ways, written apart from the product: what is read is known to have its exact shape.

bytes: bulk string; Simple, Err: one line; None: nil; NIL_ARRAY: `*-1`; list, dict; Push: `>`.
"""

from typing import Any


class Simple(bytes):
    """+OK"""


class Err(bytes):
    """-ERR and so on."""

    @property
    def code(self) -> str:
        """Its first word."""
        return self.split(b" ", 1)[0].decode()


class Push(list[Any]):
    """What nobody asked for, in RESP3."""


class _NilArray:
    def __repr__(self) -> str:
        return "NIL_ARRAY"


NIL_ARRAY = _NilArray()


class Short(Exception):
    """The rest has not come yet."""


def command(*args: bytes) -> bytes:
    """As clients send it."""
    parts = [b"*%d\r\n" % len(args)]
    parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
    return b"".join(parts)


def encode(value: Any, resp: int) -> bytes:
    """As a server of this version sends it."""
    kind = type(value)
    if kind is bytes:
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if kind is list or kind is Push:
        mark = b">" if kind is Push and resp == 3 else b"*"
        return mark + b"%d\r\n" % len(value) + b"".join([encode(one, resp) for one in value])
    if kind is dict:
        head = b"%%%d\r\n" % len(value) if resp == 3 else b"*%d\r\n" % (2 * len(value))
        return head + b"".join([encode(one, resp) for pair in value.items() for one in pair])
    if value is None or value is NIL_ARRAY:
        return b"_\r\n" if resp == 3 else b"$-1\r\n" if value is None else b"*-1\r\n"
    return _LINES[kind] % value


_LINES = {Simple: b"+%b\r\n", int: b":%d\r\n", Err: b"-%b\r\n"}
_BULK, _ARRAY, _MAP, _PUSH = b"$*%>"
_LINE: dict[int, Any] = {ord("+"): Simple, ord(":"): int, ord("-"): Err, ord("_"): lambda _: None}


def decode(data: bytes, at: int) -> tuple[Any, int]:
    """(value, where it ends). Raises Short."""
    stop = data.find(b"\r\n", at)
    if stop < 0:
        raise Short
    kind, line, after = data[at], data[at + 1 : stop], stop + 2
    if kind in _LINE:
        return _LINE[kind](line), after
    size = int(line)
    if kind in b"$=":
        end = after + size
        if size < 0:
            return None, after
        if len(data) < end + 2:
            raise Short
        return data[after:end], end + 2
    if size < 0:
        return NIL_ARRAY, after
    return _aggregate(data, after, kind, size)


def _aggregate(data: bytes, after: int, kind: int, size: int) -> tuple[Any, int]:
    parts: list[Any] = []
    for _ in range(size * 2 if kind == _MAP else size):
        part, after = decode(data, after)
        parts.append(part)
    if kind == _MAP:
        return dict(zip(parts[::2], parts[1::2], strict=True)), after
    if kind == _ARRAY:
        return parts, after
    if kind != _PUSH:
        raise AssertionError(f"no RESP: {chr(kind)!r} before {data[after : after + 40]!r}")
    return Push(parts), after


class Reader:
    """Cuts values from a stream."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[tuple[Any, bytes]]:
        """(value, its bytes) of all that is whole by now."""
        data, at, values = self.rest + data, 0, []
        try:
            while at < len(data):
                value, after = decode(data, at)
                values.append((value, data[at:after]))
                at = after
        except Short:
            pass
        self.rest = data[at:]
        return values
