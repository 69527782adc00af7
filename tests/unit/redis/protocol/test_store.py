"""Entries by request and by key: aliases, twins, drops, and what the insight hears."""

import pytest

from proxy.redis.protocol.cacheable import request
from proxy.redis.protocol.insight import Insight
from proxy.redis.protocol.sieve import Budget, Entry
from proxy.redis.protocol.store import ALIASES_MAX, Store, Value


@pytest.fixture
def budget() -> Budget:
    return Budget(1 << 20)


@pytest.fixture
def insight() -> Insight:
    return Insight()


@pytest.fixture
def store(budget: Budget, insight: Insight) -> Store:
    return Store(budget, insight)


def value(
    *words: bytes, reply: bytes = b"_\r\n", until_s: float = 10.0, negative: bool = False
) -> Value:
    return Value(words[1], request(words), reply, until_s, until_s, negative)


def put(store: Store, *words: bytes, resp: int = 3, until_s: float = 10.0) -> Entry:
    return store.put(resp, words[0], value(*words, until_s=until_s), 0.0)


def test_found_until_its_deadline(store: Store, budget: Budget) -> None:
    entry = put(store, b"GET", b"a")
    assert store.find(3, b"GET", entry.raw, 9.9) is entry
    assert store.find(3, b"GET", entry.raw, 10.0) is None
    assert not entry.live
    assert budget.entries == 0


def test_a_new_reply_replaces_the_old(store: Store, budget: Budget) -> None:
    old, new = put(store, b"GET", b"a"), put(store, b"GET", b"a")
    assert not old.live
    assert store.find(3, b"GET", new.raw, 0.0) is new
    assert budget.entries == 1


def test_a_resp2_reader_is_served_what_a_resp3_reader_filled(store: Store) -> None:
    filled = put(store, b"GET", b"a")
    twin = store.find(2, b"GET", filled.raw, 0.0)
    assert twin is not None
    assert (twin.reply, twin.deadline_s) == (b"$-1\r\n", 10.0)
    assert store.find(2, b"GET", filled.raw, 0.0) is twin
    assert store.find(2, b"GET", filled.raw, 10.0) is None
    assert store.find(2, b"GET", filled.raw, 10.0) is None


def test_not_the_other_way_round(store: Store) -> None:
    filled = put(store, b"GET", b"a", resp=2)
    assert store.find(3, b"GET", filled.raw, 0.0) is None


def test_a_twin_too_large_to_stay_is_no_twin(insight: Insight) -> None:
    store = Store(Budget(1500), insight)
    entry = store.put(3, b"GET", value(b"GET", b"a", reply=b"$600\r\n" + b"x" * 600), 0.0)
    assert store.find(2, b"GET", entry.raw, 0.0) is None or not entry.live


def test_aliases_hit_and_go_with_their_entry(store: Store, budget: Budget) -> None:
    entry = put(store, b"GET", b"a")
    before = budget.used_bytes
    raw = request([b"get", b"a"])
    store.alias(entry, raw, 0.0)
    store.alias(entry, raw, 0.0)
    store.alias(entry, entry.raw, 0.0)
    assert store.maps[3][raw] is entry
    assert len(store) == 2
    assert budget.used_bytes > before
    store.drop_key(b"a")
    assert len(store) == 0
    assert budget.used_bytes == 0


def test_aliases_are_few_and_only_of_live_entries(store: Store) -> None:
    entry = put(store, b"GET", b"a")
    for i in range(10):
        store.alias(entry, b"spelling %d" % i, 0.0)
    assert len(entry.aliases) == ALIASES_MAX
    store.drop(entry)
    store.alias(entry, b"more", 0.0)
    assert len(store) == 0


def test_a_key_drops_every_entry_that_depends_on_it(store: Store, budget: Budget) -> None:
    for words in ((b"GET", b"a"), (b"STRLEN", b"a"), (b"TYPE", b"a"), (b"GET", b"b")):
        put(store, *words)
    put(store, b"GET", b"a", resp=2)
    store.drop_key(b"a")
    assert b"a" not in store.by_key
    assert b"b" in store.by_key
    assert len(store) == budget.entries == 1
    store.drop_key(b"none")


def test_one_of_several_entries_of_a_key_goes_alone(store: Store) -> None:
    entries = [put(store, name, b"a") for name in (b"GET", b"STRLEN", b"TYPE")]
    for entry in entries[:2]:
        store.drop(entry)
        assert b"a" in store.by_key
    store.drop(entries[2])
    assert b"a" not in store.by_key


def test_drop_all(store: Store, budget: Budget) -> None:
    for i in range(20):
        put(store, b"GET", b"k%d" % (i // 2), resp=2 + i % 2)
    store.drop_all()
    assert len(store) == budget.entries == budget.used_bytes == 0


def test_eviction_takes_an_entry_out_of_every_index(insight: Insight) -> None:
    budget = Budget(3000)
    store = Store(budget, insight)
    for i in range(50):
        put(store, b"GET", b"k%d" % i)
        put(store, b"STRLEN", b"k%d" % i)
        assert budget.used_bytes <= 3000
    assert len(store) == budget.entries < 10


def test_hits_and_repeats_reach_the_insight_once(store: Store, insight: Insight) -> None:
    entry = put(store, b"GET", b"a")
    store.touch(entry, reader=1, now_s=1.0)
    store.touch(entry, reader=1, now_s=1.5)  # the same client within a second
    store.touch(entry, reader=2, now_s=1.6)
    store.touch(entry, reader=2, now_s=3.0)
    store.fold(entry)
    store.fold(entry)
    assert insight.local.top(1) == [(b"a", 4)]
    assert insight.repeated.top(1) == [(b"a", 1)]
    assert store.positive.hits == 4
    store.drop(entry)
    assert insight.local.top(1) == [(b"a", 4)]


def test_negative_hits_count_apart(store: Store, insight: Insight) -> None:
    entry = store.put(3, b"GET", value(b"GET", b"a", negative=True), 0.0)
    store.touch(entry, 1, 1.0)
    store.fold_all(10)
    assert store.negative.hits == 1
    assert store.positive.hits == 0
    assert insight.missing.top(1) == [(b"a", 1)]


def test_a_report_folds_a_bounded_number(store: Store, insight: Insight) -> None:
    for i in range(5):
        store.touch(put(store, b"GET", b"k%d" % i), 1, 1.0)
    store.fold_all(3)
    assert len(insight.local) == 3
