"""How long a blocking command blocks, and the same command with what is left of that time."""

from proxy.redis.protocol.expected import Expected
from proxy.redis.protocol.values import encode_command, split_args

_FIRST = frozenset((b"BLMPOP", b"BZMPOP"))
_MILLISECONDS = frozenset((b"WAIT", b"WAITAOF"))


def is_blocking(args: list[bytes]) -> bool:
    """True if an XREAD or XREADGROUP says BLOCK (before STREAMS, where keys begin)."""
    for arg in args[1:]:
        upper = arg.upper()
        if upper == b"STREAMS":
            return False
        if upper == b"BLOCK":
            return True
    return False


def block_s(args: list[bytes]) -> float:
    """Seconds the command may block; 0.0: for ever, or the command is malformed."""
    name = args[0].upper()
    if name.startswith(b"XREAD"):
        position = _block_position(args)
        return _number(args, position) / 1000
    if name in _MILLISECONDS:
        return _number(args, len(args) - 1) / 1000
    return _number(args, 1 if name in _FIRST else len(args) - 1)


def with_remaining(entry: Expected, now_s: float, margin_s: float) -> bytes:
    """The XREAD again, blocking only for what is left (at least 1 ms; 0 stays for ever)."""
    if entry.deadline_s is None:
        return entry.request
    left_ms = max(1, int((entry.deadline_s - margin_s - now_s) * 1000))
    args = split_args(entry.request, 0, len(entry.request))
    args[_block_position(args)] = b"%d" % left_ms
    return encode_command(*args)


def _block_position(args: list[bytes]) -> int:
    for position, arg in enumerate(args):
        if arg.upper() == b"BLOCK":
            return position + 1
    return len(args)


def _number(args: list[bytes], position: int) -> float:
    try:
        return max(0.0, float(args[position]))
    except (ValueError, IndexError):
        return 0.0
