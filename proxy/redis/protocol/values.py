"""RESP values: decoding the few replies the proxy itself reads, encoding what it itself says.

For handshakes, COMMAND and tests only; client traffic is never decoded. Source: RESP specification.
"""

from collections.abc import Callable
from typing import Final, TypeAlias

from proxy.core.errors import PeerProtocolError
from proxy.core.reasons import Reason

DEPTH_MAX: Final = 64

Value: TypeAlias = "bytes | int | float | list[Value] | dict[bytes, Value] | ErrorReply | None"


class ErrorReply:
    """An error reply: its text without the leading '-'."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    @property
    def code(self) -> bytes:
        """The first word, as `NOAUTH`, `WRONGPASS`, `LOADING`."""
        return self.text.split(b" ", 1)[0]

    def __repr__(self) -> str:
        return f"ErrorReply({self.code!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErrorReply) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def encode_command(*args: bytes) -> bytes:
    """The request as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(args)]
    parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
    return b"".join(parts)


def split_args(buf: bytes, start: int, end: int) -> list[bytes]:
    """The arguments of the one whole multibulk command in buf[start:end] (see CommandScanner)."""
    pos = buf.find(b"\r", start) + 2
    args = []
    while pos < end:
        line_end = buf.find(b"\r", pos)
        begin = line_end + 2
        stop = begin + int(buf[pos + 1 : line_end])
        args.append(buf[begin:stop])
        pos = stop + 2
    return args


def first_arg(buf: bytes, name_end: int) -> bytes:
    """The argument behind the command's name, whose end is `name_end`; it must exist."""
    line_end = buf.find(b"\r", name_end + 3)
    begin = line_end + 2
    return buf[begin : begin + int(buf[name_end + 3 : line_end])]


def decode(buf: bytes, pos: int = 0, depth: int = 0) -> tuple[Value, int]:
    """The value at `pos` and the offset behind it. The frame must be whole (see ReplyScanner).

    Maps become dicts when all keys are bytes, else flat lists. Raises: PeerProtocolError.
    """
    if depth > DEPTH_MAX:
        raise PeerProtocolError("reply nested too deep", Reason.UPSTREAM_PROTOCOL)
    end = buf.find(b"\r\n", pos)
    if end < 0:
        raise PeerProtocolError("reply cut short", Reason.UPSTREAM_PROTOCOL)
    kind, line = buf[pos : pos + 1], buf[pos + 1 : end]
    try:
        if kind in _SCALARS:
            return _SCALARS[kind](line), end + 2
        count = int(line)
        if count < 0:
            return None, end + 2
        if kind in b"$=!":
            body = buf[end + 2 : end + 2 + count]
            if len(body) < count:
                raise PeerProtocolError("reply cut short", Reason.UPSTREAM_PROTOCOL)
            value: Value = ErrorReply(body) if kind == b"!" else body[4:] if kind == b"=" else body
            return value, end + 4 + count
        return _decode_aggregate(buf, end + 2, kind, count, depth)
    except ValueError:
        raise PeerProtocolError("unreadable reply", Reason.UPSTREAM_PROTOCOL) from None


def _decode_aggregate(
    buf: bytes, pos: int, kind: bytes, count: int, depth: int
) -> tuple[Value, int]:
    if kind not in (b"*", b"~", b">", b"%", b"|"):
        raise PeerProtocolError("unknown reply type", Reason.UPSTREAM_PROTOCOL)
    items: list[Value] = []
    for _ in range(count * 2 if kind in b"%|" else count):
        item, pos = decode(buf, pos, depth + 1)
        items.append(item)
    if kind == b"|":
        return decode(buf, pos, depth + 1)
    keys = items[::2]
    if kind == b"%" and all(isinstance(key, bytes) for key in keys):
        return {k: v for k, v in zip(keys, items[1::2], strict=True) if isinstance(k, bytes)}, pos
    return items, pos


def as_dict(value: Value) -> dict[bytes, Value]:
    """A RESP3 map, or the flat list RESP2 has instead, as a dict; {} for anything else."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        pairs = zip(value[::2], value[1::2], strict=False)
        return {k: v for k, v in pairs if isinstance(k, bytes)}
    return {}


_SCALARS: Final[dict[bytes, Callable[[bytes], Value]]] = {
    b"+": lambda line: line,
    b"-": ErrorReply,
    b":": int,
    b"(": int,
    b",": float,
    b"#": lambda line: line == b"t",
    b"_": lambda line: None,
}
