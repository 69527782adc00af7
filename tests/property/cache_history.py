"""The named checks of the promise (reference/redis.md, 2.14) over a history and the server's own
versions.

Because the server is simulated, the truth is known: each reply must equal a version that was valid
at some instant inside the window its check allows. Every check gives the operations that break it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.property.cache_redis import Version
from tests.property.cache_world import PAIR, Op, World

Span = tuple[float, float]
EPSILON_S = 1e-9


def violations(world: World) -> dict[str, list[str]]:
    """Check name -> what broke it. Empty lists are left out."""
    found = {
        "C1 future": list(_future(world)),
        "C2 acknowledged": list(_acknowledged(world)),
        "C3 lease": list(_lease(world)),
        "C4 inversion": list(_inversion(world)),
        "C5 quiescence": list(_quiescence(world)),
        "C6 torn": list(_torn(world)),
        "C7 expired": list(_expired(world)),
        "C8 order": list(_order(world)),
        "barrier": list(_barrier(world)),
        "linearizable": list(_linearizable(world)),
        "answered": [f"{c.number}: {len(c.slots)}" for c in world.clients if c.slots or c.queue],
    }
    return {name: broken for name, broken in found.items() if broken}


def values(op: Op) -> list[bytes | None]:
    """What a GET or MGET said, per key."""
    lines = op.reply.split(b"\r\n")[:-1]
    if op.argv[0] == b"MGET":
        lines = lines[1:]
    out: list[bytes | None] = []
    at = 0
    while at < len(lines):
        nil = lines[at] in (b"_", b"$-1")
        out.append(None if nil else lines[at + 1])
        at += 1 if nil else 2
    return out


def spans(world: World, key: bytes, value: bytes | None) -> list[Span]:
    """When the key had this value."""
    return [(v.start_s, v.end_s) for v in world.redis.history(key) if v.value == value]


def picture(world: World, op: Op) -> list[Span]:
    """When all keys of a read had what it said, at once."""
    if op.argv[0] == b"EXISTS":
        return _exists_spans(world, op)
    both: list[Span] = [(-1.0, float("inf"))]
    for key, value in zip(op.keys, values(op), strict=True):
        both = [
            (max(a, c), min(b, d))
            for a, b in both
            for c, d in spans(world, key, value)
            if max(a, c) < min(b, d)
        ]
    return both


def _exists_spans(world: World, op: Op) -> list[Span]:
    edges = sorted(
        {t for k in op.keys for v in world.redis.history(k) for t in (v.start_s, v.end_s)}
    )
    told = int(op.reply[1:-2])
    out = []
    for a, b in pairwise(edges):
        there = sum(_at(world, key, a).value is not None for key in op.keys)
        if there == told:
            out.append((a, b))
    return out


def _at(world: World, key: bytes, when_s: float) -> Version:
    for version in world.redis.history(key):
        if version.start_s <= when_s < version.end_s:
            return version
    return Version(None, -1.0)


def _reads(world: World) -> list[Op]:
    return [op for op in world.history if op.is_read]


def _meets(where: list[Span], low_s: float, high_s: float) -> bool:
    return any(a <= high_s and b > low_s for a, b in where)


def _told(op: Op) -> str:
    return f"{op.client}.{op.batch} {op.argv} {op.reply!r} by {op.source} at {op.invoked_s:.4f}"


def _future(world: World) -> Iterator[str]:
    for op in _reads(world):
        if not _meets(picture(world, op), -2.0, op.completed_s) and op.argv[0] == b"GET":
            yield _told(op)


def _acknowledged(world: World) -> Iterator[str]:
    """Not older than any write acknowledged through the proxy before the read was invoked."""
    writes = [op for op in world.history if not op.is_read and op.source == "D"]
    by_key: dict[bytes, list[tuple[float, float]]] = defaultdict(list)
    for op in writes:
        keys = list(world.redis.versions) if op.argv[0] == b"FLUSHALL" else op.keys
        for key in keys:
            by_key[key].append((op.completed_s, world.redis.executed_s[op]))
    for op in _reads(world):
        if op.argv[0] == b"EXISTS":
            continue
        for key, value in zip(op.keys, values(op), strict=True):
            since = [done for acked, done in by_key[key] if acked < op.invoked_s]
            floor_s = max(since, default=-2.0)
            if not _meets(spans(world, key, value), floor_s, op.completed_s):
                yield f"{_told(op)} key {key!r} written at {floor_s:.4f}"


def _lease(world: World) -> Iterator[str]:
    """Some instant no older than the lease before the request."""
    for op in _reads(world):
        low_s = op.invoked_s - world.weather.lease_s - EPSILON_S
        if not _meets(picture(world, op), low_s, op.completed_s):
            yield _told(op)


def _linearizable(world: World) -> Iterator[str]:
    """With no writer beside the proxy and every key declared: true between request and reply.

    The server's own order of the writes is a linearization then, so no search is needed.
    """
    weather = world.weather
    if weather.external_writes or weather.script_share or weather.data_cuts:
        return
    for op in _reads(world):
        if not _meets(picture(world, op), op.invoked_s, op.completed_s):
            yield _told(op)


def _inversion(world: World) -> Iterator[str]:
    """No read sees an older version than a read that was over before it began."""
    by_key: dict[bytes, list[tuple[Op, float, float]]] = defaultdict(list)
    for op in _reads(world):
        if op.argv[0] == b"EXISTS":
            continue
        for key, value in zip(op.keys, values(op), strict=True):
            seen = [s for s in spans(world, key, value) if s[0] <= op.completed_s]
            # a missing key was missing often: count the spans that the lease could mean
            near = [s for s in seen if value is not None or s[1] >= op.invoked_s - 1.0]
            if near:
                by_key[key].append((op, min(near)[0], max(end_s for _, end_s in seen)))
    for key, reads in by_key.items():
        newest_s = -2.0
        ends = sorted(reads, key=lambda item: item[0].completed_s)
        at = 0
        for op, _, high_s in sorted(reads, key=lambda item: item[0].invoked_s):
            while at < len(ends) and ends[at][0].completed_s < op.invoked_s:
                newest_s = max(newest_s, ends[at][1])
                at += 1
            if high_s <= newest_s:
                yield f"{_told(op)} key {key!r}: a version from {newest_s:.4f} was seen before"


def _quiescence(world: World) -> Iterator[str]:
    now_s = world.clock.now_s
    for resp, entries in world.cache.store.maps.items():
        for raw, entry in entries.items():
            if now_s >= entry.deadline_s or not raw.startswith(b"*2\r\n$3\r\nGET"):
                continue
            value = world.redis.current(entry.key)
            nil = b"_\r\n" if resp == 3 else b"$-1\r\n"
            truth = nil if value is None else b"$%d\r\n%b\r\n" % (len(value), value)
            if entry.reply != truth:
                yield f"{entry.key!r}: {entry.reply!r} cached, {truth!r} true"


def _torn(world: World) -> Iterator[str]:
    """All values of one MGET were true at one instant; a pair written by MSET is equal."""
    for op in _reads(world):
        if op.argv[0] != b"MGET":
            continue
        uneven = op.argv[1:] == [*PAIR] and len(set(values(op))) != 1
        if uneven or not picture(world, op):
            yield _told(op)


def _expired(world: World) -> Iterator[str]:
    """A value past its own TTL when the read was invoked."""
    for op in _reads(world):
        if op.argv[0] == b"EXISTS":
            continue
        for key, value in zip(op.keys, values(op), strict=True):
            for version in world.redis.history(key) if value is not None else ():
                if version.value == value and version.expires_s <= op.invoked_s:
                    yield f"{_told(op)} key {key!r} ended at {version.expires_s:.4f}"


def _order(world: World) -> Iterator[str]:
    """The replies of one pipeline can be placed at instants that do not go back."""
    batches: dict[tuple[int, int], list[Op]] = defaultdict(list)
    for op in world.history:
        batches[op.client, op.batch].append(op)
    for ops in batches.values():
        now_s = -2.0
        for op in ops:
            if not op.is_read:
                done_s = world.redis.executed_s.get(op)
                if done_s is None or op.source != "D":
                    break  # never executed, or perhaps later: nothing to say about what follows
                now_s = max(now_s, done_s)
                continue
            places = [max(a, now_s) for a, b in picture(world, op) if b > now_s]
            places = [place for place in places if place <= op.completed_s]
            if not places:
                yield f"{_told(op)} after {now_s:.4f}"
                break
            now_s = min(places)


def _barrier(world: World) -> Iterator[str]:
    """From dispatch to answer of a write, no read of its key is served by the cache."""
    for write, since_s, until_s in world.barriers:
        for op in _reads(world):
            if op.source == "D" or not since_s < op.started_s < until_s:
                continue
            if set(op.keys) & set(write.keys):
                yield f"{_told(op)} while {write.argv} was on its way"
