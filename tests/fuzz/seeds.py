"""Streams to begin with, and what is done to them."""

import random

from proxy.postgres.protocol import messages as m
from tests import wire
from tests.corpus.model import Send
from tests.corpus.postgres import EXCHANGES
from tests.corpus.redis import GROUPS, Case

SEED_BYTES_MAX = 4_000

OWED = (
    wire.query("SELECT 1"),
    wire.query("BEGIN; INSERT INTO t VALUES (1); COMMIT"),
    wire.query("COPY t FROM STDIN"),
    wire.run("INSERT INTO t VALUES ($1)", "x") + wire.SYNC,
    wire.parse("SELECT 1", name="s") + wire.describe("S", "s") + wire.SYNC,
    wire.run("COPY t FROM STDIN") + wire.SYNC,
    wire.query("COMMIT"),
    wire.close("S", "s") + wire.SYNC,
    wire.parse("SELECT 1") + wire.query("SELECT 2"),
    wire.SYNC,
)
"""Units whose answers are owed while a server is played."""

_READY = [m.ready_for_query(status) for status in b"ITE"]
_FIELDS = {"S": "ERROR", "V": "ERROR", "C": "22012", "M": "division by zero"}
_LAST = {"S": "FATAL", "V": "FATAL", "C": "57P01", "M": "terminating connection"}
SERVER = (
    m.row_description(["a"]) + m.row([b"1"]) + m.command_complete("SELECT 1") + _READY[0],
    m.parse_complete() + m.bind_complete() + m.command_complete("INSERT 0 1") + _READY[0],
    m.error_response(_FIELDS) + _READY[2],
    m.command_complete("BEGIN") + _READY[1],
    m.message(b"G", b"\0\0\0") + m.command_complete("COPY 1") + _READY[0],
    m.parameter_status(b"TimeZone", b"UTC") + m.command_complete("SET") + _READY[0],
    m.close_complete() + _READY[0],
    m.empty_query() + _READY[0],
    m.notice_response({**_FIELDS, "S": "NOTICE", "V": "NOTICE"}),
    m.error_response(_LAST),
    m.message(b"H", b"\0\0\0") + m.message(b"d", b"row\n" * 50) + m.message(b"c"),
    m.message(b"A", b"\0\0\0\1channel\0payload\0"),
)
REDIS_SERVER = (
    b"+OK\r\n", b":1\r\n", b"$3\r\nabc\r\n", b"$-1\r\n", b"*2\r\n$1\r\na\r\n:2\r\n", b"_\r\n",
    b"%1\r\n+k\r\n+v\r\n", b">2\r\n+invalidate\r\n*1\r\n$1\r\na\r\n", b"-ERR no\r\n", b",1.5\r\n",
    b"#t\r\n", b"*?\r\n:1\r\n.\r\n", b"$?\r\n;2\r\nab\r\n;0\r\n", b"|1\r\n+a\r\n+b\r\n:1\r\n",
    b"=7\r\ntxt:abc\r\n", b"(123\r\n", b"*-1\r\n",
)  # fmt: skip
_NUMBERS = (b"\0\0\0\0", b"\0\0\0\3", b"\0\0\0\4", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff")


def _sent() -> tuple[bytes, ...]:
    found = []
    for subject in EXCHANGES:
        data = b"".join(step.data for step in subject.steps if isinstance(step, Send))
        found.append(data[:SEED_BYTES_MAX])
    return tuple(one for one in found if one)


def _command(case: Case) -> bytes:
    words = [word.encode() for word in case.words]
    bulks = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%s" % (len(words), bulks)


CLIENT = _sent()
REDIS_CLIENT = tuple(_command(case) for group in GROUPS.values() for case in group)
_WORDS = (
    "SHOW CLIENTS", "show stats; show pools", "PAUSE main", "KILL_CLIENT 17", "RELOAD", "begin",
    "set extra_float_digits = 3", "select version(), current_setting('jit')", "SHOW HELP",
    "KILL_CLIENT $1", "select oid from pg_type where oid = $1", "nonsense", "",
)  # fmt: skip
CONSOLE = (
    *(wire.query(text) for text in _WORDS),
    *(wire.run(text, "17") + wire.SYNC for text in _WORDS),
    *(wire.parse(text, name="s") + wire.describe("S", "s") + wire.SYNC for text in _WORDS),
    wire.parse("SHOW LISTS") + m.bind("p", "", (), (), (1,)) + wire.execute("p", 3) + wire.SYNC,
    wire.close("S", "s") + wire.SYNC,
)
SEEDS = {
    "console": CONSOLE,
    "gatherer": CLIENT,
    "expected": SERVER,
    "redis_commands": REDIS_CLIENT,
    "redis_replies": REDIS_SERVER,
}


def mutated(seeds: tuple[bytes, ...], rng: random.Random) -> bytes:
    """Some seeds in a row, damaged in up to four places."""
    data = bytearray(b"".join(rng.choice(seeds) for _ in range(rng.randint(1, 6))))
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[at : at + rng.randint(1, 20)]
            case 2:
                data[at:at] = rng.randbytes(rng.randint(1, 20))
            case 3:
                data[at : at + 4] = rng.choice(_NUMBERS)
            case 4:
                data[at:at] = rng.choice(seeds)
            case _:
                del data[at:]
    return bytes(data)
