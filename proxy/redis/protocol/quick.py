"""The commonest chunks of a client, recognised without scanning: whole ordinary commands.

A command begins with its count of arguments and its name: `*3\\r\\n$3\\r\\nSET\\r\\n$`. The scanner
and the routing need to read such a head once; from then on the same bytes mean the same, and one
dictionary lookup replaces both. What follows a head are lengths, written the one way Redis accepts.

Anything unusual (another head, an odd length, half a command) is 0: the scanner's business, which
has the last word on every doubt. So what is counted here is exactly what the scanner would find.
"""

from typing import Final

from proxy.redis.protocol.commands import EFFECTS, ONE_KEY

ARGUMENTS_MAX: Final = 8  # a head with more is scanned: they would be too many
HEADS_MAX: Final = 4096  # about 250 commands, in capitals or not, with up to 8 arguments
LENGTH_DIGITS_MAX: Final = 8
_LENGTHS: Final = {b"%d" % length: length for length in range(1000)}

Heads = dict[bytes, tuple[int, int]]  # head to (arguments behind the name, route)


def learn(heads: Heads, buf: bytes, mark: list[int], route: int) -> None:
    """Takes in the head of a scanned command (its quadruple of CommandScanner), of kind DATA."""
    start, name_start, name_end, _ = mark
    head = buf[start : name_end + 3]
    if name_start < 0 or head in heads or head[-1:] != b"$" or len(heads) >= HEADS_MAX:
        return
    name = buf[name_start:name_end]
    left = int(head[1 : head.find(b"\r")]) - 1
    if left < ARGUMENTS_MAX and name in (name.upper(), name.lower()):
        heads[head] = (left, route & ~EFFECTS if route & ONE_KEY else route)


def count(buf: bytes, heads: Heads, refused: int, keys: list[bytes] | None) -> int:
    """How many commands `buf` is, if it is nothing else; 0 if one of them is not for here.

    Commands whose route has a flag of `refused` are not for here; a write of one key has ONE_KEY
    and no other effect. The keys of these are added to `keys`, if it is a list.
    """
    size = len(buf)
    pos = commands = 0
    while pos < size:
        end = buf.find(b"\n$", pos + 8) + 2
        head = heads.get(buf[pos:end])
        if head is None:
            return 0
        left, route = head
        if route & refused:
            return 0
        pos = end
        while True:
            end = buf.find(b"\r", pos, pos + LENGTH_DIGITS_MAX)
            if end < 0:
                return 0
            length = _LENGTHS.get(buf[pos:end], -1)
            if length < 0:
                length = _long(buf[pos:end])
                if length < 0:
                    return 0
            if keys is not None and route & ONE_KEY:
                keys.append(buf[end + 2 : end + 2 + length])
                route = 0
            pos = end + length + 4
            left -= 1
            if not left:
                break
            if pos >= size or buf[pos] != 36:
                return 0
            pos += 1
        commands += 1
    return commands if pos == size else 0


def _long(text: bytes) -> int:
    """A canonical number of four to seven digits; -1 if it is none."""
    return int(text) if text.isdigit() and text[0] != 48 else -1
