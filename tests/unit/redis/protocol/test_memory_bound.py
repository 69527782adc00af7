"""Memory stays under `max_bytes` whatever is read: far more distinct keys than there is room for.

BACKSTAY_FULL=1 reads a million of them.
"""

import gc
import os
import tracemalloc
from collections.abc import Iterable

import pytest

from proxy.redis.protocol.actions import CacheOptions, Wait
from tests.unit.redis.protocol.cache_kit import NIL, OK, Kit
from tests.wire_redis import command

FULL = bool(os.environ.get("BACKSTAY_FULL"))
KEYS = 1_000_000 if FULL else 50_000
MAX_BYTES = 2 << 20
# What is no entry: flights, sketches of keys, what was too big; and the interpreter's own rounding.
BESIDES_BYTES = 512 << 10


def read_once(kit: Kit, numbers: Iterable[int]) -> None:
    """Distinct keys, each read once: missing ones, small and large values, several spellings."""
    cache, now_s = kit.cache, kit.now_s
    readers = (kit.a, kit.old)
    for number in numbers:
        name = b"get" if number % 3 else b"GET"
        key = b"user:%d" % number
        argv = [name, key]
        asked = readers[number & 1].read(command(*argv), argv, number, now_s)
        assert isinstance(asked, Wait)
        if number % 5:
            value = b"v" * (number % 97 if number % 50 else 3000)
            out = cache.frames((OK, b"$%d\r\n%b\r\n" % (len(value), value), b":-1\r\n"), now_s)
        else:
            out = cache.frames((OK, NIL, b":-2\r\n"), now_s)
        assert len(out.answers) == 1


@pytest.mark.timeout(600 if FULL else 60)
def test_memory_stays_under_its_bound() -> None:
    """By the budget's own count at all times, and by what the interpreter has really taken."""
    kit = Kit(CacheOptions(max_bytes=MAX_BYTES, max_entry_bytes=2048))
    budget = kit.partitions.budget
    step = 1000
    for first in range(0, KEYS, step):
        read_once(kit, range(first, first + step))
        assert budget.used_bytes <= MAX_BYTES
        kit.now_s += 0.001  # the broom and the deadlines play no part
    assert budget.evicted > KEYS * 0.9
    assert budget.used_bytes > MAX_BYTES * 0.9
    assert len(kit.cache.store) <= 2 * budget.entries, "an entry, and at most another spelling"
    # Every entry of now is replaced while the interpreter counts: what it has then is all there is.
    gc.collect()
    tracemalloc.start()
    try:
        read_once(kit, range(KEYS, KEYS + 3 * budget.entries))
        gc.collect()
        taken_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert taken_bytes <= MAX_BYTES + BESIDES_BYTES
    assert taken_bytes > MAX_BYTES / 3, "the entries were counted"
