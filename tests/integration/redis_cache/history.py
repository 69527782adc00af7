"""A recorded history over real connections, and the named checks of the promise on it.

Every key has one writer, which waits for its answers; so the versions of a key are in order, and an
interval (invoked, completed) per operation is all a check needs. Where an outcome is unknown the
writer pauses until the server has certainly seen whatever was on its way.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.wire_redis import command, reply_end

SETTLE_S = 0.2
TTL_SLACK_S = 0.003  # Redis counts in whole milliseconds of its own clock


@dataclass(eq=False, slots=True)
class Op:
    """One command. `version` is what it wrote, `seen` what it read per key (None: nil)."""

    client: str
    batch: int
    words: tuple[str, ...]
    invoked_s: float
    completed_s: float = float("inf")
    reply: bytes = b""
    version: int = 0
    ttl_s: float = float("inf")
    seen: dict[str, int | None] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        if self.words[0] == "MSET":
            return self.words[1::2]
        return self.words[1:] if self.words[0] == "MGET" else self.words[1:2]

    @property
    def is_read(self) -> bool:
        return self.words[0] in ("GET", "MGET")

    @property
    def acknowledged(self) -> bool:
        return self.reply == b"+OK\r\n"

    def __str__(self) -> str:
        when = f"{self.invoked_s:.4f}..{self.completed_s:.4f}"
        return f"{self.client}.{self.batch} {' '.join(self.words)} {self.reply!r} {when}"


class Connection:
    """One client connection; commands of one call leave in one write."""

    def __init__(self, name: str, port: int, resp: int, history: list[Op]) -> None:
        self.name = name
        self.resp = resp
        self.batch = 0
        self._port = port
        self._history = history
        self._buffer = bytearray()

    async def open(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        if self.resp == 3:
            self._writer.write(command("HELLO", 3))
            assert (await self._reply())[:1] == b"%"
        return self

    def close(self) -> None:
        self._writer.close()

    async def ask(self, *lines: tuple[str, ...]) -> list[Op]:
        """A pipeline, recorded."""
        self.batch += 1
        now_s = time.monotonic()
        ops = [Op(self.name, self.batch, words, now_s) for words in lines]
        self._writer.write(b"".join(command(*op.words) for op in ops))
        for op in ops:
            op.reply = await self._reply()
            op.completed_s = time.monotonic()
            if op.is_read:
                op.seen = dict(zip(op.keys, _versions(op.reply), strict=False))
            self._history.append(op)
        return ops

    async def _reply(self) -> bytes:
        while (end := reply_end(self._buffer)) is None:
            data = await self._reader.read(65536)
            if not data:
                raise ConnectionError(f"{self.name}: the connection was closed")
            self._buffer += data
        raw = bytes(self._buffer[:end])
        del self._buffer[:end]
        return raw


def _versions(reply: bytes) -> list[int | None]:
    """The versions in a GET or MGET reply; nothing for an error."""
    if reply[:1] == b"-":
        return []
    lines = reply.split(b"\r\n")
    found: list[int | None] = []
    for line, following in zip(lines, [*lines[1:], b""], strict=True):
        if line in (b"_", b"$-1"):
            found.append(None)
        elif line[:1] == b"$":
            found.append(int(following))
    return found


class Writer:
    """Writes the versions of its keys, one after the other. MSET writes a pair in one step."""

    def __init__(self, connection: Connection, keys: list[str], rng: random.Random) -> None:
        self.connection = connection
        self.keys = keys
        self._rng = rng
        self._version = 0

    def next_write(self) -> tuple[tuple[str, ...], int, float]:
        """(words, version, TTL in seconds)."""
        self._version += 1
        value = str(self._version)
        key = self._rng.choice(self.keys)
        if key.startswith("pair"):
            return ("MSET", f"{key}:a", value, f"{key}:b", value), self._version, float("inf")
        if key.startswith("ttl"):
            ttl_ms = self._rng.randint(20, 150)
            return ("SET", key, value, "PX", str(ttl_ms)), self._version, ttl_ms / 1000
        return ("SET", key, value), self._version, float("inf")

    async def write(self, *around: tuple[str, ...]) -> None:
        """One write, with reads before and after it in the same pipeline."""
        words, version, ttl_s = self.next_write()
        before = around[: len(around) // 2]
        ops = await self.connection.ask(*before, words, *around[len(before) :])
        op = ops[len(before)]
        op.version, op.ttl_s = version, ttl_s
        if not op.acknowledged:
            await asyncio.sleep(SETTLE_S)  # what was on its way has arrived, or never will


def check(history: list[Op], lease_s: float) -> dict[str, list[str]]:
    """Check name -> what broke it; names without a violation are left out."""
    writes: dict[str, list[Op]] = defaultdict(list)
    reads: dict[str, list[Op]] = defaultdict(list)
    for op in history:
        for key in op.keys:
            if op.is_read and key in op.seen:
                reads[key].append(op)
            elif not op.is_read:
                writes[key].append(op)
    found: dict[str, list[str]] = defaultdict(list)
    for key, wrote in writes.items():
        wrote.sort(key=lambda op: op.version)
        by_version = {op.version: op for op in wrote}
        for name, broken in (
            ("C1 future", _future(key, reads[key], by_version)),
            ("C2 acknowledged", _acknowledged(key, reads[key], wrote, 0.0, external=False)),
            ("C3 lease", _acknowledged(key, reads[key], wrote, lease_s, external=True)),
            ("C4 inversion", _inversion(key, reads[key])),
            ("C7 expired", _expired(key, reads[key], by_version)),
            ("C7 missing", _missing(key, reads[key], wrote, lease_s)),
        ):
            found[name] += broken
    found["C6 torn"] += _torn(history)
    found["C8 order"] += _order(history)
    return {name: broken for name, broken in found.items() if broken}


def _future(key: str, reads: list[Op], by_version: dict[int, Op]) -> Iterator[str]:
    for op in reads:
        version = op.seen[key]
        if version is not None and by_version[version].invoked_s > op.completed_s:
            yield str(op)


def _acknowledged(
    key: str, reads: list[Op], writes: list[Op], lease_s: float, *, external: bool
) -> Iterator[str]:
    """No value older than one acknowledged `lease_s` before the read was invoked."""
    acked = [op for op in writes if op.acknowledged and (op.client == "external") is external]
    acked.sort(key=lambda op: op.completed_s)
    at, floor = 0, 0
    for op in sorted(reads, key=lambda op: op.invoked_s):
        while at < len(acked) and acked[at].completed_s < op.invoked_s - lease_s:
            floor = max(floor, acked[at].version)
            at += 1
        version = op.seen[key]
        if version is not None and version < floor:
            yield f"{op}: {key} was at {floor}"


def _inversion(key: str, reads: list[Op]) -> Iterator[str]:
    """No read sees an older version than a read that was over before it began."""
    ended = sorted(reads, key=lambda op: op.completed_s)
    at, newest = 0, 0
    for op in sorted(reads, key=lambda op: op.invoked_s):
        while at < len(ended) and ended[at].completed_s < op.invoked_s:
            newest = max(newest, ended[at].seen[key] or 0)
            at += 1
        version = op.seen[key]
        if version is not None and version < newest:
            yield f"{op}: {key} was seen at {newest}"


def _expired(key: str, reads: list[Op], by_version: dict[int, Op]) -> Iterator[str]:
    for op in reads:
        version = op.seen[key]
        if version is None:
            continue
        wrote = by_version[version]
        if op.invoked_s > wrote.completed_s + wrote.ttl_s + TTL_SLACK_S:
            yield f"{op}: ended {op.invoked_s - wrote.completed_s - wrote.ttl_s:.4f} s before"


def _missing(key: str, reads: list[Op], writes: list[Op], lease_s: float) -> Iterator[str]:
    """Nil although a version was there from before the lease until after the reply."""
    for op in reads:
        if op.seen[key] is not None:
            continue
        # only the newest that can have been there: a later one may have ended already
        for wrote in [one for one in writes if one.invoked_s < op.completed_s][-1:]:
            since_s = wrote.completed_s + (lease_s if wrote.client == "external" else 0.0)
            until_s = wrote.invoked_s + wrote.ttl_s - TTL_SLACK_S
            if wrote.acknowledged and since_s < op.invoked_s and op.completed_s < until_s:
                yield f"{op}: {key} was at {wrote.version}"


def _torn(history: list[Op]) -> Iterator[str]:
    for op in history:
        pair = [version for key, version in op.seen.items() if key.startswith("pair")]
        if len(pair) == 2 and pair[0] != pair[1]:
            yield str(op)


def _order(history: list[Op]) -> Iterator[str]:
    """Within one pipeline a client sees its own writes, and not those it has yet to make."""
    batches: dict[tuple[str, int], list[Op]] = defaultdict(list)
    for op in history:
        batches[op.client, op.batch].append(op)
    for ops in batches.values():
        for i, wrote in enumerate(ops):
            if wrote.is_read:
                continue
            for j, op in enumerate(ops):
                for key in set(op.seen) & set(wrote.keys):
                    version = op.seen[key] or 0
                    if j < i and version >= wrote.version:
                        yield f"{op}: {key} of its own future {wrote.version}"
                    ended = op.seen[key] is None and wrote.ttl_s < float("inf")
                    if j > i and wrote.acknowledged and version < wrote.version and not ended:
                        yield f"{op}: {key} before its own {wrote.version}"
