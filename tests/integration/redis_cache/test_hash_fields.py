"""Field TTLs (Redis 7.4, Valkey 9): a field that ended is not served, whatever is pushed."""

from collections.abc import Iterator

import pytest

from proxy.demo.servers import RedisOptions, RedisServer
from tests.integration.redis_cache.driver import Driver, driving
from tests.integration.redis_cache.test_shapes import PROGRAMS
from tests.wire_redis import RedisWire

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", params=PROGRAMS, ids=lambda path: path.name)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    made = RedisServer(RedisOptions(program=request.param)).start()
    with RedisWire.connect(("127.0.0.1", made.port)) as wire:
        if wire.ask("HPTTL", "none", "FIELDS", 1, "f")[:1] == b"-":
            made.close()
            pytest.skip("this server has no field TTLs")
    yield made
    made.close()


@pytest.fixture
def driver(server: RedisServer) -> Iterator[Driver]:
    with driving(server) as made:
        made.data[3].ask("FLUSHALL")
        made.data[3].ask("HSET", "h", "short", "1", "long", "2")
        made.data[3].ask("HPEXPIRE", "h", 150, "FIELDS", 1, "short")
        made.data[3].ask("HSET", "plain", "f", "1")
        yield made


@pytest.mark.parametrize(
    ("words", "then"),
    [
        (("HGET", "h", "short"), b"_\r\n"),
        (("HMGET", "h", "short", "long"), b"*2\r\n_\r\n$1\r\n2\r\n"),
        (("HEXISTS", "h", "short"), b":0\r\n"),
        (("HSTRLEN", "h", "short"), b":0\r\n"),
    ],
)
def test_a_field_ends_with_its_own_ttl(driver: Driver, words: tuple[str, ...], then: bytes) -> None:
    driver.data[3].ask("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    assert driver.read(*words) != then
    driver.read(*words)
    assert driver.last == "hit"
    driver.settle_for(0.17)
    assert driver.read(*words) == then


def deadline_in_s(driver: Driver, key: bytes) -> float:
    entry = next(one for one in driver.cache.store.maps[3].values() if one.key == key)
    return entry.deadline_s - driver.now_s


@pytest.mark.parametrize("name", ["HGETALL", "HLEN", "HKEYS", "HVALS"])
def test_whole_hash_reads_are_kept_long_only_without_field_ttls(driver: Driver, name: str) -> None:
    driver.read(name, "h")
    driver.read(name, "plain")
    assert 0 < deadline_in_s(driver, b"h") <= 1.1
    assert 50 < deadline_in_s(driver, b"plain") <= 66


def test_a_missing_field_and_a_missing_hash(driver: Driver) -> None:
    assert driver.read("HGET", "h", "none") == b"_\r\n"
    assert driver.read("HGET", "none", "f") == b"_\r\n"
    assert deadline_in_s(driver, b"h") > 50
    assert deadline_in_s(driver, b"none") > 50
    driver.data[3].ask("HSET", "none", "f", "1")
    driver.settle()
    assert driver.read("HGET", "none", "f") == b"$1\r\n1\r\n"
