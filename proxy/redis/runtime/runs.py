"""Runs of commands that can be dealt with together: from the cache, or as one batch.

Free functions over a client's scanned commands: this is the hot path.
"""

from typing import TYPE_CHECKING

from proxy.redis.protocol.commands import (
    BULK,
    CACHEABLE,
    DATA,
    EFFECTS,
    KIND_MASK,
    MAYBE_BLOCKING,
    ONE_KEY,
    OPAQUE,
)
from proxy.redis.protocol.reader import Reader
from proxy.redis.protocol.values import first_arg, split_args
from proxy.redis.runtime.blocking import is_blocking
from proxy.redis.runtime.guard import Guard

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.reads import CachedReads


def hits(reader: Reader, chunk: bytes, now_s: float) -> tuple[bytes, bytes, int]:
    """(replies to what is cached from the chunk's start on, what is left of the chunk, how many).

    Nothing is parsed: a piece that equals a cached request is one, wherever it was cut, as no whole
    command is the beginning of another. So the cuts may be guesses.
    """
    hit = reader.hit
    reply = hit(chunk, now_s)
    if reply is not None:
        return reply, b"", 1
    position = 0
    replies: list[bytes] = []
    while True:
        cut = chunk.find(b"\r\n*", position) + 2
        piece = chunk[position:cut] if cut > 1 else chunk[position:]
        reply = hit(piece, now_s) if piece else None
        if reply is None:
            break
        replies.append(reply)
        position += len(piece)
    if not replies:
        return b"", chunk, 0
    return b"".join(replies), chunk[position:], len(replies)


def is_cacheable(client: "ClientConnection") -> bool:
    """True if the command at `at` is a read that the cache may answer."""
    marks, at = client.marks, client.at
    if marks[at + 1] < 0:
        return False
    route = client.route.table.route(client.buf[marks[at + 1] : marks[at + 2]])
    return bool(route & CACHEABLE)


def read_run(client: "ClientConnection", reads: "CachedReads") -> bool:
    """Reads through the cache, up to the first other command. False: one of them has to wait."""
    marks, buf, at = client.marks, client.buf, client.at
    table = client.route.table
    while at < len(marks) and marks[at + 1] >= 0:
        if not table.route(buf[marks[at + 1] : marks[at + 2]]) & CACHEABLE:
            break
        if not reads.read(buf[marks[at] : marks[at + 3]]):
            client.at = at
            return False
        at += 4
    client.at = at
    return True


def shared_run(client: "ClientConnection", cached: bool) -> tuple[int, int, Guard | None]:
    """(mark where it ends, DATA or BULK, guard of its writes) of the run of shared commands at
    `at`; it is empty if the first command is no such. `cached`: cacheable reads end it.
    """
    marks, buf, at = client.marks, client.buf, client.at
    table = client.route.table
    routes, guarded = table.routes, client.route.caches is not None
    bulk_from = client.limits.bulk_command_bytes
    first, end, kind = at, len(marks), DATA
    guard: Guard | None = None
    while at < end and marks[at + 1] >= 0:
        name_end, stop = marks[at + 2], marks[at + 3]
        name = buf[marks[at + 1] : name_end]
        route = routes.get(name)
        if route is None:
            route = table.route(name)
        this = route & KIND_MASK
        if this > BULK:
            if this != MAYBE_BLOCKING or is_blocking(split_args(buf, marks[at], stop)):
                break
            this = DATA
        if cached and route & CACHEABLE:
            break
        if this == BULK or stop - marks[at] > bulk_from:
            if at > first and kind == DATA:
                break
            kind = BULK
        if guarded and route & EFFECTS and stop > name_end + 2:
            guard = guard or Guard(client)
            if route & ONE_KEY and client.route.guards_simply:
                guard.add_key(first_arg(buf, name_end))
            else:
                guard.add(route, split_args(buf, marks[at], stop))
                if route & OPAQUE:
                    # Its fence stands before the run's last reply: it must be that one (W4).
                    return at + 4, kind, guard
        at += 4
    return at, kind, guard
