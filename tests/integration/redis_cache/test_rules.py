"""The laws against a real Redis: expiry, missing keys, flushes, swapped databases, eviction,
permissions.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from proxy.demo.servers import RedisServer
from proxy.redis.protocol.actions import CacheOptions, Out, Phase
from proxy.redis.protocol.cache import Cache
from proxy.redis.protocol.flights import Flight
from tests.integration.redis_cache.driver import Driver, driving
from tests.wire_redis import RedisWire, command

pytestmark = pytest.mark.servers

MakeRedis = Callable[..., RedisServer]
OPTIONS = CacheOptions()


@pytest.fixture
def server(make_redis: MakeRedis) -> RedisServer:
    return make_redis()


@pytest.fixture
def external(server: RedisServer) -> Iterator[RedisWire]:
    with RedisWire.connect(("127.0.0.1", server.port)) as wire:
        yield wire


@pytest.fixture
def driver(server: RedisServer) -> Iterator[Driver]:
    with driving(server) as made:
        yield made


def test_one_read_upstream_for_fourteen(driver: Driver, external: RedisWire) -> None:
    external.ask("SET", "user:42", "x")
    for _ in range(14):
        assert driver.read("GET", "user:42") == b"$1\r\nx\r\n"
    assert driver.upstream_reads == 1


def test_one_read_upstream_for_a_missing_key_until_somebody_sets_it(
    driver: Driver, external: RedisWire
) -> None:
    for _ in range(14):
        assert driver.read("GET", "membership:42") == b"_\r\n"
    assert driver.upstream_reads == 1
    external.ask("SET", "membership:42", "yes")
    driver.settle()
    assert driver.read("GET", "membership:42") == b"$3\r\nyes\r\n"
    driver.write("SET", "membership:42", "no", keys=(b"membership:42",))
    assert driver.read("GET", "membership:42") == b"$2\r\nno\r\n"


def test_lower_case_is_the_same_entry(driver: Driver, external: RedisWire) -> None:
    external.ask("SET", "k", "v")
    driver.read("GET", "k")
    assert driver.read("get", "k") == b"$1\r\nv\r\n"
    assert driver.last == "answer"
    assert driver.read("get", "k") == b"$1\r\nv\r\n"
    assert driver.last == "hit"
    assert driver.upstream_reads == 1


def test_an_expired_value_is_not_served_although_the_server_keeps_silent(
    driver: Driver, external: RedisWire
) -> None:
    external.ask("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    external.ask("SET", "k", "v", "PX", 150)
    assert driver.read("GET", "k") == b"$1\r\nv\r\n"
    assert driver.read("GET", "k") == b"$1\r\nv\r\n"
    assert driver.last == "hit"
    driver.settle_for(0.2)
    assert driver.read("GET", "k") == b"_\r\n"
    assert driver.last == "T"


@pytest.mark.timeout(120)
def test_short_ttls_among_many_long_ones(server: RedisServer, external: RedisWire) -> None:
    """The server notices expiry late when long TTLs hide the short ones; the cache must not."""
    script = "for i=1,100000 do redis.call('SET','long:'..i,i,'EX',3600) end"
    external.ask("EVAL", script, 0)
    with driving(server, replace(OPTIONS, lease_s=5.0)) as driver:
        for i in range(200):
            external.ask("SET", f"short:{i}", "v", "PX", 400)
        dead_s = time.monotonic() + 0.4
        for i in range(200):
            driver.read("GET", f"short:{i}")
        driver.settle_for(dead_s + 0.02 - time.monotonic())
        for i in range(200):
            assert driver.read("GET", f"short:{i}") == b"_\r\n"


def test_ttl_changes_are_changes(driver: Driver, external: RedisWire) -> None:
    external.ask("SET", "k", "v", "EX", 1000)
    driver.read("GET", "k")
    external.ask("PEXPIRE", "k", 100)
    driver.settle()
    assert driver.read("GET", "k") == b"$1\r\nv\r\n"
    time.sleep(0.12)
    driver.settle()
    assert driver.read("GET", "k") == b"_\r\n"


def test_flushall_from_anywhere_drops_everything(driver: Driver, external: RedisWire) -> None:
    external.ask("MSET", "a", 1, "b", 2)
    driver.read("MGET", "a", "b")
    assert len(driver.cache.store) == 2
    external.ask("FLUSHALL")
    driver.settle()
    assert len(driver.cache.store) == 0
    assert driver.read("GET", "a") == b"_\r\n"


def test_a_flush_of_another_database_drops_everything_too(
    driver: Driver, external: RedisWire
) -> None:
    driver.read("GET", "a")
    external.ask("SELECT", 5)
    external.ask("FLUSHDB")
    driver.settle()
    assert len(driver.cache.store) == 0


def swapped_by_others(driver: Driver, external: RedisWire) -> bytes:
    """What is read a lease after databases were swapped beside the proxy."""
    external.ask("SET", "k", "before")
    driver.read("GET", "k")
    external.ask("SWAPDB", 0, 1)
    driver.settle()
    assert driver.read("GET", "k") == b"$6\r\nbefore\r\n"  # no invalidation (exp 1, 9)
    driver.settle_for(driver.cache.options.lease_s + 0.05)
    return driver.read("GET", "k")


def test_swapdb_of_a_third_party_is_seen_within_the_lease(
    driver: Driver, external: RedisWire
) -> None:
    """W8. If the second read of `swapped_by_others` fails, Redis has learnt to tell."""
    assert swapped_by_others(driver, external) == b"_\r\n"


def test_without_w8_it_is_not(server: RedisServer, external: RedisWire) -> None:
    class NoW8(Cache):
        """The answers about swaps are not looked at."""

        def _swaps_told(self, frame: bytes, flight: Flight, out: Out) -> None:
            self.lease.unswapped(flight.sent_s)

    with driving(server, cache=NoW8) as driver:
        assert swapped_by_others(driver, external) == b"$6\r\nbefore\r\n"


def test_swapdb_through_the_proxy_is_seen_at_once(driver: Driver, external: RedisWire) -> None:
    external.ask("SET", "k", "before")
    driver.read("GET", "k")
    driver.partitions.flushing()  # W5
    external.ask("SWAPDB", 0, 1)
    driver.partitions.flushed()
    assert driver.read("GET", "k") == b"_\r\n"


def test_a_user_without_info_cannot_see_swaps(server: RedisServer, external: RedisWire) -> None:
    """The cache works, and ttl_s is the bound (docs/guarantees.md)."""
    external.ask("ACL", "SETUSER", "blind", "on", ">pw", "~*", "+@all", "-info")
    with driving(server, login=("blind", "pw")) as driver:
        assert driver.caching
        assert driver.cache.swaps.seen is None
        assert swapped_by_others(driver, external) == b"$6\r\nbefore\r\n"


def test_eviction_by_maxmemory_and_by_the_tracking_table(
    driver: Driver, external: RedisWire
) -> None:
    for i in range(20):
        external.ask("SET", f"k{i}", "v")
        driver.read("GET", f"k{i}")
    assert len(driver.cache.store) == 20
    external.ask("CONFIG", "SET", "tracking-table-max-keys", 5)
    driver.read("GET", "another")
    driver.settle()
    left = len(driver.cache.store)
    assert left < 20
    external.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    external.ask("CONFIG", "SET", "maxmemory", 1)
    external.ask("SET", "more", "v")
    driver.settle()
    assert len(driver.cache.store) < left


def test_mget_is_one_picture_and_asks_only_for_what_is_missing(
    driver: Driver, external: RedisWire
) -> None:
    external.ask("MSET", "a", 1, "b", 2, "c", 3)
    driver.read("GET", "a")
    driver.read("GET", "b")
    assert driver.read("MGET", "a", "b", "c") == b"*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"
    assert driver.fills == 3
    assert driver.read("MGET", "c", "a", "a") == b"*3\r\n$1\r\n3\r\n$1\r\n1\r\n$1\r\n1\r\n"
    assert driver.last == "answer"
    assert driver.read("GET", "c") == b"$1\r\n3\r\n"
    assert driver.last == "hit"


def test_mget_with_a_change_on_its_way_is_read_again_as_a_whole(
    driver: Driver, external: RedisWire
) -> None:
    external.ask("MSET", "a", "old", "b", "old")
    driver.read("GET", "a")
    external.ask("MSET", "a", "new", "b", "new")  # its push waits unread in T's socket
    assert driver.read("MGET", "a", "b") == b"*2\r\n$3\r\nnew\r\n$3\r\nnew\r\n"
    assert driver.partitions.insight.torn_refetches == 1


def test_a_list_is_nil_for_mget_and_an_error_for_get(driver: Driver, external: RedisWire) -> None:
    external.ask("RPUSH", "list", "x")
    assert driver.read("MGET", "list", "none") == b"*2\r\n_\r\n_\r\n"
    assert driver.read("GET", "list").startswith(b"-WRONGTYPE")
    assert driver.read("GET", "none") == b"_\r\n"
    assert driver.last == "hit"


def test_exists_of_several_keys_fills_each(driver: Driver, external: RedisWire) -> None:
    external.ask("MSET", "a", 1, "b", 2)
    assert driver.read("EXISTS", "a", "b", "c", "a") == b":3\r\n"
    assert driver.read("EXISTS", "a") == b":1\r\n"
    assert driver.last == "hit"
    assert driver.read("EXISTS", "c") == b":0\r\n"
    assert driver.last == "hit"
    external.ask("DEL", "a")
    driver.settle()
    assert driver.read("EXISTS", "a", "b", "c", "a") == b":1\r\n"


def test_a_script_with_undeclared_keys_is_fenced(driver: Driver, external: RedisWire) -> None:
    external.ask("SET", "k", "old")
    for _ in range(50):
        driver.read("GET", "k")
        value = external.ask("EVAL", "redis.call('INCR','n') return redis.call('INCR','k2')", 0)
        assert value.startswith(b":")
        external.ask("EVAL", "return redis.call('SET','k',redis.call('GET','n'))", 0)
        for _, data in driver.partitions.fence_all(driver.now_s):
            driver._to_tracking(data)
        assert driver.read("GET", "k") == external.ask("GET", "k")


def test_a_reader_is_fenced_by_itself(driver: Driver, external: RedisWire) -> None:
    external.ask("SET", "k", "old")
    driver.read("GET", "k")
    external.ask("SET", "k", "new")
    reader = driver.readers[3]
    data = reader.fence(driver.now_s)
    assert reader.hit(command("GET", "k"), driver.now_s) is None
    driver._to_tracking(data)
    assert driver.read("GET", "k") == b"$3\r\nnew\r\n"


def test_the_link_is_killed(driver: Driver, external: RedisWire) -> None:
    external.ask("SET", "k", "old")
    driver.read("GET", "k")
    driver.lose_tracking()
    external.ask("SET", "k", "new")
    assert driver.read("GET", "k") == b"$3\r\nnew\r\n"
    assert driver.last == "no_link"
    driver.open_tracking()
    assert driver.read("GET", "k") == b"$3\r\nnew\r\n"
    assert driver.last == "T"


def test_a_user_who_may_not_track_is_served_uncached(make_redis: MakeRedis) -> None:
    server = make_redis(users={"plain": ">pw ~* +@read +@connection -client|tracking"})
    with driving(server, login=("plain", "pw")) as driver:
        assert driver.cache.phase is Phase.REFUSED
        assert "permissions" in driver.cache.refusal
        assert driver.read("GET", "k") == b"_\r\n"
        assert driver.last == "refused"


@pytest.mark.parametrize("forbidden", ["-client|caching", "-pttl"])
def test_a_user_who_may_not_fill_is_served_uncached(make_redis: MakeRedis, forbidden: str) -> None:
    server = make_redis(users={"plain": f">pw ~* +@read +@connection {forbidden}"})
    with driving(server, login=("plain", "pw")) as driver:
        assert driver.caching
        assert driver.read("GET", "k") == b"_\r\n"
        assert driver.last == "fell back"
        assert driver.cache.phase is Phase.REFUSED
        assert driver.read("GET", "k") == b"_\r\n"
        assert driver.last == "refused"


def test_a_key_the_user_may_not_read_is_refused_every_time(make_redis: MakeRedis) -> None:
    server = make_redis(users={"plain": ">pw ~open:* +@read +@connection"})
    with driving(server, login=("plain", "pw")) as driver:
        for _ in range(2):
            assert driver.read("GET", "closed").startswith(b"-NOPERM")
            assert driver.read("GET", "open:1") == b"_\r\n"
        assert driver.last == "hit"


def test_stale_replies_only_where_enabled(server: RedisServer, external: RedisWire) -> None:
    external.ask("SET", "k", "v")
    external.ask("SET", "lock", "me")
    raw, argv = command("GET", "k"), [b"GET", b"k"]
    for stale_max_s in (0.0, 30.0):
        with driving(server, replace(OPTIONS, stale_max_s=stale_max_s)) as driver:
            driver.partitions.writing(0, (b"lock",), no_stale=True)
            driver.partitions.written(0, (b"lock",))
            driver.read("GET", "k")
            driver.read("GET", "lock")
            driver.lose_tracking()
            reader = driver.readers[3]
            assert reader.hit(raw, driver.now_s) is None
            expected = b"$1\r\nv\r\n" if stale_max_s else None
            assert reader.stale(raw, argv, driver.now_s) == expected
            assert reader.stale(raw, argv, driver.now_s + 31) is None
            lock = [b"GET", b"lock"]
            assert reader.stale(command("GET", "lock"), lock, driver.now_s) is None
            driver.open_tracking()
            assert reader.stale(raw, argv, driver.now_s) is None
