"""Which reads may be cached, and what each answers for a missing key.

The list is phase 1 of reference/redis.md, 2.11: commands whose reply depends on one key (MGET and
EXISTS: on each key by itself), whose key registers for tracking also while missing, and whose every
change sends an invalidation, verified on real servers. Never here: TTL and time readers, random
replies, XPENDING and XINFO (changed in silence by consumer groups), SORT_RO BY/GET, XREAD, scripts,
SCAN.

A plan also carries the exact RESP3 reply for a missing key: a reply that says something else while
PTTL says -2 means that the key expired between the two, and is not stored.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

NIL = b"_\r\n"
ZERO = b":0\r\n"
EMPTY_STRING = b"$0\r\n\r\n"
EMPTY_ARRAY = b"*0\r\n"
EMPTY_MAP = b"%0\r\n"
EMPTY_SET = b"~0\r\n"


class HashRead(Enum):
    """How hash-field TTLs (Redis 7.4, Valkey 9) bear on a reply."""

    NONE = "not a hash"
    FIELDS = "of named fields: HPTTL tells their deadlines"
    WHOLE = "of the hash: only an encoding without field TTLs is safe for long"


class Plan(NamedTuple):
    """How to cache one read. `pieces` is non-empty for MGET and EXISTS of several keys."""

    name: bytes  # upper case
    keys: tuple[bytes, ...]
    canonical: bytes  # the request in RESP, command name upper case
    missing: bytes  # RESP3 reply while the key is missing (of one piece, for several keys)
    fields: tuple[bytes, ...]  # named hash fields, for HPTTL
    hash_read: HashRead
    pieces: tuple[bytes, ...]  # canonical single-key request per key, in order


class _Rule(NamedTuple):
    args_min: int  # with the command name
    args_max: int  # 0: any number
    missing: Callable[[Sequence[bytes]], bytes]
    hash_read: HashRead = HashRead.NONE
    first_field: int = 0
    one_field: bool = True


def read_keys(argv: Sequence[bytes]) -> Sequence[bytes]:
    """The keys of a cacheable read."""
    return argv[1:] if argv[0].upper() in (b"MGET", b"EXISTS") else argv[1:2]


def request(args: Sequence[bytes]) -> bytes:
    """The request as an array of bulk strings. Source: Redis serialization protocol
    specification.
    """
    if len(args) == 2:  # nearly every fill: one formatting instead of a list and a join
        name, key = args
        return b"*2\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(name), name, len(key), key)
    parts = [b"*%d\r\n" % len(args)]
    parts += [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
    return b"".join(parts)


def plan(argv: Sequence[bytes]) -> Plan | None:
    """How to cache this read, or None when it must not be cached (or cannot be a valid call)."""
    if not argv:
        return None
    name = argv[0].upper()
    rule = _RULES.get(name)
    if rule is None or len(argv) < rule.args_min:
        return None
    if rule.args_max and len(argv) > rule.args_max:
        return None
    if name in _PER_KEY and (name == b"MGET" or len(argv) > 2):
        return _plan_of_pieces(name, tuple(argv[1:]))
    fields: tuple[bytes, ...] = ()
    if rule.first_field:
        fields = tuple(argv[rule.first_field : rule.first_field + 1 if rule.one_field else None])
    return Plan(
        name=name,
        keys=(argv[1],),
        canonical=request([name, *argv[1:]]),
        missing=rule.missing(argv),
        fields=fields,
        hash_read=rule.hash_read,
        pieces=(),
    )


def piece_name(name: bytes) -> bytes:
    """The command whose reply is one piece of this one's.

    A piece of MGET is the GET of its key: equal replies while the key is a string or missing, and a
    nil for a key of another type is told by its PTTL and never stored.
    """
    return b"GET" if name == b"MGET" else name


def assembled(name: bytes, replies: list[bytes]) -> bytes:
    """The reply to MGET or EXISTS from one reply per key, in either RESP version."""
    if name == b"MGET":
        return b"*%d\r\n" % len(replies) + b"".join(replies)
    return b":%d\r\n" % sum(int(reply[1:-2]) for reply in replies)


def _plan_of_pieces(name: bytes, keys: tuple[bytes, ...]) -> Plan:
    piece = piece_name(name)
    return Plan(
        name=name,
        keys=keys,
        canonical=request([name, *keys]),
        missing=NIL if name == b"MGET" else ZERO,
        fields=(),
        hash_read=HashRead.NONE,
        pieces=tuple(request([piece, key]) for key in keys),
    )


def _always(reply: bytes) -> Callable[[Sequence[bytes]], bytes]:
    return lambda argv: reply


def _per_argument(reply: bytes) -> Callable[[Sequence[bytes]], bytes]:
    return lambda argv: b"*%d\r\n" % (len(argv) - 2) + reply * (len(argv) - 2)


def _bitpos(argv: Sequence[bytes]) -> bytes:
    return b":-1\r\n" if argv[2] == b"1" else ZERO


def _lpos(argv: Sequence[bytes]) -> bytes:
    return EMPTY_ARRAY if any(arg.upper() == b"COUNT" for arg in argv[3::2]) else NIL


_nil, _zero = _always(NIL), _always(ZERO)
_empty_string, _empty_array = _always(EMPTY_STRING), _always(EMPTY_ARRAY)

_PER_KEY = frozenset({b"MGET", b"EXISTS"})

_RULES: dict[bytes, _Rule] = {
    b"GET": _Rule(2, 2, _nil),
    b"MGET": _Rule(2, 0, _nil),
    b"EXISTS": _Rule(2, 0, _zero),
    b"STRLEN": _Rule(2, 2, _zero),
    b"GETRANGE": _Rule(4, 4, _empty_string),
    b"SUBSTR": _Rule(4, 4, _empty_string),
    b"GETBIT": _Rule(3, 3, _zero),
    b"BITCOUNT": _Rule(2, 5, _zero),
    b"BITPOS": _Rule(3, 6, _bitpos),
    b"TYPE": _Rule(2, 2, _always(b"+none\r\n")),
    b"HGET": _Rule(3, 3, _nil, HashRead.FIELDS, 2),
    b"HMGET": _Rule(3, 0, _per_argument(NIL), HashRead.FIELDS, 2, one_field=False),
    b"HEXISTS": _Rule(3, 3, _zero, HashRead.FIELDS, 2),
    b"HSTRLEN": _Rule(3, 3, _zero, HashRead.FIELDS, 2),
    b"HLEN": _Rule(2, 2, _zero, HashRead.WHOLE),
    b"HKEYS": _Rule(2, 2, _empty_array, HashRead.WHOLE),
    b"HVALS": _Rule(2, 2, _empty_array, HashRead.WHOLE),
    b"HGETALL": _Rule(2, 2, _always(EMPTY_MAP), HashRead.WHOLE),
    b"SISMEMBER": _Rule(3, 3, _zero),
    b"SMISMEMBER": _Rule(3, 0, _per_argument(ZERO)),
    b"SCARD": _Rule(2, 2, _zero),
    b"SMEMBERS": _Rule(2, 2, _always(EMPTY_SET)),
    b"LLEN": _Rule(2, 2, _zero),
    b"LINDEX": _Rule(3, 3, _nil),
    b"LRANGE": _Rule(4, 4, _empty_array),
    b"LPOS": _Rule(3, 9, _lpos),
    b"ZSCORE": _Rule(3, 3, _nil),
    b"ZMSCORE": _Rule(3, 0, _per_argument(NIL)),
    b"ZCARD": _Rule(2, 2, _zero),
    b"ZCOUNT": _Rule(4, 4, _zero),
    b"ZLEXCOUNT": _Rule(4, 4, _zero),
    b"ZRANK": _Rule(3, 4, _nil),
    b"ZREVRANK": _Rule(3, 4, _nil),
    b"ZRANGE": _Rule(4, 10, _empty_array),
    b"ZRANGEBYSCORE": _Rule(4, 8, _empty_array),
    b"ZRANGEBYLEX": _Rule(4, 7, _empty_array),
    b"ZREVRANGE": _Rule(4, 5, _empty_array),
    b"ZREVRANGEBYSCORE": _Rule(4, 8, _empty_array),
    b"ZREVRANGEBYLEX": _Rule(4, 7, _empty_array),
    b"XLEN": _Rule(2, 2, _zero),
    b"XRANGE": _Rule(4, 6, _empty_array),
    b"XREVRANGE": _Rule(4, 6, _empty_array),
}

COMMANDS = frozenset(_RULES)

_COUNTERS = frozenset(
    {b"INCR", b"INCRBY", b"INCRBYFLOAT", b"DECR", b"DECRBY", b"HINCRBY", b"HINCRBYFLOAT"}
    | {b"ZINCRBY", b"SETNX", b"MSETNX", b"HSETNX", b"GETSET", b"SETBIT", b"BITFIELD"}
)


def locks_or_counts(argv: Sequence[bytes]) -> bool:
    """True for writes whose keys must never be served stale: counters, and locks (SET NX).

    Source: reference/redis.md, 2.15.
    """
    name = argv[0].upper()
    if name == b"SET":
        return any(arg.upper() in (b"NX", b"GET") for arg in argv[3:])
    return name in _COUNTERS


class KeyFilter:
    """Redis-style globs (`*`, `?`, `[a-z]`, `[^a]`, backslash) that decide per key."""

    def __init__(self, include: Sequence[bytes], exclude: Sequence[bytes]) -> None:
        self.trivial = b"*" in include and not exclude  # wants every key
        self._include = None if b"*" in include else _any_of(include)
        self._exclude = _any_of(exclude) if exclude else None

    def wants(self, key: bytes) -> bool:
        """True when some include pattern matches the whole key and no exclude pattern does."""
        if self._include is not None and self._include.fullmatch(key) is None:
            return False
        return self._exclude is None or self._exclude.fullmatch(key) is None


def _any_of(patterns: Sequence[bytes]) -> re.Pattern[bytes]:
    # no pattern at all matches nothing: the empty character class says so
    return re.compile(b"|".join(_regex(pattern) for pattern in patterns) or rb"[^\x00-\xff]", re.S)


def _regex(glob: bytes) -> bytes:
    """The regular expression for one glob. Source: stringmatchlen, as documented at KEYS."""
    out, at = b"", 0
    while at < len(glob):
        char = glob[at : at + 1]
        if char == b"*":
            out += b".*"
        elif char == b"?":
            out += b"."
        elif char == b"[":
            piece, at = _char_class(glob, at)
            out += piece
        else:
            if char == b"\\" and at + 1 < len(glob):
                at += 1
            out += re.escape(glob[at : at + 1])
        at += 1
    return out


def _char_class(glob: bytes, at: int) -> tuple[bytes, int]:
    """(regular expression, offset of the closing bracket). An unclosed class runs to the end."""
    at += 1
    negated = glob[at : at + 1] == b"^"
    at += negated
    members: list[bytes] = []
    while at < len(glob) and glob[at : at + 1] != b"]":
        if glob[at : at + 1] == b"\\" and at + 1 < len(glob):
            at += 1
            members.append(re.escape(glob[at : at + 1]))
        elif glob[at + 1 : at + 2] == b"-" and at + 2 < len(glob):
            low, high = sorted((glob[at : at + 1], glob[at + 2 : at + 3]))
            members.append(re.escape(low) + b"-" + re.escape(high))
            at += 2
        else:
            members.append(re.escape(glob[at : at + 1]))
        at += 1
    if not members:
        return (b"." if negated else rb"[^\x00-\xff]"), at
    return b"[" + (b"^" if negated else b"") + b"".join(members) + b"]", at
