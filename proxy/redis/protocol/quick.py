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
LENGTH_MAX: Final = 1_000_000  # chunks are smaller

Heads = dict[bytes, tuple[int, int]]  # head to (arguments behind the name, route)


def learn(heads: Heads, buf: bytes, mark: list[int], route: int) -> None:
    """Takes in the head of a scanned command (its quadruple of CommandScanner), of kind DATA."""
    start, name_start, name_end, _ = mark
    if name_start < 0 or len(heads) >= HEADS_MAX:
        return
    head = buf[start : name_end + 3]
    if head in heads or head[-1:] != b"$":
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
        if pos + 17 > size:  # no command with an argument is shorter
            return 0
        letters = buf[pos + 5] - 48
        end = pos + 11 + letters
        if buf[pos + 6] != 13:  # `*2\r\n$3\r` has a name of up to nine letters
            end += letters * 9 + buf[pos + 6] - 47
        head = heads.get(buf[pos:end]) if end > pos else None
        if head is None:
            return 0
        left, route = head
        if route & refused:
            return 0
        while True:
            begin, length = _length(buf, end, size)
            if begin == 0:
                return 0
            if keys is not None and route & ONE_KEY:
                keys.append(buf[begin : begin + length])
                route = 0
            pos = begin + length + 2
            left -= 1
            if left == 0:
                break
            if pos >= size or buf[pos] != 36:
                return 0
            end = pos + 1
        commands += 1
    return commands if pos == size else 0


def _length(buf: bytes, pos: int, size: int) -> tuple[int, int]:
    """(where the argument begins, its length) of the length at `pos`; (0, 0) if it is odd."""
    if pos + 3 > size:
        return 0, 0
    length = buf[pos] - 48
    if length < 0 or length > 9:
        return 0, 0
    pos += 1
    digit = buf[pos]
    if digit != 13 and length == 0:
        return 0, 0
    while digit != 13:
        pos += 1
        if digit < 48 or digit > 57 or length > LENGTH_MAX or pos >= size:
            return 0, 0
        length = length * 10 + digit - 48
        digit = buf[pos]
    return pos + 2, length
