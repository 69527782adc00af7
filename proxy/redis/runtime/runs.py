"""Runs of commands that can be dealt with together: from the cache, or as one batch.

Free functions over a client's scanned commands: this is the hot path.
"""

from time import perf_counter
from typing import TYPE_CHECKING

from proxy.redis.protocol import quick
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
from proxy.redis.runtime.batch import Batch
from proxy.redis.runtime.blocking import is_blocking
from proxy.redis.runtime.guard import Guard, guard_keys
from proxy.redis.runtime.stream import WRITE_HIGH_BYTES

if TYPE_CHECKING:
    from proxy.redis.runtime.client import ClientConnection
    from proxy.redis.runtime.reads import CachedReads


SAMPLE_EVERY = 64  # of a client's chunks one is measured: what it costs is no share of a hit


def timed(client: "ClientConnection", chunk: bytes) -> None:
    """One chunk of SAMPLE_EVERY: as the others, and measured."""
    client.until_sample = SAMPLE_EVERY
    started_s = perf_counter()
    client.data_received(chunk)
    client.route.latency.proxy.observe(perf_counter() - started_s)


def hits(client: "ClientConnection", reader: Reader, chunk: bytes) -> bytes:
    """Answers what is cached from the chunk's start on. What is left of the chunk.

    Only for a client at rest (see there).
    """
    now_s = client.clock_s()
    counters = client.counters
    reply = reader.hit(chunk, now_s)
    if reply is not None:
        counters.commands += 1
        client.write(reply)
        return b""
    replies: list[bytes] = []
    answered = reader.run(chunk, now_s, replies, WRITE_HIGH_BYTES)
    if not answered:
        return chunk
    counters.commands += len(replies)
    client.write(b"".join(replies))
    return chunk[answered:]


def express(client: "ClientConnection", chunk: bytes) -> bool:
    """Sends a chunk that is nothing but ordinary commands for the data lane. False: it may be more.

    Only for a client that is quick (see there): nothing of what it sent waits.
    """
    lane, route, partition = client.lane, client.route, client.partition
    assert partition is not None
    if len(chunk) > client.limits.bulk_command_bytes or not partition.authenticated:
        return False
    if lane is None or not client.inflight:
        lane = client.lane = partition.data_lane(client.session.resp)
    elif lane.bulk:
        return False
    refused = 0
    keys: list[bytes] | None = None
    if route.caches is not None:
        keys = []
        refused = EFFECTS if route.guards_simply else EFFECTS | ONE_KEY
        if client.reads is not None and client.reads.is_usable:
            refused |= CACHEABLE
    commands = quick.count(chunk, route.table.heads, refused, keys)
    if not commands:
        return False
    client.counters.commands += commands
    batch = Batch(client, chunk, commands)
    if keys:
        batch.release = guard_keys(client, keys)
    client.send(lane, batch)
    return True


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
        if reads.unwritten_bytes > WRITE_HIGH_BYTES:
            reads.unwritten_bytes = 0
            client.write_out()
            if client.is_slow:  # the rest is answered when it has read this
                client.at = at
                return False
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
        if not route & KIND_MASK:
            quick.learn(table.heads, buf, marks[at : at + 4], route)
        if guarded and route & EFFECTS:
            guard = guard or Guard(client)
            if route & ONE_KEY and client.route.guards_simply:
                if stop > name_end + 2:  # else it is an error, as its key is missing
                    guard.add_key(first_arg(buf, name_end))
            else:  # also without an argument: FLUSHALL
                guard.add(route, split_args(buf, marks[at], stop))
                if route & OPAQUE:
                    # Its fence stands before the run's last reply: it must be that one (W4).
                    return at + 4, kind, guard
        at += 4
    return at, kind, guard
