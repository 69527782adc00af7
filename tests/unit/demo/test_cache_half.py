"""The Redis half: repeated reads are timed, wrong answers found, and errors counted."""

import pytest
import redis

from proxy.demo.cache_half import READS, CacheHalf, CacheSide, CacheTally


class Store:
    """Redis as far as the demo uses it. `stale`: what it answers for keys written twice."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.asked: list[str] = []
        self.stale: dict[str, str] = {}
        self.broken = False

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> str | None:
        if self.broken:
            raise redis.ConnectionError("Connection closed by server.")
        self.asked.append(key)
        return self.stale.get(key, self.values.get(key))


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> CacheSide:
    monkeypatch.setattr("proxy.demo.cache_half.LEASE_S", 0.01)
    made = CacheHalf(1).through
    made._behind = Store()
    return made


def test_a_request_reads_each_key_as_often_as_the_incident(side: CacheSide) -> None:
    store = side._behind
    side._request(store)
    assert store.asked == ["user:1"] * READS + ["membership:1"] * READS
    side._request(store)
    assert store.asked[2 * READS :] == [
        *["user:2"] * READS,
        *["membership:2"] * READS,
        "user:1",
    ]
    tally = side.tally
    assert (tally.requests, tally.reads, tally.errors) == (2, 4 * READS + 1, 0)
    assert tally.wrong == []
    assert len(tally.request_s) == 2
    assert len(tally.repeat_s) == 4 * (READS - 1)


def test_a_read_that_misses_a_write_is_wrong(side: CacheSide) -> None:
    store = side._behind
    side._request(store)
    store.stale["user:1"] = "member 1"  # renamed since
    side._request(store)
    assert side.tally.wrong == ["GET user:1: expected renamed, got member 1"]


def test_a_missing_key_that_is_found_is_wrong(side: CacheSide) -> None:
    side._behind.set("membership:1", "what?")
    side._request(side._behind)
    assert len(side.tally.wrong) == READS


def test_an_error_ends_the_request_and_is_counted(side: CacheSide) -> None:
    store = side._behind
    store.broken = True
    side._request(store)
    assert (side.tally.errors, side.tally.requests) == (1, 0)
    assert side.tally.last_error == "Connection closed by server."
    store.broken = False
    side._request(store)
    assert side.tally.requests == 1


def test_faults_are_those_of_the_proxys_side() -> None:
    half = CacheHalf(1)
    half.direct.tally.errors = 3
    half.direct.tally.wrong.append("anything")
    assert half.faults() == []
    half.through.tally.errors = 1
    half.through.tally.last_error = "gone"
    half.through.tally.wrong.append("GET a: expected b, got c")
    assert half.faults() == [
        "Redis: 1 errors, such as: gone",
        "Redis: 1 wrong answers, such as: GET a: expected b, got c",
    ]


def test_medians() -> None:
    tally = CacheTally()
    assert (tally.request_ms, tally.repeat_ms) == (0.0, 0.0)
    tally.request_s.extend([0.1, 0.2, 9.0])
    tally.repeat_s.extend([0.001, 0.002])
    assert tally.request_ms == pytest.approx(200)
    assert tally.repeat_ms == pytest.approx(1.5)
