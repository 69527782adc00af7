"""What the model server's commands do. Free functions over a connection, found by name.

Owns: data commands. Must not know: sessions (`server`), who asks.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.simulation.redis.data import NEVER_S
from tests.simulation.redis.resp import Err, Simple

if TYPE_CHECKING:
    from tests.simulation.redis.server import Connection

Command = Callable[["Connection", list[bytes]], Any]
OK = Simple(b"OK")
WRONGTYPE = Err(b"WRONGTYPE Operation against a key holding the wrong kind of value")


def _typed(conn: "Connection", key: bytes, kind: type) -> Any:
    value = conn.data.get(conn.db, key)
    return value if value is None or isinstance(value, kind) else WRONGTYPE


def get(conn: "Connection", args: list[bytes]) -> Any:
    conn.reads(args[1:2])
    return _typed(conn, args[1], bytes)


def mget(conn: "Connection", args: list[bytes]) -> Any:
    conn.reads(args[1:])
    values = [conn.data.get(conn.db, key) for key in args[1:]]
    return [value if isinstance(value, bytes) else None for value in values]


def exists(conn: "Connection", args: list[bytes]) -> Any:
    conn.reads(args[1:])
    return sum(conn.data.get(conn.db, key) is not None for key in args[1:])


def pttl(conn: "Connection", args: list[bytes]) -> Any:
    return conn.data.ttl_ms(conn.db, args[1])


def lrange(conn: "Connection", args: list[bytes]) -> Any:
    conn.reads(args[1:2])
    return _typed(conn, args[1], list) or []


def llen(conn: "Connection", args: list[bytes]) -> Any:
    conn.reads(args[1:2])
    found = _typed(conn, args[1], list)
    return found if isinstance(found, Err) else len(found or ())


def set_(conn: "Connection", args: list[bytes]) -> Any:
    expires_s = NEVER_S
    if len(args) == 5:
        expires_s = conn.data.clock() + int(args[4]) / 1000
    conn.data.put(conn.db, args[1], args[2], expires_s)
    conn.data.ran(args[2])
    return OK


def mset(conn: "Connection", args: list[bytes]) -> Any:
    for key, value in zip(args[1::2], args[2::2], strict=True):
        conn.data.put(conn.db, key, value)
    conn.data.ran(args[2])
    return OK


def incr(conn: "Connection", args: list[bytes]) -> Any:
    key, data = args[1], conn.data
    value = _typed(conn, key, bytes)
    if isinstance(value, Err):
        return value
    number = int(value or b"0") + 1
    expires_s = data.dbs[conn.db][key][1] if value is not None else NEVER_S
    data.put(conn.db, key, b"%d" % number, expires_s)
    if key.startswith(b"once:"):
        data.ran(key)
    else:
        data.record.counted[conn.db, key] = data.record.counted.get((conn.db, key), 0) + 1
    return number


def delete(conn: "Connection", args: list[bytes]) -> Any:
    gone = 0
    for key in args[1:]:
        if conn.data.get(conn.db, key) is not None:
            conn.data.put(conn.db, key, None)
            gone += 1
    return gone


def pexpire(conn: "Connection", args: list[bytes]) -> Any:
    value = conn.data.get(conn.db, args[1])
    if value is None:
        return 0
    conn.data.put(conn.db, args[1], value, conn.data.clock() + int(args[2]) / 1000)
    return 1


def rpush(conn: "Connection", args: list[bytes]) -> Any:
    found = _typed(conn, args[1], list)
    if isinstance(found, Err):
        return found
    expires_s = conn.data.dbs[conn.db][args[1]][1] if found is not None else NEVER_S
    conn.data.put(conn.db, args[1], [*(found or ()), *args[2:]], expires_s)
    conn.data.ran(args[2])
    conn.data.pushed.append((conn.db, args[1]))
    return len(found or ()) + len(args) - 2


def pop(conn: "Connection", key: bytes) -> bytes | None:
    """The first element of a list."""
    found = conn.data.get(conn.db, key)
    if not isinstance(found, list):
        return None
    element: bytes = found[0]
    conn.data.put(conn.db, key, found[1:], conn.data.dbs[conn.db][key][1])
    popped = conn.data.record.popped
    popped[element] = popped.get(element, 0) + 1
    return element


def lpop(conn: "Connection", args: list[bytes]) -> Any:
    found = _typed(conn, args[1], list)
    return found if isinstance(found, Err) else pop(conn, args[1])


def blpop(conn: "Connection", args: list[bytes]) -> Any:
    for key in args[1:-1]:
        element = pop(conn, key)
        if element is not None:
            return [key, element]
    return conn.block(args[1:-1], float(args[-1]) or math.inf)


def eval_(conn: "Connection", args: list[bytes]) -> Any:
    """EVAL script numkeys [key] key value: SETs a key, declared or not."""
    key, value = args[-2:]
    conn.data.put(conn.db, key, value)
    conn.data.ran(value)
    return OK


def flushdb(conn: "Connection", args: list[bytes]) -> Any:
    conn.data.flush(conn.db)
    return OK


def flushall(conn: "Connection", args: list[bytes]) -> Any:
    conn.data.flush(None)
    return OK


def swapdb(conn: "Connection", args: list[bytes]) -> Any:
    conn.data.swap(int(args[1]), int(args[2]))
    conn.server.swapped()
    return OK


def publish(conn: "Connection", args: list[bytes]) -> Any:
    return conn.server.publish(args[1], args[2])


def ping(conn: "Connection", args: list[bytes]) -> Any:
    if conn.channels and conn.resp == 2:
        return [b"pong", args[1] if len(args) > 1 else b""]
    return args[1] if len(args) > 1 else Simple(b"PONG")


def echo(conn: "Connection", args: list[bytes]) -> Any:
    return args[1]


def info(conn: "Connection", args: list[bytes]) -> Any:
    text = b"# Commandstats\r\ncmdstat_info:calls=1,usec=1\r\n"
    if conn.server.swaps:
        text += b"cmdstat_swapdb:calls=%d,usec=9,usec_per_call=9.00\r\n" % conn.server.swaps
    return text


def whoami(conn: "Connection", args: list[bytes]) -> Any:
    return conn.user


def role(conn: "Connection", args: list[bytes]) -> Any:
    if conn.server.read_only:
        return [b"slave", b"127.0.0.1", 6379, b"connected", 0]
    return [b"master", 0, []]


READS: dict[bytes, Command] = {
    b"GET": get,
    b"MGET": mget,
    b"EXISTS": exists,
    b"PTTL": pttl,
    b"LRANGE": lrange,
    b"LLEN": llen,
}
WRITES: dict[bytes, Command] = {
    b"SET": set_,
    b"MSET": mset,
    b"INCR": incr,
    b"DEL": delete,
    b"PEXPIRE": pexpire,
    b"RPUSH": rpush,
    b"LPOP": lpop,
    b"BLPOP": blpop,
    b"EVAL": eval_,
    b"FLUSHDB": flushdb,
    b"FLUSHALL": flushall,
    b"SWAPDB": swapdb,
}
OTHERS: dict[bytes, Command] = {
    b"PUBLISH": publish,
    b"PING": ping,
    b"ECHO": echo,
    b"INFO": info,
    b"ACL": whoami,
    b"ROLE": role,
}
