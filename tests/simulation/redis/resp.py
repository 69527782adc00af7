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
    match value:
        case None:
            return b"_\r\n" if resp == 3 else b"$-1\r\n"
        case _NilArray():
            return b"_\r\n" if resp == 3 else b"*-1\r\n"
        case Simple():
            return b"+%b\r\n" % value
        case Err():
            return b"-%b\r\n" % value
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(value), value)
        case int():
            return b":%d\r\n" % value
        case dict():
            head = b"%%%d\r\n" % len(value) if resp == 3 else b"*%d\r\n" % (2 * len(value))
            pairs = (encode(one, resp) for pair in value.items() for one in pair)
            return head + b"".join(pairs)
    mark = b">" if isinstance(value, Push) and resp == 3 else b"*"
    return mark + b"%d\r\n" % len(value) + b"".join(encode(one, resp) for one in value)


def decode(data: bytes, at: int) -> tuple[Any, int]:
    """(value, where it ends). Raises Short."""
    stop = data.find(b"\r\n", at)
    if stop < 0:
        raise Short
    kind, line, after = data[at : at + 1], data[at + 1 : stop], stop + 2
    if kind == b"+":
        return Simple(line), after
    if kind == b"-":
        return Err(line), after
    if kind == b":":
        return int(line), after
    if kind == b"_":
        return None, after
    size = int(line)
    if kind in b"$=":
        if size < 0:
            return None, after
        if len(data) < after + size + 2:
            raise Short
        return data[after : after + size], after + size + 2
    if size < 0:
        return NIL_ARRAY, after
    parts: list[Any] = []
    for _ in range(size * (2 if kind == b"%" else 1)):
        part, after = decode(data, after)
        parts.append(part)
    if kind == b"%":
        return dict(zip(parts[::2], parts[1::2], strict=True)), after
    if kind not in b"*>":
        raise AssertionError(f"no RESP: {data[at : at + 40]!r}")
    return (Push(parts) if kind == b">" else parts), after


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
