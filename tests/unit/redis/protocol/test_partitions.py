"""One budget and one set of barriers; users and databases share no entry, and every write reaches
all.
"""

import pytest

from proxy.redis.protocol.actions import Bypass, CacheOptions, Wait
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.insight import Bypassed
from proxy.redis.protocol.partitions import Partitions
from proxy.redis.protocol.reader import Reader
from tests.unit.redis.protocol.cache_kit import OK, SERVER, text
from tests.wire_redis import command

GET_K = command("GET", "k"), [b"GET", b"k"]
V1 = text("one")


@pytest.fixture
def partitions() -> Partitions:
    return Partitions(CacheOptions(max_bytes=20_000), lambda: 0.5)


def opened(partitions: Partitions, user: str, database: int) -> tuple[Cache, Reader]:
    cache = partitions.partition(user, database)
    cache.link_up(SERVER, 0.0)
    return cache, partitions.reader(cache, 3)


def fill(cache: Cache, reader: Reader, key: bytes = b"k") -> None:
    raw = command("GET", key)
    assert isinstance(reader.read(raw, [b"GET", key], "w", 0.0), Wait)
    cache.frames([OK, V1, b":-1\r\n"], 0.0)


def test_a_partition_is_made_once(partitions: Partitions) -> None:
    assert partitions.partition("ann", 0) is partitions.partition("ann", 0)
    made = {id(partitions.partition(user, db)) for user in ("ann", "bob") for db in (0, 1)}
    assert len(made) == 4
    assert len(partitions.caches()) == 4
    assert len(partitions.caches(1)) == 2
    assert partitions.caches(7) == ()


def test_users_and_databases_share_no_entry(partitions: Partitions) -> None:
    cache, reader = opened(partitions, "ann", 0)
    fill(cache, reader)
    assert reader.hit(GET_K[0], 0.0) == V1
    for user, db in (("bob", 0), ("ann", 1)):
        assert opened(partitions, user, db)[1].hit(GET_K[0], 0.0) is None


@pytest.mark.parametrize(("database", "spared"), [(0, True), (None, False)])
def test_a_write_reaches_every_user_of_its_database(
    partitions: Partitions, database: int | None, spared: bool
) -> None:
    readers = {}
    for user, db in (("ann", 0), ("bob", 0), ("ann", 1)):
        cache, readers[user, db] = opened(partitions, user, db)
        fill(cache, readers[user, db])
    partitions.writing(database, [b"k"])
    assert readers["ann", 0].hit(GET_K[0], 0.0) is None
    assert readers["bob", 0].hit(GET_K[0], 0.0) is None
    assert (readers["ann", 1].hit(GET_K[0], 0.0) is not None) is spared
    partitions.written(database, [b"k"])


def test_a_partition_that_opens_during_a_write_is_barred(partitions: Partitions) -> None:
    partitions.writing(0, [b"k"])
    _, reader = opened(partitions, "late", 0)
    assert reader.read(*GET_K, "w", 0.0) == Bypass(Bypassed.BARRIER)
    partitions.written(0, [b"k"])
    assert isinstance(reader.read(*GET_K, "w", 0.0), Wait)


def test_flushes_and_fences_reach_all(partitions: Partitions) -> None:
    caches = [opened(partitions, user, db) for user, db in (("ann", 0), ("bob", 3))]
    partitions.partition("without a link", 0)
    for cache, reader in caches:
        fill(cache, reader)
    assert len(partitions.fence_all(0.0)) == 2
    assert all(reader.hit(GET_K[0], 0.0) is None for _, reader in caches)
    partitions.flushing()
    assert partitions.budget.entries == 0
    partitions.flushed()


def test_one_budget(partitions: Partitions) -> None:
    ann, bob = opened(partitions, "ann", 0), opened(partitions, "bob", 0)
    for i in range(40):
        fill(*ann, b"a%d" % i)
        fill(*bob, b"b%d" % i)
    assert partitions.budget.used_bytes <= 20_000
    assert len(ann[0].store) + len(bob[0].store) == partitions.budget.entries
    partitions.discard("ann", 0)
    assert len(bob[0].store) == partitions.budget.entries
    assert len(partitions.caches(0)) == 1


def test_readers_have_their_own_numbers(partitions: Partitions) -> None:
    cache = partitions.partition("ann", 0)
    assert len({partitions.reader(cache, 2).id for _ in range(5)}) == 5


def test_a_report_over_all_partitions(partitions: Partitions) -> None:
    for user in ("ann", "bob"):
        cache, reader = opened(partitions, user, 0)
        fill(cache, reader)
        reader.hit(GET_K[0], 0.0)
    report = partitions.report()
    assert (report.hits, report.misses, report.negative_hits) == (2, 2, 0)
    assert report.top_keys == [(b"k", 4)]


def test_hits_of_a_partition_that_is_no_more_stay_counted(partitions: Partitions) -> None:
    cache = partitions.partition("ann", 3)
    cache.link_up(SERVER, 0.0)
    reader = partitions.reader(cache, 3)
    raw = command("GET", "k")
    reader.read(raw, [b"GET", b"k"], "w", 0.0)
    cache.frames([OK, b"_\r\n", b":-2\r\n"], 0.0)
    assert reader.hit(raw, 0.1) == b"_\r\n"
    before = partitions.report()
    assert (before.hits, before.negative_hits) == (1, 1)
    partitions.discard("ann", 3)
    after = partitions.report()
    assert (after.hits, after.negative_hits) == (1, 1)
